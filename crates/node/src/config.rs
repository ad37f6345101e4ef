//! Every number that a node works by, with its default.
//! Never read from the environment here: `env` does that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::{FleetName, InstanceId};
use greenroom_room::Delivery;
use greenroom_socketio::Limits;
use greenroom_socketio::packet::PacketParser;

pub use crate::http::options::{
    Cookie, Cors, Ipv6, KeptHeaders, SameSite, SidPrefix, SidPrefixError, Transports,
};
pub use crate::tls::{TlsError, TlsFiles};
pub use greenroom_socketio::adapter::Names as AdapterNames;

/// File descriptors that are never given to players: listener, link, logs, refusals.
const DESCRIPTORS_RESERVED: u64 = 64;

/// What a node needs to know to run. [`Config::default`] is a node of its own, without fleet and link.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on. Default `127.0.0.1:3000`; port 0 takes any free one, see [`crate::BoundNode::address`].
    pub bind: SocketAddr,
    /// Whether an IPv6 address takes IPv4 clients too. Default [`Ipv6::DualStack`].
    pub ipv6: Ipv6,
    /// Certificate and key, where the port speaks TLS. Default none: plaintext.
    pub tls: Option<TlsFiles>,
    /// Path of the Engine.IO endpoint, with a slash at both ends; requests may leave the last one out. Default
    /// `/socket.io/`.
    pub path: String,
    /// How packets are written. Default [`Parser::Json`].
    pub parser: Parser,
    /// Transports that clients may use. Default both.
    pub transports: Transports,
    /// Whether polling sessions may move to WebSocket. Default true.
    pub allow_upgrades: bool,
    /// Polling answers of this many bytes or more are compressed for clients that take gzip or deflate, unless all their
    /// packets forbid it. Default 1,024; none: nothing is compressed.
    pub http_compression: Option<usize>,
    /// A cookie for proxies. Default none.
    pub cookie: Option<Cookie>,
    /// What browsers are told about other origins.
    pub cors: Cors,
    /// Request headers that sessions keep. Default none.
    pub headers_kept: KeptHeaders,
    /// How every session id begins. Default none: all of it is random.
    pub sid_prefix: Option<SidPrefix>,
    /// Browser origins that may connect. Default: those of this very host.
    pub origins: Origins,
    /// Time between two pings. Default 25 s.
    pub ping_interval: Duration,
    /// How long a pong may take before the session counts as gone. Default 20 s.
    pub ping_timeout: Duration,
    /// How long the move from polling to WebSocket may take. Default 10 s.
    pub upgrade_timeout: Duration,
    /// How long a session may be without a connected namespace. Default 5 s.
    pub connect_timeout: Duration,
    /// How long the head of an HTTP request may take, and how long an idle HTTP connection is kept. Default 5 s.
    pub header_timeout: Duration,
    /// How long the body of a polling request may take. Default 10 s.
    pub body_timeout: Duration,
    /// How long a closed WebSocket may take to hear the last bytes. Default 2 s.
    pub close_timeout: Duration,
    /// How long the end of the process waits for results to reach the agent. Default 2 s.
    pub flush_timeout: Duration,
    /// Over how long clients that follow moves are sent away at the end, before the others' connections are closed at
    /// once with those that stayed. Only if there are any. Default 3 s.
    pub lead_away_within: Duration,
    /// What one remote peer may make this process hold.
    pub limits: Limits,
    /// Bytes that may wait for one connection; one more reliable event closes it. Default 1 MiB. A single larger
    /// packet goes through when nothing else waits.
    pub outbound_bytes_max: usize,
    /// TCP connections at once; more get 503. Default: the process's file descriptor limit less 64.
    pub connections_max: usize,
    /// TCP connections at once from one address; more get 503. Default 1,024 of each public one.
    pub connections_per_address: AddressCap,
    /// Sessions opened in a second, and at once after a rest; more get 503 and are told to come back in a second.
    /// Default 10,000: about a third of a core.
    pub handshakes_per_second_max: u32,
    /// Events of one socket that may wait for the client's ack at once. Default 1,024.
    pub acks_max: usize,
    /// Namespaces that one session may be connected to or ask for at once; more are refused. Default 100.
    pub namespaces_per_session_max: usize,
    /// Namespaces made by rules that may live at once; more are refused. One lives while somebody is in it.
    /// Default 10,000.
    pub dynamic_namespaces_max: usize,
    /// How long a room that everybody left stays open. Default 10 s.
    pub room_linger: Duration,
    /// How long an ended room is remembered, so that its tokens are told so. Default 10 min.
    pub room_memory: Duration,
    /// Rooms at once. Default unlimited.
    pub rooms_max: usize,
    /// Bytes of mesh broadcasts that wait for the agent; more are dropped for the other nodes, counted. Default 1 MiB.
    pub publish_bytes_max: usize,
    /// The fleet that this process belongs to, if any.
    pub membership: Option<Membership>,
    /// The Redis that the nodes of a mesh share when they are on several hosts; needs the feature `redis`. Default none:
    /// those of one host reach each other by its agent.
    pub store: Option<Store>,
    /// Where programs outside of the servers emit to clients; needs the feature `redis`. Default none.
    pub emitters: Option<Emitters>,
    /// One cluster with Node.js servers, instead of [`Self::store`]; needs the feature `redis`. Default none.
    pub adapter: Option<Adapter>,
    /// How clients of mesh namespaces come back to their sessions. Default none: they begin anew.
    pub recovery: Option<Recovery>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            ipv6: Ipv6::default(),
            tls: None,
            path: "/socket.io/".to_owned(),
            parser: Parser::default(),
            transports: Transports::default(),
            allow_upgrades: true,
            http_compression: Some(1024),
            cookie: None,
            cors: Cors::default(),
            headers_kept: KeptHeaders::default(),
            sid_prefix: None,
            origins: Origins::Same,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            flush_timeout: Duration::from_secs(2),
            lead_away_within: Duration::from_secs(3),
            limits: Limits::DEFAULT,
            outbound_bytes_max: 1024 * 1024,
            connections_max: connections_allowed(),
            connections_per_address: AddressCap::Public(1024),
            handshakes_per_second_max: 10_000,
            acks_max: 1024,
            namespaces_per_session_max: 100,
            dynamic_namespaces_max: 10_000,
            room_linger: Duration::from_secs(10),
            room_memory: Duration::from_secs(600),
            rooms_max: usize::MAX,
            publish_bytes_max: 1024 * 1024,
            membership: None,
            store: None,
            emitters: None,
            adapter: None,
            recovery: None,
        }
    }
}

impl Config {
    /// Whether other nodes may share this one's namespaces, and something beyond the process keeps what is to be kept.
    pub(crate) fn is_shared(&self) -> bool {
        let has_link = self.membership.as_ref().is_some_and(|membership| membership.link.is_some());
        has_link || self.store.is_some()
    }
}

/// A Redis that nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// `redis://[user:password@]host:port[/database]`, or where sentinels follow the primary
    /// `redis+sentinel://[user:password@]host:port,host:port,host:port/name[/database]`.
    pub url: Secret,
    /// What all keys begin with: nodes of one prefix are one mesh.
    pub prefix: String,
}

/// The Redis by which programs outside of the servers reach clients, with the npm package `@socket.io/redis-emitter` 5.
/// Every node hears every emitter, and acts on its own sockets. What is emitted while a node cannot reach the Redis does
/// not reach its sockets, and an event of an emitter is not given again to clients that come back to their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitters {
    /// Written as [`Store::url`]. Version 6 or later.
    pub url: Secret,
    /// The emitters' option `key`, with which the names of their channels begin. Default `socket.io`, as theirs.
    pub key: String,
    /// Bytes of messages that may wait to be acted on; more are left out, counted. Default 8 MiB.
    pub waiting_bytes_max: usize,
}

impl Emitters {
    /// The defaults, at this address.
    #[must_use]
    pub fn at(url: Secret) -> Self {
        Self { url, key: "socket.io".to_owned(), waiting_bytes_max: 8 << 20 }
    }
}

/// The Redis by which this node is in one cluster with Node.js servers that have the npm package
/// `@socket.io/redis-streams-adapter` 0.3: broadcasts, groups, disconnects, questions and events for servers cross both ways, in
/// the formats of that package. Other nodes of the cluster are reached so too. Not for rooms, and not together with
/// [`Config::recovery`] or [`Config::store`].
///
/// What is said while the Redis cannot be reached reaches this node's own sockets alone. What others added to the streams
/// meanwhile is read when it is back, as far as the streams still have it; questions and their answers are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Written as [`Store::url`]. Version 6 or later; not a Redis Cluster.
    pub url: Secret,
    /// What streams and channels are called: the same on all servers.
    pub names: AdapterNames,
    /// Entries that each stream keeps, about: the adapter's option `maxLen`. Default 10,000, as theirs.
    pub entries_max: usize,
    /// Bytes of messages that may wait to be acted on; more are left out, counted. Default 8 MiB.
    pub waiting_bytes_max: usize,
}

impl Adapter {
    /// The defaults, at this address.
    #[must_use]
    pub fn at(url: Secret) -> Self {
        Self { url, names: AdapterNames::default(), entries_max: 10_000, waiting_bytes_max: 8 << 20 }
    }
}

/// How clients come back to their sessions after a cut, a deploy or a crash. Under an agent the host's agent keeps what
/// is needed for it, so that it outlives the process; without one this process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How long a client may be away. Default 2 min.
    pub window: Duration,
    /// Whether connect middlewares are left out for a client that comes back; [`crate::Handlers::reauthorise`] never is.
    /// Default true.
    pub skip_middlewares: bool,
    /// How long a connect may wait for the backplane before the client goes on without. Default 4 s: a store that is
    /// restarted is back by then, and a session waited for is better than one lost. Less than the connect timeout.
    pub patience: Duration,
    /// Bytes of events that may wait for a backplane that cannot be reached; more are refused. Default 16 MiB.
    pub outbox_bytes_max: usize,
    /// Bytes of one namespace's events that this node keeps for clients that come back. Default 64 MiB.
    pub history_bytes_max: usize,
    /// The same for one room: some seconds of a game that ticks, since whoever was away for longer wants its state and
    /// not all that led to it. Default 64 KiB.
    pub room_history_bytes_max: usize,
    /// When players see what a room sends; absent: as its kind says ([`greenroom_room::Room::DELIVERY`]). Of namespaces
    /// only those of a node on its own can be [`Delivery::DeliverFirst`]. Default none.
    pub delivery: Option<Delivery>,
    /// How often a room of [`Delivery::DeliverFirst`] is kept beyond this process. Default 1 s, at least 50 ms.
    pub checkpoint_every: Duration,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(120),
            skip_middlewares: true,
            patience: Duration::from_secs(4),
            outbox_bytes_max: 16 << 20,
            history_bytes_max: 64 << 20,
            room_history_bytes_max: 64 << 10,
            delivery: None,
            checkpoint_every: Duration::from_secs(1),
        }
    }
}

/// What the file descriptor limit of this process leaves for players.
fn connections_allowed() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |files| {
        usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED).max(1)).unwrap_or(usize::MAX)
    })
}

/// How many connections one address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressCap {
    /// So many for each public address. Loopback, private and link-local ones have no cap: they are those of proxies.
    Public(usize),
    /// So many for each address.
    Every(usize),
    /// No cap: behind a proxy with a public address all clients come from one.
    Off,
}

impl AddressCap {
    pub(crate) fn of(self, address: IpAddr) -> usize {
        let is_public = match address.to_canonical() {
            IpAddr::V4(address) => {
                !(address.is_loopback() || address.is_private() || address.is_link_local())
            }
            IpAddr::V6(address) => {
                !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
            }
        };
        match self {
            Self::Public(cap) if is_public => cap,
            Self::Every(cap) => cap,
            Self::Public(_) | Self::Off => usize::MAX,
        }
    }
}

/// How the packets of a node's clients are written; all clients must use the same. Handlers see JSON text and attachments
/// all the same, and so do the other nodes of a mesh, so that nothing else in a program changes.
#[derive(Debug, Clone, Default)]
pub enum Parser {
    /// The standard format: JSON with binary attachments.
    #[default]
    Json,
    /// MessagePack, as the npm package `socket.io-msgpack-parser` has it.
    Msgpack,
    /// The program's own, see [`crate::parser`]. What it cannot write is not sent, counted and logged; a message that it
    /// cannot read, or that becomes what no packet may be, closes the session with `parse error`.
    Custom(Arc<dyn PacketParser>),
}

/// Which web pages may connect. What is not a browser sends no origin and is not judged by this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Pages of this very host and port.
    Same,
    /// These too, each as `scheme://host[:port]`.
    Listed(Vec<String>),
    /// Every page.
    Any,
}

/// The fleet that a server belongs to and who it is there.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The fleet; tokens of another one are refused.
    pub fleet: FleetName,
    /// This process; tokens for another one are refused.
    pub instance: InstanceId,
    /// The agent's link, if there is one.
    pub link: Option<LinkConfig>,
}

/// Where the agent listens for its servers.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// `host:port`.
    pub address: String,
    /// Proves that this process is the one the agent started.
    pub secret: Secret,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_capped_and_those_of_proxies_are_not_unless_told() {
        let cases = [
            ("127.0.0.1", false),
            ("::1", false),
            ("10.1.2.3", false),
            ("192.168.7.7", false),
            ("::ffff:172.16.0.1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("203.0.113.7", true),
            ("::ffff:203.0.113.7", true),
            ("2001:db8::1", true),
        ];
        for (address, is_public) in cases {
            let address = address.parse().unwrap();
            let expected = if is_public { 5 } else { usize::MAX };
            assert_eq!(AddressCap::Public(5).of(address), expected, "{address}");
            assert_eq!(AddressCap::Every(5).of(address), 5);
            assert_eq!(AddressCap::Off.of(address), usize::MAX);
        }
    }
}
