//! The `Provider` port: starts, adopts, signals and reads the output of gameserver processes on one engine.
//!
//! Never decides when a process is started, stopped or replaced, and knows nothing of ports, probes or players: that
//! is the agent's. A process outlives the provider that started it; whoever comes after adopts it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use greenroom_core::{InstanceId, ServerName};
use greenroom_wire::secret::SecretRef;

pub mod memory;
pub mod process;
pub mod secrets;

pub use memory::MemoryProvider;
pub use process::ProcessProvider;

/// Name of the environment variable that carries the instance id; what proves at adoption whose process it is.
pub const INSTANCE_ENV: &str = "GREENROOM_INSTANCE";

/// A boxed future, so that the port is object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One engine that runs gameserver processes. Use as `Arc<dyn Provider>`.
pub trait Provider: Send + Sync + 'static {
    /// Starts one process. Not idempotent: the caller looks for the instance with [`Provider::adopt`] when it does
    /// not know whether an earlier start succeeded.
    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<Running, StartError>>;

    /// Finds the process of `instance` again, by its handle where one is known, else by its instance id. `None`
    /// when it is gone, or is not provably the same process; nothing that is not provably ours is ever touched.
    /// What a gone process left behind in its own group is ended.
    fn adopt<'a>(
        &'a self,
        instance: &'a InstanceId,
        handle: Option<&'a Handle>,
    ) -> BoxFuture<'a, Result<Option<Running>, EngineError>>;

    /// Signals the process and everything it started. Signalling what is gone does nothing and is no error. After
    /// [`StopSignal::Ask`] the exit is told once everything it started has ended too, or was killed.
    fn signal<'a>(&'a self, handle: &'a Handle, signal: StopSignal)
    -> BoxFuture<'a, Result<(), EngineError>>;

    /// Reads a piece of the server's output over all its processes, at most `bytes_max` bytes: from byte `offset`,
    /// or the last `bytes_max` when that is `None`. An offset past the end gives an empty piece at the end.
    fn logs<'a>(
        &'a self,
        server: &'a ServerName,
        offset: Option<u64>,
        bytes_max: usize,
    ) -> BoxFuture<'a, Result<LogPiece, LogsError>>;
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSpec {
    /// The server; its output is kept under this name.
    pub server: ServerName,
    /// The process; told to it in [`INSTANCE_ENV`].
    pub instance: InstanceId,
    /// Program and arguments. Never empty.
    pub command: Vec<String>,
    /// Environment, added to the one the engine gives.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets, by where the engine finds them. Read anew at each start; never told.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Variables that must be absent even when the engine would pass them on.
    pub env_absent: Vec<String>,
}

/// A running process.
pub struct Running {
    /// Finds it again, also from another process.
    pub handle: Handle,
    /// Its process id on this machine, where the engine has one.
    pub pid: Option<u32>,
    /// Resolves when the process has ended. Dropping it does not end the process.
    pub exit: BoxFuture<'static, Exit>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("handle", &self.handle)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// The engine's own name of a process, opaque to everybody else; text, so that it can be stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(String);

impl Handle {
    /// Takes back what [`Handle::as_str`] gave. A text that is no handle of the engine finds no process.
    #[must_use]
    pub const fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text to store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How to end a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// Asked to end: SIGTERM.
    Ask,
    /// Ended: SIGKILL.
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended, and its exit was nobody's to read: it was adopted.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "killed by signal {number} ({name})"),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("ended; its exit code is not known because it was adopted"),
        }
    }
}

/// Name of a signal that ends processes; the numbers are those of Linux and macOS alike, others have no name here.
const fn signal_name(number: i32) -> Option<&'static str> {
    match number {
        1 => Some("SIGHUP"),
        2 => Some("SIGINT"),
        3 => Some("SIGQUIT"),
        4 => Some("SIGILL"),
        5 => Some("SIGTRAP"),
        6 => Some("SIGABRT"),
        8 => Some("SIGFPE"),
        9 => Some("SIGKILL"),
        11 => Some("SIGSEGV"),
        13 => Some("SIGPIPE"),
        14 => Some("SIGALRM"),
        15 => Some("SIGTERM"),
        _ => None,
    }
}

/// A piece of a server's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next_offset: u64,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command names nothing that can be run. Mend the fleet's command.
    #[error("program {program:?} does not exist or is not in PATH (or the interpreter it names is missing)")]
    NoSuchProgram {
        /// The first word of the command.
        program: String,
    },
    /// The file is there but may not be executed. Mend its mode or the fleet's command.
    #[error("program {program:?} may not be executed")]
    NotExecutable {
        /// The first word of the command.
        program: String,
    },
    /// The engine refused. Worth retrying.
    #[error("program {program:?} was not started: {source}")]
    Engine {
        /// The first word of the command.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file for its output cannot be opened. Mend the folder's mode or free the disk.
    #[error("the output file {path} cannot be opened: {source}")]
    Log {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A secret cannot be had. Put it where the reference says, on the machine where the process starts.
    #[error("the secret {reference} for the variable {variable} cannot be had: {reason}")]
    Secret {
        /// Which variable was to hold it.
        variable: String,
        /// Where it was looked for.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// The command has no words. Mend the fleet's command.
    #[error("the command is empty")]
    EmptyCommand,
}

/// Why the engine did not do what was asked. Worth retrying.
#[derive(Debug, thiserror::Error)]
#[error("{doing} of {handle}: {source}")]
pub struct EngineError {
    /// What was tried.
    pub doing: &'static str,
    /// With which process.
    pub handle: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// Why a server's output could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The server never ran here, or its output is gone.
    #[error("gameserver {server} has no output on this host")]
    None {
        /// Which.
        server: ServerName,
    },
    /// The output is there but cannot be read.
    #[error("the output of gameserver {server} cannot be read: {source}")]
    Read {
        /// Which.
        server: ServerName,
        /// What the system said.
        source: std::io::Error,
    },
}
