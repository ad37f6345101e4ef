//! Looks for changed files, so that the fleets they belong to can be restarted.
//!
//! Never restarts anything, and never reads a file: times and lengths tell enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use greenroom_core::FleetName;
use tokio::time::Instant;

/// Time between two looks. A change is told at the first look that finds nothing new after it.
const PERIOD: Duration = Duration::from_millis(300);
/// Most files looked at for one fleet.
const FILES_MAX: usize = 5_000;
/// Folders in which nobody writes by hand; besides them all whose name begins with a dot.
const IGNORED: [&str; 3] = ["node_modules", "target", "__pycache__"];

/// All watched fleets.
#[derive(Debug)]
pub(super) struct Watch {
    fleets: Vec<Watched>,
    next_at: Instant,
}

/// A fleet whose files have changed and now rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) fleet: FleetName,
    /// One of the files.
    pub(super) file: PathBuf,
}

#[derive(Debug)]
struct Watched {
    fleet: FleetName,
    paths: Vec<PathBuf>,
    seen: Files,
    /// A changed file that was not told yet: more may follow.
    pending: Option<PathBuf>,
}

/// When each file was written last, and its length.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl Watch {
    /// Begins with the files as they are now.
    pub(super) fn new(fleets: &BTreeMap<FleetName, Vec<PathBuf>>) -> Self {
        let watched = |(fleet, paths): (&FleetName, &Vec<PathBuf>)| Watched {
            fleet: fleet.clone(),
            paths: paths.clone(),
            seen: files(paths),
            pending: None,
        };
        Self { fleets: fleets.iter().map(watched).collect(), next_at: Instant::now() + PERIOD }
    }

    /// What is worth a word at the start: paths that are not there, and too many files.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for watched in &self.fleets {
            for path in watched.paths.iter().filter(|path| !path.exists()) {
                doubts.push(format!(
                    "fleet {}: {} in watch does not exist yet",
                    watched.fleet,
                    path.display()
                ));
            }
            if watched.seen.len() >= FILES_MAX {
                doubts
                    .push(format!("fleet {}: only {FILES_MAX} files of watch are looked at", watched.fleet));
            }
        }
        doubts
    }

    /// When to look next; never when nothing is watched.
    pub(super) async fn next_look(&self) {
        if self.fleets.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.next_at).await;
    }

    /// Looks, and gives the fleets whose files have changed and rest since the look before.
    pub(super) fn look(&mut self) -> Vec<Changed> {
        self.next_at = Instant::now() + PERIOD;
        let mut changed = Vec::new();
        for watched in &mut self.fleets {
            let now = files(&watched.paths);
            if let Some(file) = difference(&watched.seen, &now) {
                watched.pending = Some(file);
                watched.seen = now;
            } else if let Some(file) = watched.pending.take() {
                changed.push(Changed { fleet: watched.fleet.clone(), file });
            }
        }
        changed
    }
}

/// One file that is new, gone or written since.
fn difference(before: &Files, now: &Files) -> Option<PathBuf> {
    let written = now.iter().find(|(file, stamp)| before.get(*file) != Some(stamp));
    let gone = || before.iter().find(|(file, _)| !now.contains_key(*file));
    written.or_else(gone).map(|(file, _)| file.clone())
}

fn files(paths: &[PathBuf]) -> Files {
    let mut files = Files::new();
    for path in paths {
        collect(path, &mut files);
    }
    files
}

fn collect(path: &Path, files: &mut Files) {
    // What vanishes between two looks is gone; a loop of links ends at the bound of the system.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if files.len() >= FILES_MAX {
        return;
    }
    if !metadata.is_dir() {
        files.insert(path.to_owned(), (metadata.modified().ok(), metadata.len()));
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !IGNORED.contains(&name.as_ref()) {
            collect(&entry.path(), files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(watch: &mut Watch) -> Vec<String> {
        watch.look().into_iter().map(|changed| changed.file.display().to_string()).collect()
    }

    #[tokio::test]
    async fn a_change_is_told_once_when_the_files_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        for inner in ["src/deep", "src/node_modules", "src/.git"] {
            std::fs::create_dir_all(file(inner)).expect("a folder");
        }
        std::fs::write(file("server.js"), "1").expect("written");
        std::fs::write(file("src/deep/a.js"), "1").expect("written");
        let fleet: FleetName = "game".parse().expect("a name");
        let paths = vec![file("server.js"), file("src"), file("later.js")];
        let mut watch = Watch::new(&BTreeMap::from([(fleet, paths)]));
        assert_eq!(watch.doubts().len(), 1, "one path is not there yet");
        let none: [String; 0] = [];
        assert_eq!(changed(&mut watch), none);

        let steps: [(&str, &str, bool); 6] = [
            ("server.js", "12", true),
            ("src/deep/a.js", "12", true),
            ("src/deep/new.js", "1", true),
            ("later.js", "1", true),
            ("src/node_modules/x.js", "1", false),
            ("src/.git/index", "1", false),
        ];
        for (name, text, told) in steps {
            std::fs::write(file(name), text).expect("written");
            assert_eq!(changed(&mut watch), none, "{name}: it may still be written");
            let expected: Vec<String> = told.then(|| file(name).display().to_string()).into_iter().collect();
            assert_eq!(changed(&mut watch), expected, "{name}");
            assert_eq!(changed(&mut watch), none, "{name}: told once");
        }
        std::fs::remove_file(file("server.js")).expect("removed");
        assert_eq!(changed(&mut watch), none);
        assert_eq!(changed(&mut watch), [file("server.js").display().to_string()]);
    }
}
