//! One server under measurement: its process, pinned to the first core, and what the kernel says it used.
//! Never talks to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::ClientConfig;

use crate::secure::Secure;

/// Ticks a second of `/proc/PID/stat`; the kernel's interface has had no other number for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a server may take to answer its port.
const START_WITHIN: Duration = Duration::from_secs(10);

/// A program that serves the relay's four events on the port that is its first argument.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Shown in tables.
    pub(crate) name: String,
    /// The program and what comes before the port.
    pub(crate) command: Vec<PathBuf>,
    /// What comes after the port.
    pub(crate) arguments: Vec<String>,
    /// The core that it runs on.
    pub(crate) core: usize,
    /// The certificate that its port speaks TLS with, if it does.
    pub(crate) secure: Option<Arc<Secure>>,
}

/// A subject that runs.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
    /// How its port is spoken to, where it is not plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// What a process used so far, in seconds of one core.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Binds this process, and what it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).context("this process may not choose its core")
}

impl Peer {
    /// Starts a subject on its core, and goes back to core 1.
    pub(crate) fn start(subject: &Subject, port: Option<u16>) -> anyhow::Result<Self> {
        let port = match port {
            Some(port) => port,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
        };
        let (program, before) = subject.command.split_first().context("a command has a program")?;
        pin(subject.core)?;
        let child = Command::new(program)
            .args(before)
            .arg(port.to_string())
            .args(&subject.arguments)
            .envs(subject.secure.iter().flat_map(|secure| secure.environment()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()));
        pin(1)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tls = subject.secure.as_ref().map(|secure| secure.client());
        Ok(Self { child: child?, address, tls })
    }

    /// Waits until the port answers.
    pub(crate) fn wait_listening(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while TcpStream::connect(self.address).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "the server does not listen");
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the server ended: {status}");
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// CPU used so far, all threads together.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is a name that may have spaces; it ends with the last bracket.
        let (_, fields) = text.rsplit_once(')').context("a stat has a name")?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let mut next = || -> anyhow::Result<f64> {
            let ticks: f64 = fields.next().context("a stat has its times")?.parse()?;
            Ok(ticks / TICKS_PER_SECOND)
        };
        Ok(Cpu { user: next()?, system: next()? })
    }

    /// Nanoseconds run by the main thread, for spans in which hardly a tick falls.
    pub(crate) fn run_ns(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        Ok(text.split_ascii_whitespace().next().context("a schedstat has three numbers")?.parse()?)
    }

    /// Anonymous resident memory in KiB: what the program itself holds, without the kernel's sockets.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).context("a status has RssAnon")?;
        Ok(line.split_ascii_whitespace().nth(1).context("RssAnon has a number")?.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
