//! The connections of one node to its Redis: one for commands, one that waits for events, one that hears shouts.
//! Never mends one: whichever breaks, all are made anew.

use std::fmt::Display;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSubStream};
use ::redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Value, cmd};

use super::RedisConfig;
use super::names::Names;

/// How long a read waits in the store for the next event.
const BLOCK: Duration = Duration::from_secs(1);
pub(super) struct Connections {
    pub(super) commands: MultiplexedConnection,
    pub(super) reader: MultiplexedConnection,
    pub(super) shouts: PubSubStream,
    /// The store's number of the reader.
    pub(super) reader_id: u64,
    /// Hashes of the scripts.
    pub(super) history: String,
    pub(super) nodes: String,
    pub(super) rooms: String,
}

impl Connections {
    pub(super) async fn open(config: &RedisConfig, names: &Names) -> Result<Self, String> {
        let client = config.address.client(config.answer_within).await.map_err(|error| why(&error))?;
        let opening = Self::open_all(&client, config, names);
        match tokio::time::timeout(config.answer_within * 3, opening).await {
            Ok(Ok(connections)) => Ok(connections),
            Ok(Err(error)) => Err(why(&error)),
            Err(_late) => Err("the store accepts connections and does not answer".to_owned()),
        }
    }

    async fn open_all(client: &Client, config: &RedisConfig, names: &Names) -> RedisResult<Self> {
        let settings = AsyncConnectionConfig::new().set_connection_timeout(Some(config.answer_within));
        let commands = settings.clone().set_response_timeout(Some(config.answer_within));
        let mut commands = client.get_multiplexed_async_connection_with_config(&commands).await?;
        let reader = settings.set_response_timeout(Some(config.answer_within + BLOCK));
        let mut reader = client.get_multiplexed_async_connection_with_config(&reader).await?;
        let mut shouts = client.get_async_pubsub().await?;
        shouts.subscribe(&[names.shout(), names.shout_to(config.node.as_str())]).await?;
        let load = |script: &'static str| {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(script);
            load
        };
        let history = load(include_str!("history.lua")).query_async(&mut commands).await?;
        let nodes: String = load(include_str!("nodes.lua")).query_async(&mut commands).await?;
        let rooms = load(include_str!("rooms.lua")).query_async(&mut commands).await?;
        // A store that takes no writes, be it full or a replica, is as good as none.
        let beat = super::nodes_call(names, &nodes, "beat", config.node.as_str(), config.dead_ms());
        beat.query_async::<()>(&mut commands).await?;
        let reader_id = cmd("CLIENT").arg("ID").query_async(&mut reader).await?;
        Ok(Self { commands, reader, shouts: shouts.into_on_message(), reader_id, history, nodes, rooms })
    }
}

/// Sends commands as one pipeline.
pub(super) async fn send(mut to: MultiplexedConnection, commands: Pipeline) -> Result<Vec<Value>, String> {
    let count = commands.cmd_iter().count();
    to.send_packed_commands(&commands, 0, count).await.map_err(|error| why(&error))
}

/// Waits a while for events of any of these logs, each after an offset, at most so many of each.
pub(super) async fn read(
    mut from: MultiplexedConnection,
    logs: Vec<(String, u64)>,
    events_max: usize,
) -> Result<Value, String> {
    let mut read = cmd("XREAD");
    let block_ms = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
    read.arg("COUNT").arg(events_max).arg("BLOCK").arg(block_ms).arg("STREAMS");
    for (log, _) in &logs {
        read.arg(log);
    }
    for (_, after) in &logs {
        read.arg(format!("{after}-0"));
    }
    from.send_packed_command(&read).await.map_err(|error| why(&error))
}

fn why(error: &dyn Display) -> String {
    format!("the store: {error}")
}
