//! What a client told when it came.
//! Never the headers as a whole: they would be kept for as long as the session lives.

use std::net::SocketAddr;
use std::rc::Rc;

use greenroom_socketio::engine::Query;
use greenroom_socketio::packet::Packet;

use crate::session::Session;

/// Where a session came from.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub(crate) address: SocketAddr,
    pub(crate) query: Box<str>,
    pub(crate) origin: Option<Box<str>>,
}

impl Handshake {
    /// The other end of the TCP connection that opened the session. A proxy's, where there is one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of a key of the URL's query as it was sent, not percent-decoded; the first where it came twice.
    #[must_use]
    pub fn query(&self, key: &str) -> Option<&str> {
        Query::parse(&self.query).pairs().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The page's origin, if a browser sent one. It was checked before.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

/// What a client asks a namespace with. Middlewares judge it.
pub struct ConnectRequest {
    pub(crate) packet: Packet,
    pub(crate) session: Rc<Session>,
}

impl std::fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `auth` holds secrets as a rule.
        write!(f, "ConnectRequest({})", self.namespace())
    }
}

impl ConnectRequest {
    /// The client's `auth` as a value of `T`. Without `auth` an empty object is read.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn auth<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.auth_raw())
    }

    /// The client's `auth` as JSON text, `{}` where there is none.
    #[must_use]
    pub fn auth_raw(&self) -> &str {
        if self.packet.data().is_empty() { "{}" } else { self.packet.data() }
    }

    /// The name of the namespace that is asked for.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.packet.namespace()
    }

    /// The value of a key of the query behind the namespace's name, not percent-decoded.
    #[must_use]
    pub fn namespace_query(&self, key: &str) -> Option<&str> {
        let query = Query::parse(self.packet.query()?);
        query.pairs().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Where the session came from.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.session.handshake
    }
}

/// Why a namespace is refused. The client gets it as `connect_error` and does not try again by itself, so it is never
/// the answer to a state that passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// `error.message` at the client.
    pub message: String,
    /// `error.data` at the client; `null` is left out.
    pub data: serde_json::Value,
}

impl Refusal {
    /// A refusal without data.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: serde_json::Value::Null }
    }

    /// The same with data.
    #[must_use]
    pub fn with_data(self, data: serde_json::Value) -> Self {
        Self { data, ..self }
    }
}
