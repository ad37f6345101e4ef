//! Processes of this machine that belong to one data folder: parts by their arguments, servers by their link.
//!
//! Never trusts a pid from a file: what is ended was recognised a moment before by what it runs.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sysinfo::{Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

/// A process that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pid: u32,
    /// Unix seconds.
    pub(super) started_at_s: u64,
}

/// Control planes or agents (`part`) that run with their files in `folder`.
pub(super) fn parts(part: &str, folder: &Path) -> Vec<Found> {
    matching(|process| {
        let words = process.cmd();
        let runs_part = words.get(1).is_some_and(|word| word == part);
        let at = words.iter().position(|word| word == "--data-dir");
        runs_part && at.and_then(|at| words.get(at + 1)).is_some_and(|word| Path::new(word) == folder)
    })
}

/// Game servers, and all they started, that were given this agent's link.
pub(super) fn servers_of_link(link_port: u16) -> Vec<Found> {
    let wanted = format!("{}=127.0.0.1:{link_port}", greenroom_wire::link::env::LINK);
    let own = std::process::id();
    matching(|process| {
        process.pid().as_u32() != own
            && process.environ().iter().any(|word| word.as_os_str() == OsStr::new(&wanted))
    })
}

/// When a process started, if it runs.
pub(super) fn started_at_s(pid: u32) -> Option<u64> {
    matching(|process| process.pid().as_u32() == pid).first().map(|found| found.started_at_s)
}

fn matching(wanted: impl Fn(&Process) -> bool) -> Vec<Found> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let what = ProcessRefreshKind::nothing()
        .with_cmd(UpdateKind::Always)
        .with_environ(UpdateKind::Always)
        .without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let mut found: Vec<Found> = system
        .processes()
        .values()
        .filter(|process| process.thread_kind().is_none())
        .filter(|process| !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead))
        .filter(|process| wanted(process))
        .map(|process| Found { pid: process.pid().as_u32(), started_at_s: process.start_time() })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// Signals one process; one that is gone already is fine.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The only failures are a process that is gone and one that is not ours; both end in what is looked at next.
        let _gone_or_foreign = rustix::process::kill_process(pid, signal);
    }
}

/// Waits until `look` finds nothing any more, or `within` has passed; gives what is left.
pub(super) async fn until_none(within: Duration, mut look: impl FnMut() -> Vec<Found>) -> Vec<Found> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        let left = look();
        if left.is_empty() || tokio::time::Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
