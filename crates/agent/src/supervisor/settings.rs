//! What the supervisor is told of its agent, and what of it a server is told when it is started.
//!
//! Never changes while the agent runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use greenroom_backplane::Limits;
use greenroom_core::HostName;
use greenroom_provider::StartSpec;
use greenroom_wire::Text;
use greenroom_wire::link::env;

use super::managed::Managed;
use crate::keeping::Holds;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this host.
    pub host: HostName,
    /// Base URL of control's HTTP API, told to servers.
    pub control: String,
    /// The authorities of its certificate, told to servers; none where it speaks plain HTTP.
    pub control_ca: Option<PathBuf>,
    /// Host part of the address players dial.
    pub public_host: String,
    /// Address servers bind.
    pub bind: IpAddr,
    /// Ports for servers.
    pub ports: RangeInclusive<u16>,
    /// For one of them the one that players dial, where that is another one.
    pub dialled: BTreeMap<u16, u16>,
    /// When an engine around the agent must hold this host.
    pub holds: Holds,
    /// Browser origins servers admit; empty: same-origin and non-browser only.
    pub allowed_origins: Vec<String>,
    /// Most servers at once.
    pub servers_max: u32,
    /// Where the link listens.
    pub link: SocketAddr,
    /// Where the SDK listens.
    pub sdk: SocketAddr,
    /// Whether shipped Agones SDKs can be given ports of their own here.
    pub agones: bool,
    /// What the board of each fleet may hold.
    pub boards: Limits,
}

impl Settings {
    /// The port that players dial for one that a server listens on.
    pub(super) fn dialled(&self, port: u16) -> u16 {
        self.dialled.get(&port).copied().unwrap_or(port)
    }

    pub(super) fn endpoint(&self, port: u16) -> String {
        let port = self.dialled(port);
        match self.public_host.parse() {
            Ok(IpAddr::V6(address)) => SocketAddr::from((address, port)).to_string(),
            Ok(IpAddr::V4(_)) | Err(_) => format!("{}:{port}", self.public_host),
        }
    }

    /// The process to start for a server: its command, its own environment, and the contract over it. Only `PORT`
    /// may be the fleet's own.
    pub(super) fn spec(&self, managed: &Managed) -> StartSpec {
        let (order, port) = (&managed.order, managed.port.to_string());
        let mut env = order.env.clone();
        env.entry(env::PORT.to_owned()).or_insert_with(|| port.clone());
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set(env::GREENROOM_PORT, port);
        set(env::BIND, self.bind.to_string());
        set(env::PUBLIC_ADDRESS, self.endpoint(managed.port));
        set(env::FLEET, order.fleet.to_string());
        set(env::SERVER, order.server.to_string());
        set(env::INSTANCE, managed.instance().to_string());
        set(env::HOST, self.host.to_string());
        set(env::REVISION, order.revision.to_string());
        set(env::LINK, self.link.to_string());
        set(env::LINK_SECRET, managed.secret.clone());
        set(env::SDK_URL, format!("http://{}/{}/{}", self.sdk, managed.instance(), managed.secret));
        if let Some(port) = managed.sdk_port {
            set(env::AGONES_GRPC_PORT, port.to_string());
            set(env::AGONES_HTTP_PORT, port.to_string());
        }
        set(env::CONTROL, self.control.clone());
        if let Some(ca) = &self.control_ca {
            set(env::CONTROL_CA, ca.display().to_string());
        }
        let optional = [
            (env::ROOMS_PER_SERVER, (order.rooms_per_server > 0).then(|| order.rooms_per_server.to_string())),
            (env::SEATS_PER_ROOM, (order.seats_per_room > 0).then(|| order.seats_per_room.to_string())),
            (
                env::ALLOWED_ORIGINS,
                (!self.allowed_origins.is_empty()).then(|| self.allowed_origins.join(",")),
            ),
        ];
        // The agent's own token is not for its servers.
        let own = (!env.contains_key(env::TOKEN) && !order.secrets.contains_key(env::TOKEN))
            .then(|| env::TOKEN.to_owned());
        let mut env_absent: Vec<String> = own.into_iter().collect();
        for (name, value) in optional {
            match value {
                Some(value) => drop(env.insert(name.to_owned(), value)),
                None if env.contains_key(name) => {}
                None => env_absent.push(name.to_owned()),
            }
        }
        StartSpec {
            server: order.server.0.clone(),
            instance: managed.instance(),
            command: order.command.clone(),
            env,
            secrets: order.secrets.iter().map(|(name, Text(from))| (name.clone(), from.clone())).collect(),
            env_absent,
        }
    }
}
