//! The SDK for gameservers in Rust that are not our node's: what its agent is told and asked, over HTTP on loopback.
//!
//! Never calls by itself: who is silent for longer than its fleet's `probe` allows is unhealthy.

use std::time::Duration;

use greenroom_core::{FleetName, RoomId};
use greenroom_wire::link::Status;
use greenroom_wire::sdk::{GameServer, KeyValue, PeerList, Refused, RoomOver, path};
use greenroom_wire::token::PublicKeys;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest time for a whole call: it never leaves this machine.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call of the SDK failed.
#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// The agent answered, and refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// For people.
        message: String,
    },
    /// No answer, or none that is understood. The agent may be restarting: call again in a while.
    #[error("the agent does not answer")]
    Away(#[source] reqwest::Error),
}

/// One gameserver's way to its agent. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct Sdk {
    http: reqwest::Client,
    base: String,
}

impl Sdk {
    /// The way that `base` names, from the environment variable
    /// [`SDK_URL`](greenroom_wire::link::env::SDK_URL). Connects at the first call.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self, SdkError> {
        // Another part of the process may have installed it before; either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
        Ok(Self { http: http.build().map_err(SdkError::Away)?, base: base.trim_end_matches('/').to_owned() })
    }

    /// Tells that it can take players. Telling it again changes nothing.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn ready(&self) -> Result<(), SdkError> {
        self.tell(Method::POST, path::READY, &()).await
    }

    /// Tells that it lives.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn health(&self) -> Result<(), SdkError> {
        self.tell(Method::POST, path::HEALTH, &()).await
    }

    /// Asks to be stopped, for good. SIGTERM follows.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn shutdown(&self) -> Result<(), SdkError> {
        self.tell(Method::POST, path::SHUTDOWN, &()).await
    }

    /// What its agent knows of it.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn gameserver(&self) -> Result<GameServer, SdkError> {
        self.call(Method::GET, path::GAMESERVER, &()).await
    }

    /// Sets a label of its own; an empty value takes it away.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn set_label(&self, key: &str, value: &str) -> Result<(), SdkError> {
        let label = KeyValue { key: key.to_owned(), value: value.to_owned() };
        self.tell(Method::PUT, path::LABEL, &label).await
    }

    /// Tells its connections and rooms, whole; it counts as [`Sdk::health`] too. Once told, it is to be told every second.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn status(&self, status: &Status) -> Result<(), SdkError> {
        self.tell(Method::PUT, path::STATUS, status).await
    }

    /// Tells that a room is over. Telling it again changes nothing.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn room_ended(&self, room: &RoomId, over: &RoomOver) -> Result<(), SdkError> {
        self.tell(Method::POST, &path::ROOM_ENDED.replace("{room}", room.as_str()), over).await
    }

    /// The keys that join tokens are checked with; none before the agent has reached control once.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn keys(&self) -> Result<PublicKeys, SdkError> {
        self.call(Method::GET, path::KEYS, &()).await
    }

    /// The gameservers of a fleet, its own with `None`. Good for a second.
    ///
    /// # Errors
    /// See [`SdkError`].
    pub async fn peers(&self, fleet: Option<&FleetName>) -> Result<PeerList, SdkError> {
        let of = fleet.map(|fleet| format!("?fleet={fleet}")).unwrap_or_default();
        self.call(Method::GET, &format!("{}{of}", path::PEERS), &()).await
    }

    async fn tell(&self, method: Method, path: &str, body: &impl Serialize) -> Result<(), SdkError> {
        self.call::<serde_json::Value>(method, path, body).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, SdkError> {
        let request = self.http.request(method, format!("{}{path}", self.base)).json(body);
        // The address has the server's secret.
        let away = |error: reqwest::Error| SdkError::Away(error.without_url());
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(away);
        }
        let refused: Refused = answer.json().await.map_err(away)?;
        Err(SdkError::Refused { status: status.as_u16(), message: refused.message })
    }
}
