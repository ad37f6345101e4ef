//! What a contributor and CI run: `cargo xtask ci|tidy|test|sim|nightly|fuzz-smoke`.
//!
//! Never part of the product, and never changes a file of the tree.

mod fuzz;
mod policy;
mod step;
mod stores;
mod tests_setup;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

use step::{Command, Steps};

/// Contributor commands of Greenroom.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// All that CI checks: format, clippy, tidy, dependency policy, documentation, tests, seeds.
    Ci,
    /// Arrows between crates, purity of the pure ones, sizes.
    Tidy,
    /// Sets up what the tests need and runs them all: unit, documentation and end-to-end.
    Test {
        /// Only end-to-end test files whose name contains this, and no others.
        #[arg(long, value_name = "PART")]
        e2e: Option<String>,
    },
    /// Licences, sources and bans of all dependencies, as deny.toml says.
    Policy,
    /// The simulated cluster: one seed, or the recorded ones, the first 200, and fresh ones where they are asked for.
    Sim {
        /// Replays this seed.
        #[arg(long)]
        seed: Option<u64>,
        /// How many fresh seeds to play after the others. `nightly` plays 10,000; CI plays none, so that no change is
        /// refused for what another one did.
        #[arg(long, default_value_t = 0)]
        fresh: u32,
    },
    /// Long runs: each fuzz target, the simulation, ten thousand connections that come and go, the backplane over newer stores, a thousand sessions through every fault, and a cluster of replicas under faults for ten minutes, and its upgrade from the version before.
    Nightly {
        /// Minutes for each fuzz target.
        #[arg(long, default_value_t = 20)]
        minutes: u32,
    },
    /// Each fuzz target for a short while.
    FuzzSmoke {
        /// Seconds for each target.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
}

/// The backplane with its way to Redis and its suite, which nobody else in the workspace switches on.
const BACKPLANE: [&str; 3] = ["--package", "greenroom-backplane", "--all-features"];

fn main() -> ExitCode {
    let args = Args::parse();
    let mut steps = Steps::default();
    let outcome = run(&args.task, &mut steps);
    steps.summary();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task, steps: &mut Steps) -> anyhow::Result<()> {
    let root = root();
    match task {
        Task::Ci => ci(&root, steps),
        Task::Tidy => steps.run("tidy", || tidy_tree(&root)),
        Task::Test { e2e: None } => test(&root, steps),
        Task::Test { e2e: Some(part) } => e2e(&root, steps, part),
        Task::Policy => steps.run("policy", || policy::check(&root)),
        Task::Sim { seed, fresh } => sim(&root, steps, *seed, *fresh),
        Task::Nightly { minutes } => {
            fuzz::run_each(&root, steps, minutes.saturating_mul(60))?;
            sim(&root, steps, None, 10_000)?;
            sim_day(&root, steps)?;
            soak(&root, steps)?;
            edge(&root, steps)?;
            stores::run_each(&root, &target_dir(&root)?, steps)?;
            recovery(&root, steps, "1000")?;
            replicas(&root, steps, "200")?;
            cluster(&root, steps, "600")?;
            upgrade(&root, steps)
        }
        Task::FuzzSmoke { seconds } => fuzz::run_each(&root, steps, *seconds),
    }
}

/// The workspace's folder: this package's parent.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask lies in the workspace").to_owned()
}

fn ci(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("format", || Command::cargo(root, &["fmt", "--all", "--check"]).run())?;
    steps.run("tidy", || tidy_tree(root))?;
    steps.run("policy", || policy::check(root))?;
    steps.run("clippy", || {
        let lint = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        Command::cargo(root, &lint).run()?;
        // The binary without what may be left out of it.
        let lean = ["clippy", "--package", "greenroom-cli", "--no-default-features", "--all-targets"];
        Command::cargo(root, &lean).args(&["--locked", "--", "-D", "warnings"]).run()?;
        let lint = ["--all-targets", "--locked", "--", "-D", "warnings"];
        Command::cargo(root, &["clippy"]).args(&BACKPLANE).args(&lint).run()
    })?;
    steps.run("documentation", || {
        Command::cargo(root, &["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()?;
        Command::cargo(root, &["doc", "--no-deps", "--locked"])
            .args(&BACKPLANE)
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    })?;
    // The simulation's seeds are among the tests.
    test(root, steps)
}

fn tidy_tree(root: &Path) -> anyhow::Result<()> {
    let faults = tidy::faults(root)?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} faults:\n{}", faults.len(), faults.join("\n"))
}

fn test(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("set up", || tests_setup::ensure(root))?;
    steps.run("build", || {
        Command::cargo(root, &["build", "--workspace", "--locked"]).run()?;
        Command::cargo(root, &["test", "--workspace", "--locked", "--no-run"]).run()
    })?;
    steps.run("tests", || {
        Command::cargo(root, &["test", "--workspace", "--locked"]).run()?;
        Command::cargo(root, &["test", "--locked"]).args(&BACKPLANE).run()
    })?;
    steps.run("client helper", || {
        Command::new("npm", &root.join("clients/js")).args(&["test", "--silent"]).run()
    })?;
    steps.run("end to end", || run_e2e(root, ""))
}

fn e2e(root: &Path, steps: &mut Steps, part: &str) -> anyhow::Result<()> {
    steps.run("set up", || tests_setup::ensure(root))?;
    steps.run("build", || {
        Command::cargo(root, &["build", "--workspace", "--locked"]).run()?;
        let echo = ["build", "--package", "greenroom-node", "--example", "echo", "--features", "redis"];
        Command::cargo(root, &echo).args(&["--locked"]).run()?;
        Command::new("npm", &root.join("clients/js")).args(&["run", "--silent", "build"]).run()
    })?;
    steps.run("end to end", || run_e2e(root, part))
}

/// The suite starts whole clusters on two cores, so its files run one after another.
fn run_e2e(root: &Path, part: &str) -> anyhow::Result<()> {
    let folder = root.join("tests/e2e");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be listed", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.mjs") && name.contains(part))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("no file of {} matches {part:?}", folder.display());
    }
    let built = target_dir(root)?.join("debug");
    // Each test has a deadline of its own; this one is for a file whose process would not end after its tests.
    let mut command =
        Command::new("node", &folder).args(&["--test", "--test-concurrency=1", "--test-timeout=1800000"]);
    for file in &files {
        command = command.args(&[file]);
    }
    command
        .env("GREENROOM_BIN", &built.join("greenroom").display().to_string())
        // `cargo test` builds examples too.
        .env("GREENROOM_ECHO_BIN", &built.join("examples").join("echo").display().to_string())
        .env("CHROMIUM", &tests_setup::chromium()?)
        .run()
}

/// Ten thousand connections of the relay that come and go: it fails when memory creeps.
fn soak(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("soak", || {
        Command::cargo(root, &["build", "--release", "--locked", "-p", "greenroom-bench"]).run()?;
        let run = ["run", "--release", "--locked", "-p", "greenroom-bench", "--"];
        Command::cargo(root, &run).args(&["--servers", "ours", "--scenarios", "soak", "--rounds", "1"]).run()
    })
}

/// Fifty servers come and fifty go while two thousand sockets pass through two edges.
fn edge(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("edge", || {
        Command::cargo(root, &["test", "--locked", "-p", "greenroom-edge", "--test", "membership"])
            .env("GREENROOM_EDGE_SERVERS", "50")
            .env("GREENROOM_EDGE_SOCKETS", "2000")
            .run()
    })
}

/// Every case of recovery with this many clients, beside the npm server, as a table.
fn recovery(root: &Path, steps: &mut Steps, clients: &str) -> anyhow::Result<()> {
    steps.run("set up", || tests_setup::ensure(root))?;
    steps.run("build", || {
        Command::cargo(root, &["build", "--release", "--locked", "-p", "greenroom-cli"]).run()
    })?;
    let binary = target_dir(root)?.join("release/greenroom");
    steps.run("recovery", || {
        Command::new("node", &root.join("tests/e2e"))
            .args(&["recovery/run.mjs", "--clients", clients])
            .env("GREENROOM_BIN", &binary.display().to_string())
            .run()
    })?;
    steps.run("recovery, all at once", || {
        Command::new("node", &root.join("tests/e2e"))
            .args(&["recovery/mixed.mjs", "--clients", clients])
            .env("GREENROOM_BIN", &binary.display().to_string())
            .run()
    })
}

/// The leader of three replicas dies so often, under calls.
fn replicas(root: &Path, steps: &mut Steps, kills: &str) -> anyhow::Result<()> {
    let binary = target_dir(root)?.join("release/greenroom");
    steps.run("replicas", || {
        Command::new("node", &root.join("tests/e2e"))
            .args(&["--test", "--test-name-pattern=again and again", "replicas.test.mjs"])
            .env("GREENROOM_BIN", &binary.display().to_string())
            .env("REPLICA_KILLS", kills)
            .run()
    })
}

/// Replicas, hosts and their store on machines of their own, under faults for so many seconds.
fn cluster(root: &Path, steps: &mut Steps, seconds: &str) -> anyhow::Result<()> {
    let binary = target_dir(root)?.join("release/greenroom");
    steps.run("cluster", || {
        Command::new("node", &root.join("tests/e2e"))
            .args(&["cluster/run.mjs", "--seconds", seconds])
            .env("GREENROOM_BIN", &binary.display().to_string())
            .run()
    })
}

/// A cluster of the version that `older.txt` names, built from its own sources, is exchanged for this one and back.
fn upgrade(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let (newer, older) = (target_dir(root)?.join("release/greenroom"), target_dir(root)?.join("older"));
    steps.run("older version", || {
        let named = root.join("tests/e2e/cluster/older.txt");
        let commit =
            std::fs::read_to_string(&named).with_context(|| format!("{} cannot be read", named.display()))?;
        let (source, archive) = (older.join("source"), older.join("source.tar").display().to_string());
        drop(std::fs::remove_dir_all(&source)); // of another commit, or not there
        std::fs::create_dir_all(&source).with_context(|| format!("{} cannot be made", source.display()))?;
        Command::new("git", root).args(&["archive", "--output", &archive, commit.trim()]).run()?;
        Command::new("tar", &source).args(&["--extract", "--file", &archive]).run()?;
        Command::cargo(&source, &["build", "--release", "--locked", "-p", "greenroom-cli"])
            .env("CARGO_TARGET_DIR", &older.display().to_string())
            .run()
    })?;
    steps.run("upgrade and way back", || {
        let binary = older.join("release/greenroom").display().to_string();
        Command::new("node", &root.join("tests/e2e"))
            .args(&["cluster/run.mjs", "--older", &binary])
            .env("GREENROOM_BIN", &newer.display().to_string())
            .run()
    })
}

/// One seed, or the recorded ones, the first ones and then so many fresh ones.
fn sim(root: &Path, steps: &mut Steps, seed: Option<u64>, fresh: u32) -> anyhow::Result<()> {
    let play = |args: &[&str]| {
        let run = ["run", "--quiet", "--locked", "--package", "greenroom-sim", "--"];
        Command::cargo(root, &run).args(args).run()
    };
    steps.run("simulation", || match seed {
        Some(seed) => play(&["--seed", &seed.to_string()]),
        None => {
            play(&["--seeds"])?;
            play(&["--first", "200"])?;
            if fresh > 0 { play(&["--count", &fresh.to_string()]) } else { Ok(()) }
        }
    })
}

/// 24 hours of noisy load, simulated, and ten on servers that leak.
fn sim_day(root: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let run = ["run", "--quiet", "--locked", "--release", "--package", "greenroom-sim", "--"];
    steps.run("simulated day", || {
        Command::cargo(root, &run).args(&["--day"]).run()?;
        Command::cargo(root, &run).args(&["--leaky"]).run()
    })
}

fn target_dir(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}
