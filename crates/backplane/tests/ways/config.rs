//! How nodes of tests reach a Redis.

use std::time::Duration;

use greenroom_backplane::conformance::limits;
use greenroom_backplane::redis::{RedisAddress, RedisConfig};
use greenroom_core::InstanceId;

/// How often nodes of tests say that they are there.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(200);

pub(crate) fn config_at(port: u16, node: InstanceId) -> RedisConfig {
    config_of(format!("redis://127.0.0.1:{port}").parse().unwrap(), node)
}

pub(crate) fn config_of(address: RedisAddress, node: InstanceId) -> RedisConfig {
    RedisConfig { heartbeat: HEARTBEAT, limits: limits(), ..RedisConfig::new(address, node) }
}
