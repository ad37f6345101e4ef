//! What this node has to do with a Redis, where this build can: the way that nodes on several hosts share, the cluster with
//! Node.js servers, and the ear for emitters. Never looks at what travels there: `peers`, `recovery`, `cluster` and `emitters`
//! do.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

#[cfg(feature = "redis")]
use greenroom_backplane::redis::{AddressError, RedisAddress};
use greenroom_backplane::way::Way;
use greenroom_core::InstanceId;
use greenroom_socketio::SocketId;
use greenroom_socketio::adapter::STREAMS_MAX;
use greenroom_wire::link::options;

use crate::cluster::Cluster;
use crate::config::{Config, Secret, Store};
use crate::link::Link;
use crate::node::NodeError;
#[cfg(feature = "redis")]
use crate::node::NodeHandle;
use crate::state::{NodeState, Ways, random_id};

/// What must be done for a way to work; it ends with the way.
pub(crate) type StoreWork = Pin<Box<dyn Future<Output = ()>>>;

/// The ways that a configuration asks for.
pub(crate) fn ways(config: &Config, link: Option<Link>) -> Result<(Ways, Option<StoreWork>), NodeError> {
    let node = node_name(config);
    let opened = config.store.clone().map(|store| open(store, node.clone())).transpose()?;
    let (store, work) = opened.unzip();
    let cluster =
        config.adapter.as_ref().map(|adapter| Cluster::new(adapter.names.clone(), config.publish_bytes_max));
    Ok((Ways { node: node.to_string(), link, store, cluster }, work))
}

/// This node's name among the others: its instance, or one of chance.
fn node_name(config: &Config) -> InstanceId {
    let own = config.membership.as_ref().map(|membership| membership.instance.clone());
    own.unwrap_or_else(|| {
        let random: SocketId = random_id();
        format!("node-{random}").parse().expect("base64url is within the characters of an instance id")
    })
}

#[cfg(feature = "redis")]
fn open(store: Store, node: InstanceId) -> Result<(Way, StoreWork), NodeError> {
    use greenroom_backplane::redis::{RedisConfig, serve};
    let address = address(&store.url, options::STORE)?;
    let config = RedisConfig { prefix: store.prefix, ..RedisConfig::new(address, node) };
    let (way, work) = serve(config);
    Ok((way, Box::pin(work)))
}

#[cfg(feature = "redis")]
fn address(url: &Secret, variable: &'static str) -> Result<RedisAddress, NodeError> {
    url.reveal().parse().map_err(|why: AddressError| NodeError::Redis { variable, why: why.to_string() })
}

#[cfg(not(feature = "redis"))]
fn open(_store: Store, _node: InstanceId) -> Result<(Way, StoreWork), NodeError> {
    Err(NodeError::NoRedis { variable: options::STORE })
}

/// Whether this build can hear emitters, if it is to, and knows where.
#[cfg(feature = "redis")]
pub(crate) fn check_emitters(config: &Config) -> Result<(), NodeError> {
    let emitters = config.emitters.as_ref();
    emitters.map_or(Ok(()), |emitters| address(&emitters.url, options::EMITTERS).map(drop))
}

#[cfg(not(feature = "redis"))]
pub(crate) fn check_emitters(config: &Config) -> Result<(), NodeError> {
    match config.emitters {
        Some(_) => Err(NodeError::NoRedis { variable: options::EMITTERS }),
        None => Ok(()),
    }
}

/// Whether this node can be in the cluster that it is to be in: this build, what the node is for, and the address.
pub(crate) fn check_adapter(config: &Config, has_rooms: bool) -> Result<(), NodeError> {
    let Some(adapter) = &config.adapter else { return Ok(()) };
    let refused = |why| Err(NodeError::Adapter { why });
    if config.recovery.is_some() {
        return refused(
            "in a cluster with Node.js servers nothing is kept for clients that come back, so it does not go together with \
             GREENROOM_RECOVERY; take `recovery` out of the fleet, or GREENROOM_ADAPTER once no Node.js server is left",
        );
    }
    if has_rooms {
        return refused(
            "rooms have one owner each and no mesh; it is for servers without rooms, take it out of this fleet",
        );
    }
    if config.store.is_some() {
        return refused("a node is in one cluster or in a mesh of its own kind; leave Config::store out");
    }
    let names = &adapter.names;
    if names.stream.is_empty() || names.prefix.is_empty() || !(1..=STREAMS_MAX).contains(&names.streams) {
        return refused("stream name and channel prefix are not empty, and there are 1 to 64 streams");
    }
    check_address(&adapter.url)
}

#[cfg(feature = "redis")]
fn check_address(url: &Secret) -> Result<(), NodeError> {
    address(url, options::STORE).map(drop)
}

#[cfg(not(feature = "redis"))]
fn check_address(_url: &Secret) -> Result<(), NodeError> {
    Err(NodeError::NoRedis { variable: options::STORE })
}

/// Serves the cluster with Node.js servers, if there is to be one, until the node has ended.
#[cfg(feature = "redis")]
pub(crate) fn join_cluster(state: &Rc<NodeState>) {
    use greenroom_backplane::adapter::AdapterConfig;
    if let Some(config) = &state.config.adapter {
        let at = address(&config.url, options::STORE).expect("it was checked before the node was bound");
        let adapter = AdapterConfig {
            entries_max: config.entries_max,
            waiting_bytes_max: config.waiting_bytes_max,
            ..AdapterConfig::new(at, config.names.all_streams())
        };
        NodeHandle(Rc::clone(state)).spawn(crate::cluster::run(Rc::clone(state), adapter));
    }
}

#[cfg(not(feature = "redis"))]
pub(crate) fn join_cluster(_state: &Rc<NodeState>) {}

/// Hears emitters, if it is to, until the node has ended.
#[cfg(feature = "redis")]
pub(crate) fn hear_emitters(state: &Rc<NodeState>) {
    if let Some(config) = state.config.emitters.clone() {
        let at = address(&config.url, options::EMITTERS).expect("it was checked before the node was bound");
        NodeHandle(Rc::clone(state)).spawn(crate::emitters::run(Rc::clone(state), config, at));
    }
}

#[cfg(not(feature = "redis"))]
pub(crate) fn hear_emitters(_state: &Rc<NodeState>) {}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_with_a_cluster_is_refused_with_what_to_do() {
        use crate::config::{Adapter, Recovery};
        let adapter = Adapter::at(Secret::new("redis://127.0.0.1:6379"));
        let store = Store { url: adapter.url.clone(), prefix: "greenroom".to_owned() };
        let own = Config { adapter: Some(adapter.clone()), ..Config::default() };
        assert!(check_adapter(&own, false).is_ok());
        assert!(check_adapter(&Config::default(), true).is_ok());
        let mut unnamed = adapter;
        unnamed.names.stream = String::new();
        let cases = [
            (
                Config { recovery: Some(Recovery::default()), ..own.clone() },
                false,
                "take `recovery` out of the fleet",
            ),
            (own.clone(), true, "take it out of this fleet"),
            (Config { store: Some(store), ..own.clone() }, false, "leave Config::store out"),
            (Config { adapter: Some(unnamed), ..own.clone() }, false, "stream name"),
            (
                Config { adapter: Some(Adapter::at(Secret::new("x"))), ..own },
                false,
                "GREENROOM_REDIS: the address",
            ),
        ];
        for (config, has_rooms, why) in cases {
            let told = check_adapter(&config, has_rooms).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_variable_and_without_its_password() {
        assert!(address(&Secret::new("redis+sentinel://:hush@a,b,c/main"), options::STORE).is_ok());
        let told =
            address(&Secret::new("redis+sentinel://:hush@a,b,c"), options::STORE).unwrap_err().to_string();
        assert!(told.starts_with("GREENROOM_REDIS: the address of a Redis is written redis://"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
