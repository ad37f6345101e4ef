//! Every dependency of the workspace has its reason in ARCHITECTURE.md, and every reason its dependency.
//!
//! Never judges the reason; licences and sources are the policy's.

use std::path::Path;

use anyhow::Context as _;

/// The heading of the section that is checked.
const SECTION: &str = "## Dependencies, each with its reason";

pub(super) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let manifest: toml::Table = read("Cargo.toml")?.parse().context("Cargo.toml")?;
    let page = read("ARCHITECTURE.md")?;
    let table = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let names = table.and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    let names: Vec<&str> = names.map(String::as_str).filter(|name| !name.starts_with("greenroom-")).collect();
    Ok(judge(&names, &page))
}

fn judge(names: &[&str], page: &str) -> Vec<String> {
    let section = page.split_once(SECTION).map_or("", |(_, section)| section);
    let section = section.split("\n## ").next().unwrap_or_default();
    // Names stand in the first column, in backticks.
    let cells = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let told: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let untold = names.iter().filter(|name| !told.contains(name)).map(|name| {
        format!("ARCHITECTURE.md: dependency {name} has no line in \"{SECTION}\"; say why it is there")
    });
    let stale = told.iter().filter(|name| !names.contains(name)).map(|name| {
        format!("ARCHITECTURE.md: {name} is no dependency of Cargo.toml any more; remove its line")
    });
    untold.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_and_a_reason_without_one_are_told() {
        let page =
            format!("| `elsewhere` | x |\n{SECTION}\n\n| `a`, `b` | why `not this` |\n## Next\n| `c` | x |");
        assert!(judge(&["a", "b"], &page).is_empty());
        let faults = judge(&["a", "c"], &page);
        assert!(faults.len() == 2 && faults[0].contains(" c ") && faults[1].contains(" b "), "{faults:?}");
        assert_eq!(judge(&["a"], "no such section").len(), 1);
    }
}
