//! Owns the packets that open and close a namespace.
//! Never decides who may connect.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EncodeError, PacketKind, Prepared, json, prepared::Parts};
use crate::{SocketId, limits::JSON_DEPTH_CEILING};

/// What a server tells a client whose namespace is connected. A client reads it out of [`super::Packet::data`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The public id of the socket.
    pub sid: String,
    /// The secret of the session, sent only where sessions are recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
}

/// What a server tells a client that it refuses. A client reads it out of [`super::Packet::data`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectRefused {
    /// Why, in words or in a code.
    pub message: String,
    /// More about it, raw JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl Prepared {
    /// Client: asks for a namespace. `auth` is a raw JSON object.
    ///
    /// # Errors
    /// [`EncodeError::Namespace`], [`EncodeError::Json`], [`EncodeError::NotAnObject`].
    pub fn connect(namespace: &str, auth: Option<&str>) -> Result<Self, EncodeError> {
        if let Some(auth) = auth {
            json::check(auth, 0, JSON_DEPTH_CEILING)?;
            if !auth.trim_start().starts_with('{') {
                return Err(EncodeError::NotAnObject);
            }
        }
        control(PacketKind::Connect, namespace, auth.unwrap_or(""))
    }

    /// Server: the namespace is connected. `pid` is sent only where sessions are recovered, since its presence makes the
    /// client ask for recovery.
    ///
    /// # Errors
    /// [`EncodeError::Namespace`].
    pub fn connected(namespace: &str, sid: &SocketId, pid: Option<&str>) -> Result<Self, EncodeError> {
        let connected = Connected { sid: sid.as_str().to_owned(), pid: pid.map(str::to_owned) };
        let json = serde_json::to_string(&connected).map_err(EncodeError::Argument)?;
        control(PacketKind::Connect, namespace, &json)
    }

    /// Server: the namespace is refused. `data` is raw JSON. A stock client does not try again by itself.
    ///
    /// # Errors
    /// [`EncodeError::Namespace`], [`EncodeError::Json`].
    pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> Result<Self, EncodeError> {
        let message = serde_json::to_string(message).map_err(EncodeError::Argument)?;
        let json = match data {
            Some(data) => {
                json::check(data, 1, JSON_DEPTH_CEILING)?;
                format!(r#"{{"message":{message},"data":{data}}}"#)
            }
            None => format!(r#"{{"message":{message}}}"#),
        };
        control(PacketKind::ConnectError, namespace, &json)
    }

    /// Either role: leaves the namespace.
    ///
    /// # Errors
    /// [`EncodeError::Namespace`].
    pub fn disconnect(namespace: &str) -> Result<Self, EncodeError> {
        control(PacketKind::Disconnect, namespace, "")
    }
}

fn control(kind: PacketKind, namespace: &str, json: &str) -> Result<Prepared, EncodeError> {
    Prepared::assemble(&Parts { kind, namespace, id: None, json: &[json], attachments: &[] })
}
