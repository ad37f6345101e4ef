//! The plain npm Socket.IO server of comparisons: put in place, installed and started.
//!
//! Never used but by name: a run goes to it only when it is told to.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::failure::Failure;

/// Its files, as they are put in place.
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../../npm/package.json")),
    ("package-lock.json", include_str!("../../../npm/package-lock.json")),
    ("server.mjs", include_str!("../../../npm/server.mjs")),
];
/// Written when the packages of this very list are there.
const INSTALLED: &str = "installed.json";
const INSTALL_WITHIN: Duration = Duration::from_secs(180);
const START_WITHIN: Duration = Duration::from_secs(20);

/// Puts the server into `folder`, installs what it needs once, and starts it. Gives it with its address.
pub(super) async fn start(folder: &Path, match_players: u16) -> Result<(Child, String), Failure> {
    let broken = |error: std::io::Error| {
        Failure::new(format!("cannot prepare the npm server in {}: {error}", folder.display()), "")
    };
    std::fs::create_dir_all(folder).map_err(broken)?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).map_err(broken)?;
    }
    let lock = FILES[1].1;
    let installed = folder.join(INSTALLED);
    if std::fs::read_to_string(&installed).ok().as_deref() != Some(lock) {
        install(folder).await?;
        std::fs::write(&installed, lock).map_err(broken)?;
    }
    let mut child = Command::new("node")
        .arg("server.mjs")
        .current_dir(folder)
        .env("MATCH_PLAYERS", match_players.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| missing("node", &error))?;
    let out = child.stdout.take().expect("its output is a pipe");
    let mut lines = BufReader::new(out).lines();
    let first = timeout(START_WITHIN, lines.next_line()).await;
    let port = match first {
        Ok(Ok(Some(line))) => line.strip_prefix("listening ").and_then(|port| port.parse::<u16>().ok()),
        Ok(Ok(None) | Err(_)) | Err(_) => None,
    };
    let port = port.ok_or_else(|| {
        Failure::new("the npm server did not tell where it listens", "What it said is above.")
    })?;
    Ok((child, format!("http://127.0.0.1:{port}")))
}

async fn install(folder: &Path) -> Result<(), Failure> {
    eprintln!("installing the npm server's packages into {}", folder.display());
    let run = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = timeout(INSTALL_WITHIN, run).await.map_err(|_| {
        let what = format!("npm ci took longer than {} s", INSTALL_WITHIN.as_secs());
        Failure::new(what, format!("Run it by hand in {}.", folder.display()))
    })?;
    let done = done.map_err(|error| missing("npm", &error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let what = format!("npm ci ended with {}: {}", done.status, said.trim());
    Err(Failure::new(what, format!("Run it by hand in {}.", folder.display())))
}

fn missing(program: &str, error: &std::io::Error) -> Failure {
    let what = format!("--target npm needs {program}, which cannot be started: {error}");
    Failure::new(what, "Install Node.js 20 or later with npm, and try again.")
}
