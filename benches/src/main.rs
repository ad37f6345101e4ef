//! The comparison: starts each server in turn, one core for it and one for the load, and prints medians and ratios.
//! Never asserts a time: a machine that is busy elsewhere must not break a build.

mod kernel;
mod mesh;
mod peer;
mod scenario;
mod secure;
mod swarm;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use crate::peer::Subject;
use crate::scenario::{Payload, Scenario};
use crate::secure::Secure;
use crate::table::Table;

/// Measures the relay beside its peers. Build with --release first; see docs/performance.md.
#[derive(Debug, Parser)]
struct Arguments {
    /// Servers: ours, ours-5ms, ours-20ms (flushed every so often), ours-recovery, ours-tls, npm, socketioxide.
    #[arg(long, value_delimiter = ',', default_value = "ours,npm,socketioxide")]
    servers: Vec<String>,
    /// Scenarios: idle, idle-full, echo, rooms4, rooms4-binary, rooms20, rooms20-full, burst, storm, soak.
    /// Of our own nodes alone, with a Redis: recover-N (clients), cross-N (broadcasts in flight), alone-N (no Redis).
    #[arg(long, value_delimiter = ',', default_value = "idle,echo,rooms4,rooms20,burst,storm")]
    scenarios: Vec<String>,
    /// How often each is measured; the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measured load.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Seconds for which idle connections are watched; 26 spans a whole ping interval, 0 leaves it out.
    #[arg(long, default_value_t = 0)]
    idle_seconds: u64,
    /// The folder with the npm server; `npm ci` must have run there.
    #[arg(long, default_value = "benches/npm")]
    npm: PathBuf,
    /// The program built in benches/socketioxide-relay.
    #[arg(long, default_value = "benches/socketioxide-relay/target/release/socketioxide-relay")]
    socketioxide: PathBuf,
    /// The `greenroom` that has the relay with a Redis; by default the one beside this program.
    #[arg(long)]
    greenroom: Option<PathBuf>,
    /// Also writes every run's figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn subject(arguments: &Arguments, name: &str) -> anyhow::Result<Subject> {
    let ours = || -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(own.parent().context("a program lies in a folder")?.join("relay"))
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (command, after): (_, Vec<String>) = match name {
        "ours" | "ours-tls" => (vec![ours()?], vec![]),
        "ours-5ms" => (vec![ours()?], words(&["5"])),
        "ours-20ms" => (vec![ours()?], words(&["20"])),
        "ours-recovery" => (vec![ours()?], words(&["--recovery", "2m"])),
        "npm" => (vec!["node".into(), arguments.npm.join("relay.mjs")], vec![]),
        "socketioxide" => (vec![arguments.socketioxide.clone()], vec![]),
        _ => anyhow::bail!("there is no server {name:?}"),
    };
    let secure = if name == "ours-tls" { Some(Arc::new(Secure::new()?)) } else { None };
    Ok(Subject { name: name.to_owned(), command, arguments: after, core: 0, secure })
}

fn scenario(arguments: &Arguments, name: &str) -> anyhow::Result<Scenario> {
    let rest = Duration::from_secs(arguments.idle_seconds);
    Ok(match name {
        "idle" => Scenario::Idle { connections: 10_000, rest },
        "idle-full" => Scenario::Idle { connections: 19_900, rest },
        "echo" => Scenario::Echo { connections: 100 },
        "rooms4" => Scenario::Rooms { rooms: 100, players: 4, payload: Payload::Json },
        "rooms4-binary" => Scenario::Rooms { rooms: 100, players: 4, payload: Payload::Binary },
        "rooms20" => Scenario::Rooms { rooms: 10, players: 20, payload: Payload::Json },
        "rooms20-full" => Scenario::Rooms { rooms: 50, players: 20, payload: Payload::Json },
        "burst" => Scenario::Burst { connections: 1_000, in_flight: 16 },
        "storm" => Scenario::Storm { connections: 10_000 },
        "soak" => Scenario::Soak { connections: 10_000 },
        _ => {
            let of = |prefix: &str| name.strip_prefix(prefix).and_then(|number| number.parse().ok());
            match (of("recover-"), of("cross-"), of("alone-")) {
                (Some(connections), ..) => Scenario::Recover { connections },
                (_, Some(in_flight), _) => Scenario::Cross { in_flight, is_shared: true },
                (.., Some(in_flight)) => Scenario::Cross { in_flight, is_shared: false },
                (None, None, None) => anyhow::bail!("there is no scenario {name:?}"),
            }
        }
    })
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let subjects: Vec<Subject> =
        arguments.servers.iter().map(|name| subject(&arguments, name)).collect::<anyhow::Result<_>>()?;
    let scenarios: Vec<Scenario> =
        arguments.scenarios.iter().map(|name| scenario(&arguments, name)).collect::<anyhow::Result<_>>()?;
    peer::pin(1)?;
    let greenroom = match &arguments.greenroom {
        Some(greenroom) => greenroom.clone(),
        None => std::env::current_exe()?.with_file_name("greenroom"),
    };
    let (mut table, mut failed) = (Table::default(), 0);
    for round in 0..arguments.rounds {
        for scenario in &scenarios {
            // Whoever comes first has the cooler machine: the order turns.
            for place in 0..subjects.len() {
                let subject = &subjects[(place + round) % subjects.len()];
                match scenario.run(subject, &greenroom, Duration::from_secs(arguments.seconds)) {
                    Ok(figures) => table.add(&scenario.name(), &subject.name, &figures),
                    Err(error) => {
                        failed += 1;
                        eprintln!("{}, {}: {error:#}", scenario.name(), subject.name);
                    }
                }
            }
        }
    }
    print!("{}", table.render(&arguments.servers));
    if let Some(path) = &arguments.json {
        std::fs::write(path, table.to_json())?;
    }
    anyhow::ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}
