//! The data folder of `dev`: who uses it now, what an earlier run left in it, where logs go.
//!
//! Never writes outside of it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::processes::{self, Found};
use crate::failure::Failure;
use crate::print;

/// An open data folder. While it is open no other `dev` can open it: the lock ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    /// Gives the lock back even where a child that another thread is about to start still has the file open.
    fn drop(&mut self) {
        // One that fails is given back by the end of this process.
        let _kept = self.lock.unlock();
    }
}

/// `dev.json`: who runs here.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// What the run was about; another one cannot go on with its servers.
    fingerprint: String,
    dev: Process,
    control: Option<Process>,
    agent: Option<Process>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Process {
    pid: u32,
    started_at_s: u64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started_at_s: processes::started_at_s(pid)? })
    }
}

impl Folder {
    /// Takes the folder, or tells who has it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let path = super::absolute(path)?;
        let unusable = |error: std::io::Error| {
            Failure::new(
                format!("cannot use {}: {error}", path.display()),
                "Name another folder with --data-dir.",
            )
        };
        for part in ["control", "agent", "logs"] {
            std::fs::create_dir_all(path.join(part)).map_err(unusable)?;
        }
        // So that a parent repository does not see it: everything in here can be made again.
        std::fs::write(path.join(".gitignore"), "*\n").map_err(unusable)?;
        let lock = File::create(path.join("dev.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(&path)),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// The folder, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The log file of a part.
    pub(super) fn log(&self, part: &str) -> PathBuf {
        self.path.join("logs").join(format!("{part}.log"))
    }

    /// Writes down who runs here; replaced whole, so that a reader never sees half of it.
    pub(super) fn record(
        &self,
        fingerprint: &str,
        control: Option<u32>,
        agent: Option<u32>,
    ) -> Result<(), Failure> {
        let own = std::process::id();
        let record = Record {
            version: 1,
            fingerprint: fingerprint.to_owned(),
            dev: Process::of(own).unwrap_or(Process { pid: own, started_at_s: 0 }),
            control: control.and_then(Process::of),
            agent: agent.and_then(Process::of),
        };
        let text = serde_json::to_vec_pretty(&record).expect("plain numbers and texts always encode");
        let (file, next) = (self.path.join("dev.json"), self.path.join("dev.json.next"));
        std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, &file)).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", file.display()), "Is the disk full?")
        })
    }

    /// Clears what a `dev` left that was killed. Its game servers go on and are adopted when this run is about the
    /// same fleets at the same address; otherwise they are stopped.
    pub(super) async fn clear_stale(&self, fingerprint: &str) -> Result<(), Failure> {
        let record = read(&self.path);
        let (controls, agents) =
            (processes::parts("control", &self.path), processes::parts("agent", &self.path));
        if record.is_none() && controls.is_empty() && agents.is_empty() {
            return Ok(());
        }
        let same = record.is_some_and(|record| record.fingerprint == fingerprint);
        print::line(format!(
            "an earlier dev in this folder was killed; {}",
            if same {
                "its game servers go on"
            } else {
                "it ran something else, so its game servers are stopped"
            }
        ));
        // An agent that is killed leaves its servers running for the next one; one that is asked to end stops them.
        let agent_signal = if same { Signal::KILL } else { Signal::TERM };
        self.end("agent", &agents, agent_signal, Duration::from_secs(15)).await;
        self.end("control", &controls, Signal::TERM, Duration::from_secs(3)).await;
        if !same {
            self.kill_servers().await?;
        }
        Ok(())
    }

    async fn end(&self, part: &str, found: &[Found], signal: Signal, within: Duration) {
        for process in found {
            processes::send(process.pid, signal);
        }
        for process in processes::until_none(within, || processes::parts(part, &self.path)).await {
            processes::send(process.pid, Signal::KILL);
        }
        processes::until_none(Duration::from_secs(2), || processes::parts(part, &self.path)).await;
    }

    /// Kills every game server that the agent's journal accounts for, and forgets the journal then. Gives how many.
    pub(super) async fn kill_servers(&self) -> Result<usize, Failure> {
        let journal = self.path.join("agent").join("journal.json");
        let Some(link_port) = link_port(&journal) else { return Ok(0) };
        let found = processes::servers_of_link(link_port);
        for process in &found {
            processes::send(process.pid, Signal::KILL);
        }
        let left =
            processes::until_none(Duration::from_secs(5), || processes::servers_of_link(link_port)).await;
        if let Some(process) = left.first() {
            return Err(Failure::new(
                format!("game server process {} does not end", process.pid),
                format!("Look at it with: ps -p {}", process.pid),
            ));
        }
        if !found.is_empty() {
            // The next agent would look for servers that are gone, and start them again.
            let _absent = std::fs::remove_file(&journal);
        }
        Ok(found.len())
    }

    /// Nobody runs here any more.
    pub(super) fn forget(&self) {
        let _absent = std::fs::remove_file(self.path.join("dev.json"));
    }
}

fn in_use(path: &Path) -> Failure {
    let who = read(path).map_or_else(
        || "another greenroom dev".to_owned(),
        |record| format!("greenroom dev with pid {}", record.dev.pid),
    );
    Failure::new(
        format!("{who} runs in {} already", path.display()),
        "Stop it with Ctrl-C in its terminal, or run this one beside it with --data-dir and --port.",
    )
}

fn read(path: &Path) -> Option<Record> {
    let text = std::fs::read(path.join("dev.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Where the servers of this agent look for it. The journal is the agent's; only this field of it is read.
fn link_port(journal: &Path) -> Option<u16> {
    let text = std::fs::read(journal).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    value.get("link_port")?.as_u64().and_then(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process_of(folder: &Path) -> u32 {
        let record = read(folder).expect("a record is there");
        record.dev.pid
    }

    #[tokio::test]
    async fn a_folder_in_use_is_refused_and_its_user_named() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("data");
        let first = Folder::open(&path).expect("nobody has it");
        first.record("x", None, None).expect("it can be written");
        assert_eq!(process_of(&path), std::process::id());
        let refused = Folder::open(&path).expect_err("the first one has it").to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        first.forget();
        // As a child has it for the moment between fork and exec.
        let with_a_child = first.lock.try_clone().expect("a handle more");
        drop(first);
        let again = Folder::open(&path).expect("the lock went with its owner");
        drop(with_a_child);
        assert!(Folder::open(&path).is_err(), "it is the second one's now");
        again.clear_stale("x").await.expect("nothing to clear");
        let names: Vec<_> = std::fs::read_dir(parent.path()).expect("listable").collect();
        assert_eq!(names.len(), 1, "nothing beside the folder");
    }

    #[tokio::test]
    async fn servers_of_a_dead_agent_are_found_by_their_link_and_killed() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(parent.path()).expect("nobody has it");
        // A port that no agent of this machine uses as its link: a listener of this test holds it.
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = held.local_addr().expect("bound").port();
        let journal = parent.path().join("agent").join("journal.json");
        std::fs::write(&journal, format!("{{\"link_port\": {port}}}")).expect("writable");
        let mut server = std::process::Command::new("sleep")
            .arg("60")
            .env(greenroom_wire::link::env::LINK, format!("127.0.0.1:{port}"))
            .spawn()
            .expect("sleep is everywhere");
        let reaper = std::thread::spawn(move || server.wait());
        assert_eq!(folder.kill_servers().await.expect("it ends"), 1);
        assert!(!reaper.join().expect("joined").expect("ended").success());
        assert!(!journal.exists(), "the next agent finds nothing to adopt");
        assert_eq!(folder.kill_servers().await.expect("nothing left"), 0);
    }
}
