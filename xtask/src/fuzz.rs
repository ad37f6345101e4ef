//! Runs the fuzz targets of `fuzz/`, each for a bounded time.
//!
//! Never installs a compiler: it says what is missing.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::step::{Command, Steps};

/// Every target, one after another.
pub(crate) fn run_each(root: &Path, steps: &mut Steps, seconds: u32) -> anyhow::Result<()> {
    let probe = Command::new("cargo", root).args(&["+nightly", "fuzz", "--version"]);
    if !probe.succeeds() {
        bail!(
            "fuzzing needs a nightly compiler and cargo-fuzz; type:\n\n    rustup toolchain install nightly && cargo install cargo-fuzz --locked\n"
        );
    }
    let folder = root.join("fuzz/fuzz_targets");
    let mut targets: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be listed", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    targets.sort();
    for target in &targets {
        steps.run(&format!("fuzz {target}"), || run(root, target, seconds))?;
    }
    Ok(())
}

fn run(root: &Path, target: &str, seconds: u32) -> anyhow::Result<()> {
    let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
    std::fs::create_dir_all(root.join(&corpus))?;
    let mut command = Command::new("cargo", root).args(&["+nightly", "fuzz", "run", target, &corpus]);
    if root.join(&seeds).is_dir() {
        command = command.args(&[&seeds]);
    }
    // The pinned toolchain is handed down by the environment of the outer cargo and would win over `+nightly`.
    command
        .args(&["--", &format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=2048"])
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .run()
}
