//! Which crate may know which: arrows point down one list.
//!
//! Never looks into sources; `cargo metadata` says who depends on whom.

use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand};

/// Top to bottom. A crate may depend on those of lower rows, never on its own row or a higher one.
const ROWS: [&[&str]; 8] = [
    &["greenroom-bench", "greenroom-cli"],
    &["greenroom-sim"],
    &["greenroom-examples"],
    &["greenroom-control", "greenroom-ecs", "greenroom-edge", "greenroom-kubernetes", "greenroom-load"],
    &["greenroom-agent", "greenroom-node", "greenroom-client"],
    &["greenroom-backplane", "greenroom-store", "greenroom-provider", "greenroom-tls"],
    &["greenroom-redis", "greenroom-wire"],
    &["greenroom-core", "greenroom-socketio", "greenroom-room"],
];

/// What a pure crate may not even be able to call.
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "futures",
    "futures-util",
    "getrandom",
    "reqwest",
    "hyper",
    "axum",
    "redb",
    "rustix",
];

pub(super) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(judge(&metadata))
}

fn judge(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if name == "xtask" {
            continue;
        }
        let Some(own) = row(name) else {
            faults.push(format!(
                "{name}: has no row in the list of arrows; put it there and into ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            if own == ROWS.len() - 1 && IMPURE.contains(&other) {
                faults.push(format!("{name}: is pure and may not depend on {other}"));
            }
            if let Some(row) = row(other)
                && row <= own
            {
                faults.push(format!("{name}: depends on {other}, which is not below it"));
            }
        }
    }
    faults
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}
