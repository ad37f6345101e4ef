//! One part of `dev`: a control plane or an agent as a child process that is started again when it ends.
//!
//! Never shares the terminal's process group: Ctrl-C reaches `dev` alone, which stops its parts in order.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::processes;
use crate::failure::{Failure, USAGE};
use crate::print;

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A part that ran this long was well: the next pause is short again.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// So many ends in a row without being steady once are a fault that starting again does not mend.
const ENDS_MAX: u32 = 5;
const LOG_LINES_SHOWN: usize = 12;

/// A part and its present process.
#[derive(Debug)]
pub(super) struct Part {
    name: &'static str,
    binary: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    started_at: Instant,
    again_at: Instant,
    ends: u32,
}

/// What happened to a part.
#[derive(Debug, Clone, Copy)]
pub(super) enum PartEvent {
    /// Its process ended.
    Ended(ExitStatus),
    /// The pause before its next start is over.
    Due,
}

impl Part {
    pub(super) fn new(name: &'static str, binary: &Path, args: Vec<String>, log: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            name,
            binary: binary.to_owned(),
            args,
            log,
            child: None,
            started_at: now,
            again_at: now,
            ends: 0,
        }
    }

    /// Its process now.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// First start: the log begins anew.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        File::create(&self.log).map_err(|error| self.unloggable(&error))?;
        self.spawn()
    }

    fn unloggable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            format!("cannot write {}: {error}", self.log.display()),
            "Name another folder with --data-dir.",
        )
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let log = OpenOptions::new().append(true).create(true).open(&self.log);
        let log = log.map_err(|error| self.unloggable(&error))?;
        let errors = log.try_clone().map_err(|error| self.unloggable(&error))?;
        let child = Command::new(&self.binary)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start {}: {error}", self.name), ""))?;
        self.child = Some(child);
        self.started_at = Instant::now();
        Ok(())
    }

    /// The next thing that happens to it. May be dropped and called again.
    pub(super) async fn next(&mut self) -> PartEvent {
        loop {
            let Some(child) = &mut self.child else {
                tokio::time::sleep_until(self.again_at).await;
                return PartEvent::Due;
            };
            match child.wait().await {
                Ok(status) => return PartEvent::Ended(status),
                // Waiting for one's own child fails only when somebody else waited for it: then it is gone.
                Err(_gone) => self.child = None,
            }
        }
    }

    /// Starts it again after a pause, or gives up with what its log says.
    pub(super) fn handle(&mut self, event: PartEvent) -> Result<(), Failure> {
        match event {
            PartEvent::Due => self.spawn(),
            PartEvent::Ended(status) => {
                self.child = None;
                self.ends = if self.started_at.elapsed() >= STEADY_AFTER { 1 } else { self.ends + 1 };
                if status.code() == Some(i32::from(USAGE)) || self.ends > ENDS_MAX {
                    return Err(self.hopeless(status));
                }
                let pause = PAUSE_MIN.saturating_mul(1 << (self.ends - 1)).min(PAUSE_MAX);
                print::line(format!(
                    "{} ended ({status}); starting it again in {} ms",
                    self.name,
                    pause.as_millis()
                ));
                self.again_at = Instant::now() + pause;
                Ok(())
            }
        }
    }

    fn hopeless(&self, status: ExitStatus) -> Failure {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n    ");
        Failure::new(
            format!(
                "{} cannot run ({status}); the end of {}:\n\n    {last}\n",
                self.name,
                self.log.display()
            ),
            "Mend that and start again.",
        )
    }

    /// SIGTERM, then waits. Gives whether it ended in time.
    pub(super) async fn stop(&mut self, within: Duration) -> bool {
        let Some(child) = &mut self.child else { return true };
        if let Some(pid) = child.id() {
            processes::send(pid, Signal::TERM);
        }
        let ended = tokio::time::timeout(within, child.wait()).await.is_ok();
        if ended {
            self.child = None;
        }
        ended
    }

    /// SIGKILL, and waits for the end of it.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only when it has ended already.
            let _ended = child.kill().await;
        }
    }
}
