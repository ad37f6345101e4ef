//! Owns the payload of the open packet.
//! Never decides its values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a server tells a client when a session opens. A client role reads it leniently: unknown keys are ignored and a
/// missing `upgrades` or `maxPayload` is taken as empty or unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// The session id.
    pub sid: String,
    /// The transports that the session may move to: `["websocket"]` on polling, none on WebSocket.
    #[serde(default)]
    pub upgrades: Vec<String>,
    /// Time between two pings of the server, whole milliseconds on the wire.
    #[serde(with = "millis")]
    pub ping_interval: Duration,
    /// How long the server waits for a pong, whole milliseconds on the wire.
    #[serde(with = "millis")]
    pub ping_timeout: Duration,
    /// Bytes that the server takes in one message or polling body; 0 where a server does not tell.
    #[serde(default)]
    pub max_payload: u64,
}

/// Why an open payload cannot be read. The connection is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the open payload is not valid json")]
pub struct OpenError(#[source] serde_json::Error);

impl Open {
    /// The JSON to put into [`super::EnginePacket::Open`].
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always become json")
    }

    /// How long a client waits for the server's next ping before it gives the session up: interval plus timeout.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.ping_interval.saturating_add(self.ping_timeout)
    }

    /// Reads the payload of an open packet.
    ///
    /// # Errors
    /// JSON that is broken or lacks `sid`, `pingInterval` or `pingTimeout`.
    pub fn from_json(payload: &str) -> Result<Self, OpenError> {
        serde_json::from_str(payload).map_err(OpenError)
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    #[test]
    fn an_open_payload_reads_as_the_protocol_shows_it() {
        let open = Open {
            sid: "lv_VI97HAXpY6yYWAAAC".into(),
            upgrades: vec!["websocket".into()],
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
        };
        assert_eq!(open.to_json(), GOLDEN);
        assert_eq!(Open::from_json(GOLDEN).unwrap(), open);
    }

    #[test]
    fn an_open_payload_needs_its_heartbeat_times() {
        for payload in ["", "{}", "[]", r#"{"sid":"x","pingInterval":-1,"pingTimeout":1}"#, r#"{"sid":"x"}"#]
        {
            assert!(Open::from_json(payload).is_err(), "{payload}");
        }
    }
}
