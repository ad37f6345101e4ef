//! What a control process is told at its start.
//!
//! Never read from the environment or a file here: the caller reads, checks and passes values.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use greenroom_core::FleetName;
use greenroom_core::fleet::Fleet;
use greenroom_core::trigger::Trigger;
use greenroom_tls::PairFiles;
use greenroom_wire::api::ActionWord;
use greenroom_wire::secret::Secret;

use crate::access::AccessToken;
use crate::lease::LeaseTimes;
use crate::world::{Bounds, Gauge, Subscription, Timings, TriggerRule};

/// All settings of one control process.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where the HTTP API listens. Default `127.0.0.1:8700`; an address beyond loopback is refused without tokens or
    /// [`MutualTls`].
    pub listen: SocketAddr,
    /// Its TLS. Default none: plain HTTP.
    pub tls: Option<ControlTls>,
    /// Who may call. Default nobody is asked: everybody on this machine may do everything.
    pub tokens: Vec<AccessToken>,
    /// The listener for players. Default none: the back end asks for them.
    pub players: Option<PlayersConfig>,
    /// The fleets, checked, each name once.
    pub fleets: Vec<Fleet>,
    /// Where the results of ended rooms are posted. Default nowhere: results are then not stored either.
    pub webhook: Option<WebhookConfig>,
    /// Who outside is told what happens, each name once. Default nobody.
    pub notify: Vec<NotifyConfig>,
    /// What is watched, and what is done about it, each name once. Default nothing.
    pub triggers: Vec<TriggerConfig>,
    /// Pages served as they are, beside the API.
    pub pages: Vec<StaticPage>,
    /// Host names besides loopback's that requests may come under, without port. Default none. Not looked at when there
    /// are tokens: a page of another site has none.
    pub allowed_hosts: Vec<String>,
    /// Browser origins besides the API's own that may change things, as `scheme://host:port`. Default none.
    pub allowed_origins: Vec<String>,
    /// What `GET /readyz` waits for. Default the process alone.
    pub ready_when: ReadyWhen,
    /// Which of several replicas this is. Default none: it has the store for itself.
    pub replica: Option<ReplicaConfig>,
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
            tls: None,
            tokens: Vec::new(),
            players: None,
            fleets,
            webhook: None,
            notify: Vec::new(),
            triggers: Vec::new(),
            pages: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            ready_when: ReadyWhen::Serving,
            replica: None,
            timings: Timings::default(),
            bounds: Bounds::default(),
            connections_max: 10_000,
            stop_grace: Duration::from_secs(1),
        }
    }
}

/// TLS of the control listener. The files are read again when they change; what is open goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlTls {
    /// What it shows to callers, and a replica to the leader.
    pub pair: PairFiles,
    /// Whom it knows by certificate. Default nobody: agents come with tokens, and a replica checks the leader's certificate
    /// with the authorities of the system.
    pub mutual: Option<MutualTls>,
}

/// Who is inside. Nobody else opens an agent's stream or passes calls on; all others come with tokens, over TLS without a
/// certificate of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutualTls {
    /// The authorities whose certificates are believed, in a PEM file; a replica checks the leader's with them too.
    pub ca: PathBuf,
    /// DNS names of which an agent's certificate has one; `*.` at the beginning stands for one label.
    pub agents: Vec<String>,
    /// The same of a replica's. Such a certificate stands for the role operate where a call of a player is passed on.
    pub replicas: Vec<String>,
}

/// One of several control processes on one store, of which one leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// Its name, as no other replica is called.
    pub name: String,
    /// Base URL of its HTTP API as the other replicas reach it: `http://host:port`, `https://` under TLS.
    pub advertise: String,
    /// The token with which it asks the leader for the sake of players, of the role operate. Default none: nobody is asked for
    /// one, or its certificate says who asks. Other calls are passed on with the token that they came with.
    pub token: Option<Secret>,
    /// How long a call is held while nobody leads. Default 10 s.
    pub hold: Duration,
    /// Lease and renewal.
    pub times: LeaseTimes,
}

impl ReplicaConfig {
    /// The defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, advertise: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            advertise: advertise.into(),
            token: None,
            hold: Duration::from_secs(10),
            times: LeaseTimes::default(),
        }
    }
}

/// The listener that players reach themselves. Nobody is anonymous there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayersConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its TLS. Default none: plain HTTP, for a proxy in front.
    pub tls: Option<PairFiles>,
    /// How players are known.
    pub login: LoginConfig,
    /// Browser origins that may call, as `scheme://host:port`, or `*`.
    pub origins: Vec<String>,
    /// Fleets whose endpoints may be asked for.
    pub endpoints: Vec<FleetName>,
    /// Fleets whose rooms may be asked for by key: whoever knows a key may enter.
    pub rooms: Vec<FleetName>,
    /// Fleets into which players may be matched.
    pub tickets: Vec<FleetName>,
    /// The claim of the player token that has the rating of its player's tickets. Default none: they come without one.
    pub rating_claim: Option<String>,
    /// Who says which attribute of a player's ticket. Default nobody any.
    pub said: SaidAttributes,
    /// Calls of one player.
    pub per_player: Rate,
    /// Calls of one address, valid or not; of one /64 with IPv6.
    pub per_address: Rate,
    /// Proxies in front, each adding to X-Forwarded-For the address it was called from. With 0 it is not looked at.
    pub proxies: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
}

/// Who says which attribute of a player's ticket, by the attribute's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaidAttributes(pub BTreeMap<String, Says>);

/// Who says an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// The player, with the ticket.
    Player,
    /// The player token, in a claim of that name.
    Token,
}

/// How many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// How a player token is checked: a JWT whose `sub` is the player. `exp` is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginConfig {
    /// Where the keys are.
    pub keys: LoginKeys,
    /// Algorithms that are taken.
    pub algorithms: Vec<LoginAlgorithm>,
    /// Required in `aud`, so that a token for another service is of no use here.
    pub audience: String,
    /// Required as `iss`. `None`: anybody who has the key.
    pub issuer: Option<String>,
}

/// Where the keys of player tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginKeys {
    /// A JWK set, fetched at the start, every 5 min, and when a token names a key that is not known, at most every 10 s.
    Url(String),
    /// A JWK set, read again every 5 s.
    File(PathBuf),
    /// Secrets shared with the back end, for HS256; each of at least 32 bytes, all valid.
    Shared(Vec<Secret>),
}

/// Algorithms of player tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum LoginAlgorithm {
    EdDsa,
    Rs256,
    Es256,
    Hs256,
}

impl LoginAlgorithm {
    /// Its name in a token's header.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }
}

impl FromStr for LoginAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::EdDsa, Self::Rs256, Self::Es256, Self::Hs256];
        let found = all.into_iter().find(|algorithm| algorithm.word() == text);
        found.ok_or_else(|| format!("{text:?}; allowed: \"EdDSA\", \"RS256\", \"ES256\", \"HS256\""))
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

/// Who outside is told what happens: a webhook that takes messages as Slack does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// `http` or `https`. Whoever has it may post there.
    pub url: Secret,
    /// What is told there, and how often at most.
    pub wants: Subscription,
}

/// A number that is watched, and what is done when it crosses a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerConfig {
    /// Its name, as no other trigger is called.
    pub name: String,
    /// What it watches.
    pub gauge: Gauge,
    /// When it fires.
    pub trigger: Trigger,
    /// What is done then.
    pub action: Action,
    /// How long that may take. Default 30 s.
    pub timeout: Duration,
}

impl TriggerConfig {
    /// What the world is told of it.
    #[must_use]
    pub fn rule(&self) -> TriggerRule {
        let action = match self.action {
            Action::Exec(_) => ActionWord::Exec,
            Action::Post(_) => ActionWord::Post,
        };
        TriggerRule { name: self.name.clone(), gauge: self.gauge.clone(), trigger: self.trigger, action }
    }
}

/// What a trigger does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs this program with these arguments beside the control process that leads: no shell, its environment with what fired
    /// added, killed with its process group when it takes too long.
    Exec(Vec<String>),
    /// Posts to this address, `http` or `https`, again while there is time. Whoever has it may post there.
    Post(Secret),
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
