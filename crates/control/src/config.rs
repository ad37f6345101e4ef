//! What a control process is told at its start.
//!
//! Never read from the environment or a file here: the caller reads, checks and passes values.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use greenroom_core::fleet::Fleet;

use crate::access::AccessToken;
use crate::world::{Bounds, Timings};

/// All settings of one control process.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where the HTTP API listens. Default `127.0.0.1:8700`; an address beyond loopback is refused without tokens.
    pub listen: SocketAddr,
    /// Who may call. Default nobody is asked: everybody on this machine may do everything.
    pub tokens: Vec<AccessToken>,
    /// The fleets, checked, each name once.
    pub fleets: Vec<Fleet>,
    /// Where the results of ended rooms are posted. Default nowhere: results are then not stored either.
    pub webhook: Option<WebhookConfig>,
    /// Pages served as they are, beside the API.
    pub pages: Vec<StaticPage>,
    /// Host names besides loopback's that requests may come under, without port. Default none. Not looked at when there
    /// are tokens: a page of another site has none.
    pub allowed_hosts: Vec<String>,
    /// Browser origins besides the API's own that may change things, as `scheme://host:port`. Default none.
    pub allowed_origins: Vec<String>,
    /// What `GET /readyz` waits for. Default the process alone.
    pub ready_when: ReadyWhen,
    /// How long things take.
    pub timings: Timings,
    /// How many there may be.
    pub bounds: Bounds,
    /// Connections of the control listener at once; more wait to be accepted. Default 10,000.
    pub connections_max: usize,
    /// How long open calls get to finish after a stop. Default 1 s.
    pub stop_grace: Duration,
}

impl ControlConfig {
    /// The defaults with these fleets.
    #[must_use]
    pub fn new(fleets: Vec<Fleet>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8700)),
            tokens: Vec::new(),
            fleets,
            webhook: None,
            pages: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            ready_when: ReadyWhen::Serving,
            timings: Timings::default(),
            bounds: Bounds::default(),
            connections_max: 10_000,
            stop_grace: Duration::from_secs(1),
        }
    }
}

/// What `GET /readyz` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyWhen {
    /// The store is loaded and the known agents have reported or are given up.
    Serving,
    /// That, and every fleet has its minimum of servers that answer. For `dev`.
    MinimumReady,
}

/// The back end's webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `http` or `https`. May hold a secret in its query: never logged.
    pub url: String,
    /// How long one post may take. Default 10 s.
    pub timeout: Duration,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticPage {
    /// Exact path, `/` first. A path of the API wins over it.
    pub path: String,
    /// As in the header: `text/html; charset=utf-8`.
    pub content_type: String,
    /// The body.
    pub bytes: Bytes,
}
