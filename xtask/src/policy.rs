//! Dependency policy: which licences, sources and packages are allowed, as `deny.toml` says.
//!
//! Uses cargo-deny where it is installed; otherwise checks the same three lists itself from `cargo metadata`, which
//! leaves out only the advisory database (it would need the network).

use std::path::Path;

use anyhow::{Context as _, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::step::Command;

/// Fails with every package that breaks the policy.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    if Command::new("cargo", root).args(&["deny", "--version"]).succeeds() {
        return Command::new("cargo", root).args(&["deny", "check", "licenses", "bans", "sources"]).run();
    }
    println!("    cargo-deny is not installed; reading deny.toml without it");
    let policy = Policy::read(&root.join("deny.toml"))?;
    let metadata =
        MetadataCommand::new().current_dir(root).other_options(vec!["--locked".to_owned()]).exec()?;
    let faults = policy.faults(&metadata);
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}

struct Policy {
    licences: Vec<String>,
    registries: Vec<String>,
    denied: Vec<String>,
}

impl Policy {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let list = |section: &str, key: &str| -> Vec<String> {
            let values =
                table.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
            let name = |value: &toml::Value| {
                value.as_str().or_else(|| value.get("crate")?.as_str()).map(str::to_owned)
            };
            values.into_iter().flatten().filter_map(name).collect()
        };
        Ok(Self {
            licences: list("licenses", "allow"),
            registries: list("sources", "allow-registry"),
            denied: list("bans", "deny"),
        })
    }

    fn faults(&self, metadata: &Metadata) -> Vec<String> {
        let mut faults = Vec::new();
        for package in &metadata.packages {
            let name = format!("{} {}", package.name, package.version);
            if self.denied.iter().any(|denied| *denied == *package.name) {
                faults.push(format!("{name} is denied by deny.toml"));
            }
            let Some(source) = &package.source else { continue };
            let source = source.repr.trim_start_matches("registry+").trim_start_matches("sparse+");
            if !self.registries.iter().any(|allowed| allowed == source) {
                faults.push(format!("{name} comes from {source}, which deny.toml does not allow"));
            }
            match &package.license {
                Some(licence) if satisfied(licence, &self.licences) => {}
                Some(licence) => {
                    faults.push(format!("{name} is licensed as {licence}, which deny.toml does not allow"));
                }
                None => faults.push(format!("{name} names no licence")),
            }
        }
        faults
    }
}

/// Whether the SPDX expression can be satisfied with the allowed licences.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    // Old manifests separate alternatives by a slash.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let holds = any(&words, &mut at, allowed);
    holds && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut holds = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        holds |= all(words, at, allowed);
    }
    holds
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut holds = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        holds &= one(words, at, allowed);
    }
    holds
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let holds = any(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return holds && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed.contains(&format!("{word} WITH {exception}"));
    }
    allowed.iter().any(|licence| licence == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_expression_is_judged_as_written() {
        let allowed =
            ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let cases = [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
            ("GPL-2.0-only OR MIT AND ISC", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0-only WITH Classpath-exception-2.0", false),
            ("(MIT", false),
            ("MIT ISC", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression:?}");
        }
    }
}
