//! What this node has to do with a Redis, where this build can: the way that nodes on several hosts share, and the ear for
//! emitters. Never looks at what travels there: `peers`, `recovery` and `emitters` do.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

#[cfg(feature = "redis")]
use greenroom_backplane::redis::{AddressError, RedisAddress};
use greenroom_backplane::way::Way;
use greenroom_core::InstanceId;
use greenroom_socketio::SocketId;
use greenroom_wire::link::options;

#[cfg(feature = "redis")]
use crate::config::Secret;
use crate::config::{Config, Store};
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
    Ok((Ways { node: node.to_string(), link, store }, work))
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
    fn an_address_that_is_none_is_told_with_its_variable_and_without_its_password() {
        assert!(address(&Secret::new("redis+sentinel://:hush@a,b,c/main"), options::STORE).is_ok());
        let told =
            address(&Secret::new("redis+sentinel://:hush@a,b,c"), options::STORE).unwrap_err().to_string();
        assert!(told.starts_with("GREENROOM_REDIS: the address of a Redis is written redis://"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
