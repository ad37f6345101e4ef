//! What the tests need besides Rust: Node.js, npm, their packages, Chromium, Redis, openssl, ip.
//!
//! Installs by name from the distribution when it may (as root); otherwise it says the exact command and fails.

use std::path::Path;

use anyhow::bail;

use crate::step::Command;

/// Oldest Node.js whose test runner the suite uses.
const NODE_MAJOR_MIN: u32 = 18;

/// Makes all of it present, or says what to type.
pub(crate) fn ensure(root: &Path) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    match node_major() {
        None => missing.extend(["nodejs", "npm"]),
        Some(major) if major < NODE_MAJOR_MIN => {
            bail!("Node.js {major} is too old for the end-to-end tests: install {NODE_MAJOR_MIN} or newer")
        }
        Some(_) if !Command::new("npm", root).args(&["--version"]).succeeds() => missing.push("npm"),
        Some(_) => {}
    }
    if chromium().is_err() {
        missing.push("chromium");
    }
    if !Command::new("redis-server", root).args(&["--version"]).succeeds() {
        missing.push("redis-server");
    }
    if !Command::new("openssl", root).args(&["version"]).succeeds() {
        missing.push("openssl");
    }
    if !Command::new("ip", root).args(&["-Version"]).succeeds() {
        missing.push("iproute2");
    }
    install(root, &missing)?;
    packages(&root.join("clients/js"))?;
    packages(&root.join("tests/e2e"))
}

/// Path of a Chromium: `CHROMIUM`, or the first found on the search path.
pub(crate) fn chromium() -> anyhow::Result<String> {
    if let Ok(path) = std::env::var("CHROMIUM") {
        return Ok(path);
    }
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    let search = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&search) {
        for name in names {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(path.display().to_string());
            }
        }
    }
    bail!("no Chromium is installed; name one by CHROMIUM=/path/to/chromium")
}

fn node_major() -> Option<u32> {
    let output = std::process::Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn install(root: &Path, missing: &[&str]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let has_apt = Command::new("apt-get", root).args(&["--version"]).succeeds();
    if !has_apt {
        bail!("the tests need {names}; install them with your system's package manager");
    }
    if !is_root() {
        bail!(
            "the tests need {names}; type:\n\n    sudo apt-get install --yes --no-install-recommends {names}\n"
        );
    }
    Command::new("apt-get", root).args(&["update", "--quiet"]).run()?;
    Command::new("apt-get", root)
        .args(&["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

fn is_root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The npm packages of the suite, as its lock file pins them; done once per lock file.
fn packages(folder: &Path) -> anyhow::Result<()> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let wanted = modified(&folder.join("package-lock.json"));
    let installed = modified(&folder.join("node_modules/.package-lock.json"));
    if wanted.is_some() && installed >= wanted {
        return Ok(());
    }
    Command::new("npm", folder).args(&["ci", "--no-audit", "--no-fund"]).run()
}
