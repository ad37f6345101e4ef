//! The machine's process table: who is alive, since when, and with which instance id.
//!
//! Never trusts a pid alone: pids are used again, so the start time goes with it.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_core::InstanceId;
use rustix::process::{Pid, Signal};
use sysinfo::{Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use crate::{Handle, INSTANCE_ENV};

/// Start times are told in whole seconds, rounded in more than one place.
const START_TOLERANCE_S: u64 = 2;
/// Times that a process without an environment is looked at again, and the time between two: far longer than a program
/// takes to be put in place, far shorter than anybody waits for an adoption.
const EXEC_LOOKS_MAX: u32 = 10;
const EXEC_PAUSE: Duration = Duration::from_millis(5);

/// One process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// See [`started_s`].
    pub(super) started_s: u64,
}

impl Identity {
    pub(super) fn handle(self) -> Handle {
        Handle::from_text(format!("process:{}:{}", self.pid, self.started_s))
    }

    pub(super) fn parse(handle: &Handle) -> Option<Self> {
        let (pid, started) = handle.as_str().strip_prefix("process:")?.split_once(':')?;
        let identity = Self { pid: pid.parse().ok()?, started_s: started.parse().ok()? };
        // Group 0 and 1 would be our own and everybody's.
        (identity.pid > 1).then_some(identity)
    }

    pub(super) const fn is_same(self, other: Self) -> bool {
        self.pid == other.pid && self.started_s.abs_diff(other.started_s) <= START_TOLERANCE_S
    }
}

/// When the process started, in seconds; `None` when there is no such process.
pub(super) fn started_s(pid: u32) -> Option<u64> {
    look(pid, started).flatten()
}

/// Seconds since boot on Linux, where the Unix time of a start moves whenever the clock is set; Unix seconds elsewhere.
fn started(process: &Process) -> Option<u64> {
    let since = if cfg!(target_os = "linux") { System::boot_time().ok()? } else { 0 };
    Some(process.start_time().saturating_sub(since))
}

/// Whether the pid belongs to another process by now.
pub(super) fn is_other(identity: Identity) -> bool {
    started_s(identity.pid).is_some_and(|started_s| !identity.is_same(Identity { started_s, ..identity }))
}

/// Whether this very process runs. A zombie does not run: it waits for a parent that may never come. When the table
/// cannot be read (no free file descriptor, say) whatever has this pid counts as alive.
pub(super) fn is_alive(identity: Identity) -> bool {
    let Some(pid) = to_pid(identity.pid) else { return false };
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    let same = |process: &Process| {
        started(process).is_none_or(|started_s| identity.is_same(Identity { started_s, ..identity }))
    };
    look(identity.pid, |process| runs(process) && same(process)).unwrap_or(true)
}

/// All running processes that carry this instance id: the one that was started and its descendants.
pub(super) fn processes_of(instance: &InstanceId) -> Vec<Identity> {
    let wanted = format!("{INSTANCE_ENV}={instance}");
    let mut system = new_table();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, refresh());
    for _ in 0..EXEC_LOOKS_MAX {
        let nameless = system.processes().values().filter(|process| may_be_in_exec(process));
        let nameless: Vec<_> = nameless.map(Process::pid).collect();
        if nameless.is_empty() {
            break;
        }
        // On a thread that may wait; to wake early does no harm.
        std::thread::park_timeout(EXEC_PAUSE);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&nameless), true, refresh());
    }
    let mut found: Vec<Identity> = system
        .processes()
        .values()
        .filter(|process| runs(process) && process.environ().iter().any(|word| *word == *wanted))
        .filter_map(|process| Some(Identity { pid: process.pid().as_u32(), started_s: started(process)? }))
        .collect();
    found.sort_by_key(|identity| identity.pid);
    found
}

/// Whether the process has just begun and shows no environment: its parent hears of a program that was found a moment
/// before the kernel has put its environment in place.
fn may_be_in_exec(process: &Process) -> bool {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let is_fresh = process.start_time() + START_TOLERANCE_S >= now_s;
    is_fresh && runs(process) && process.environ().is_empty()
}

/// The process group of a pid. In a container a group may be outside, which the system call tells as 0; the process
/// table says so without harm.
#[cfg(target_os = "linux")]
pub(super) fn group_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (any name) state parent group ..`
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The process group of a pid.
#[cfg(not(target_os = "linux"))]
pub(super) fn group_of(pid: u32) -> Option<u32> {
    let group = rustix::process::getpgid(Some(to_pid(pid)?)).ok()?;
    u32::try_from(group.as_raw_nonzero().get()).ok()
}

/// Whether the group has a member that runs. Zombies do not count: who reaps them may take its time.
pub(super) fn group_runs(pid: u32) -> bool {
    let any = to_pid(pid).is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok());
    any && {
        let mut system = new_table();
        let kind = ProcessRefreshKind::nothing().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
        let mut members = system.processes().values().filter(|process| runs(process));
        members.any(|process| group_of(process.pid().as_u32()) == Some(pid))
    }
}

/// Signals a whole process group; one that is gone already is no error.
pub(super) fn signal_group(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(group) = to_pid(pid) else { return Ok(()) };
    match rustix::process::kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Ends one process that carries a dead process's instance id.
pub(super) fn end_orphan(orphan: Identity) -> io::Result<()> {
    let Some(pid) = to_pid(orphan.pid) else { return Ok(()) };
    match rustix::process::kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn runs(process: &Process) -> bool {
    !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)
        && process.thread_kind().is_none()
}

fn refresh() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing().with_environ(UpdateKind::Always).without_tasks()
}

fn look<T>(pid: u32, read: impl FnOnce(&Process) -> T) -> Option<T> {
    let pid = sysinfo::Pid::from_u32(pid);
    let mut system = new_table();
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map(read)
}

fn new_table() -> System {
    System::new().expect("this machine's processes can be listed: it runs us")
}
