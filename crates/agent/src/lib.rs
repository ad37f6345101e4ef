//! Runs gameservers on one host: starts, probes, restarts and stops them, tells control, and carries their links.
//!
//! Never decides what should run: control orders, the agent obeys the newest term. Never in the data path: players
//! talk to gameservers directly, and killing the agent disturbs nobody; the next one adopts what runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use greenroom_core::HostName;
use greenroom_provider::{ProcessProvider, Provider};
use greenroom_tls::{PairFiles, TlsError};
use greenroom_wire::secret::Secret;
use tokio_util::sync::CancellationToken;

mod clock;
mod control_stream;
mod controls;
mod dial;
pub mod journal;
pub mod keeping;
mod last_words;
mod link;
mod lock;
mod logs;
mod memory;
pub mod obedience;
mod outbox;
pub mod place;
mod probe;
mod sdk;
mod shell;
pub mod supervisor;

pub use journal::JournalError;
pub use supervisor::Occupancy;

/// How one agent runs.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of this host, unique under one control plane.
    pub host: HostName,
    /// Base URL of control's HTTP API, `http://host:port`, or `https://` with [`AgentConfig::tls`]. Told to servers.
    pub control: String,
    /// The same of its further replicas: a stream is kept to each, and whichever leads is obeyed. Default none.
    pub other_controls: Vec<String>,
    /// TLS of the streams to control. Default none: plain, for control on this machine.
    pub tls: Option<AgentTls>,
    /// Sent when the stream to control is opened. Default none: control asks for none on this machine, or for a certificate.
    pub token: Option<Secret>,
    /// The data folder; the agent writes only below `<data_dir>/agent`.
    pub data_dir: PathBuf,
    /// Host part of the addresses that players dial. Default `127.0.0.1`.
    pub public_host: String,
    /// Address that servers bind. Default `127.0.0.1`.
    pub bind: IpAddr,
    /// Ports for servers, one each. Default 7000 to 8000.
    pub ports: RangeInclusive<u16>,
    /// Browser origins that servers admit, `*` for any. Default none: same-origin and non-browser only.
    pub allowed_origins: Vec<String>,
    /// Labels of the host, for placement. Default none.
    pub labels: BTreeMap<String, String>,
    /// What happens to servers when the agent is told to stop. Default [`OnExit::LeaveServers`].
    pub on_exit: OnExit,
    /// Most servers at once. Default: one for each port.
    pub servers_max: u32,
    /// For a port that servers take the one that players dial. Default none: the same.
    pub dialled: BTreeMap<u16, u16>,
    /// An engine around the agent that must not stop this host while somebody is on it. Default none.
    pub around: Option<keeping::Around>,
}

impl AgentConfig {
    /// An agent with all defaults.
    #[must_use]
    pub fn new(host: HostName, control: String, data_dir: PathBuf) -> Self {
        let ports = 7000..=8000;
        Self {
            host,
            control,
            other_controls: Vec::new(),
            tls: None,
            token: None,
            data_dir,
            public_host: "127.0.0.1".to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            servers_max: u32::try_from(ports.len()).unwrap_or(u32::MAX),
            ports,
            allowed_origins: Vec::new(),
            labels: BTreeMap::new(),
            on_exit: OnExit::LeaveServers,
            dialled: BTreeMap::new(),
            around: None,
        }
    }
}

/// TLS of the streams to control. The files are read again when they change; open streams go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTls {
    /// The authorities that control's certificate is checked with, in a PEM file. Its path is told to servers.
    pub ca: PathBuf,
    /// This host's own certificate, for a control that asks for one. Default none.
    pub pair: Option<PairFiles>,
}

/// What happens to running servers when the agent is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// They run on; the next agent on the same data folder adopts them.
    LeaveServers,
    /// They are stopped, all at once, each with its grace time; the agent returns when the last one is gone.
    StopServers,
}

/// Why an agent ended by itself or did not start. Running servers run on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A value of the config cannot be used. Mend it.
    #[error("{key} cannot be {value}: {reason}")]
    Config {
        /// Which.
        key: &'static str,
        /// What it was.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// A certificate cannot be used.
    #[error("tls to control cannot begin: {0}")]
    Tls(#[source] TlsError),
    /// Another agent runs on this data folder. Stop it first, or use another folder.
    #[error("the data folder {folder} is used by another agent: {first}")]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The first agent: its process id and host.
        first: String,
    },
    /// The data folder cannot be used. Mend its mode or its disk.
    #[error("the data folder {folder} cannot be used: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal in this folder names servers of another host. Use that host's name, or another folder.
    #[error(
        "the data folder belongs to host {found}, which has {servers} gameservers; this is host {wanted}"
    )]
    OtherHost {
        /// As configured.
        wanted: HostName,
        /// As journalled.
        found: HostName,
        /// How many servers are journalled.
        servers: usize,
    },
    /// The port of the link or of the SDK is taken. Running servers look for their agent there, so no other one will do: end
    /// whatever holds it.
    #[error(
        "port {port}, where {servers} running gameservers look for their agent, cannot be bound: {source}"
    )]
    LinkPort {
        /// Which.
        port: u16,
        /// How many servers need it.
        servers: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// No port at all can be bound on loopback.
    #[error("the link cannot listen on loopback: {source}")]
    Link {
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Runs an agent with real processes until `stop` is cancelled, or until it cannot go on. Servers whose output is in
/// `<data_dir>/agent/logs` and whose processes are in the journal are adopted.
///
/// # Errors
/// See [`RunError`]; whatever the error, running servers run on and are adopted by the next agent.
pub async fn run(config: AgentConfig, stop: CancellationToken) -> Result<(), RunError> {
    let logs_dir = config.data_dir.join("agent").join("logs");
    run_on(config, Arc::new(ProcessProvider::new(logs_dir)), stop).await
}

/// As [`run`], on any engine.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: AgentConfig,
    provider: Arc<dyn Provider>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    shell::run(config, provider, stop).await
}
