//! Hears what programs outside of the servers publish in a Redis for all of them, as the npm package
//! `@socket.io/redis-emitter` does. What is published while nobody listens is gone, as it is with the npm servers.
//!
//! Never looks into what it hears, and never lets more wait than it may: the rest is left out and told as a number.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, FromRedisValue as _, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value, cmd,
};
use greenroom_redis::RedisAddress;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use crate::attempts::Attempts;
use crate::pushes::Queue;

/// Time between two looks at whether the Redis still answers.
const BEAT: Duration = Duration::from_secs(5);

/// Where emitters are heard.
#[derive(Debug, Clone)]
pub struct EmittersConfig {
    /// One address, or the name of a primary that sentinels follow. Version 6 or later.
    pub address: RedisAddress,
    /// The channels, in patterns for `PSUBSCRIBE`.
    pub patterns: Vec<String>,
    /// Bytes that may wait to be told; a message beyond it is left out. Default 8 MiB.
    pub waiting_bytes_max: usize,
    /// A Redis that takes longer for an answer counts as down. Default 2 s.
    pub answer_within: Duration,
}

impl EmittersConfig {
    /// The defaults.
    #[must_use]
    pub fn new(address: RedisAddress, patterns: Vec<String>) -> Self {
        Self { address, patterns, waiting_bytes_max: 8 << 20, answer_within: Duration::from_secs(2) }
    }
}

/// What [`listen`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// All channels are listened to, for the first time or again.
    Up,
    /// They are not any more, or not yet.
    Down {
        /// For people.
        why: String,
    },
    /// Somebody published something.
    Message {
        /// Where.
        channel: String,
        /// What.
        message: Vec<u8>,
    },
    /// So many messages were left out, because others waited.
    Lost {
        /// How many since it was last told.
        messages: u64,
    },
}

/// Listens for ever, and tells in the order in which it was published. A Redis that cannot be reached is told once and
/// tried again. To be dropped when nobody wants to hear any more.
pub async fn listen(config: EmittersConfig, mut tell: impl FnMut(Heard)) {
    let mut attempts = Attempts::new();
    loop {
        let (queue, mut waiting) = Queue::new(config.waiting_bytes_max);
        let why = match open(&config, Arc::clone(&queue)).await {
            Ok(connection) => {
                attempts.reached();
                tell(Heard::Up);
                tokio::select! {
                    why = hear(&queue, &mut waiting, &mut tell) => why,
                    why = beat(connection) => why,
                }
            }
            Err(why) => why,
        };
        if attempts.failed(&why) {
            tell(Heard::Down { why });
        }
        sleep(attempts.pause()).await;
    }
}

async fn open(config: &EmittersConfig, queue: Arc<Queue>) -> Result<MultiplexedConnection, String> {
    let client = config.address.client(config.answer_within).await.map_err(|error| error.to_string())?;
    match timeout(config.answer_within * 3, listen_at(&client, config, queue)).await {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_late) => Err("it accepts connections and does not answer".to_owned()),
    }
}

async fn listen_at(
    client: &Client,
    config: &EmittersConfig,
    queue: Arc<Queue>,
) -> RedisResult<MultiplexedConnection> {
    let info = client.get_connection_info();
    // Only so does the client hand on what is published without a queue of its own, which would have no bound.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.clone().set_redis_settings(settings))?;
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.answer_within))
        .set_response_timeout(Some(config.answer_within))
        .set_push_sender(move |info| queue.push(info));
    let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
    connection.psubscribe(&config.patterns).await?;
    Ok(connection)
}

/// Tells what comes, until the connection ends.
async fn hear(
    queue: &Queue,
    waiting: &mut UnboundedReceiver<PushInfo>,
    tell: &mut impl FnMut(Heard),
) -> String {
    while let Some(info) = waiting.recv().await {
        if info.kind == PushKind::PMessage {
            queue.took(&info);
            if let Some(heard) = message(&info.data) {
                tell(heard);
            }
            let messages = queue.take_lost();
            if messages > 0 {
                tell(Heard::Lost { messages });
            }
        } else if info.kind == PushKind::Disconnection {
            break;
        }
    }
    "it has closed the connection".to_owned()
}

/// Pattern, channel and message.
fn message(data: &[Value]) -> Option<Heard> {
    let [_, channel, message] = data else { return None };
    let channel = String::from_redis_value_ref(channel).ok()?;
    Some(Heard::Message { channel, message: Vec::from_redis_value_ref(message).ok()? })
}

/// Asks from time to time, because a Redis whose machine is gone does not close its connections.
async fn beat(mut connection: MultiplexedConnection) -> String {
    loop {
        sleep(BEAT).await;
        if let Err(error) = cmd("PING").query_async::<()>(&mut connection).await {
            return error.to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushes::MESSAGE_BYTES;

    fn info(bytes: usize) -> PushInfo {
        let text = |text: &[u8]| Value::BulkString(text.to_vec());
        let data = vec![text(b"socket.io#*"), text(b"socket.io#/#"), text(&vec![7; bytes])];
        PushInfo { kind: PushKind::PMessage, data }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_what_was_left_out_is_told_as_a_number() {
        let (queue, mut waiting) = Queue::new(3 * (1000 + MESSAGE_BYTES + 30));
        for bytes in [1000, 1000, 1000, 1000, 5_000_000, 10] {
            queue.push(info(bytes)).expect("somebody hears");
        }
        queue.push(PushInfo { kind: PushKind::Disconnection, data: vec![] }).expect("somebody hears");
        let mut told = Vec::new();
        hear(&queue, &mut waiting, &mut |heard| told.push(heard)).await;
        let lengths: Vec<u64> = told
            .iter()
            .map(|heard| match heard {
                Heard::Message { channel, message } if channel == "socket.io#/#" => message.len() as u64,
                Heard::Lost { messages } => *messages,
                Heard::Message { .. } | Heard::Up | Heard::Down { .. } => panic!("{heard:?}"),
            })
            .collect();
        assert_eq!(lengths, [1000, 3, 1000, 1000], "three waited, three were left out");
        assert_eq!(queue.waiting_bytes(), 0);
        queue.push(info(1000)).expect("there is room again");
        assert!(waiting.recv().await.is_some());
    }
}
