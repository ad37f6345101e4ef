//! House rules that no compiler checks: arrows between crates, dependencies, purity, sizes, first lines.
//!
//! Never mends anything: it says what is wrong, where, and what is wanted.

mod arrows;
mod dependencies;
mod source;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Every fault of the tree, in the order of its paths.
pub(crate) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = arrows::faults(root)?;
    faults.extend(dependencies::faults(root)?);
    for top in ["benches", "crates", "examples", "xtask", "fuzz", "tests", "dashboard"] {
        for path in files(&root.join(top))? {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            faults.extend(source::faults(&shown, &text));
        }
    }
    Ok(faults)
}

/// Hand-written sources under `folder`, without what was built or installed there.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let built = ["target", "node_modules", "artifacts", "corpus"].contains(&name.as_str());
            if path.is_dir() && !built && !name.starts_with('.') {
                folders.push(path);
            } else if ["rs", "js", "mjs", "css", "html"].iter().any(|end| name.ends_with(&format!(".{end}")))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let faults = super::faults(&crate::root()).expect("the tree can be read");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
