//! What a client told when it came.
//! Never a header that nobody asked for: it would be kept for as long as the session lives.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use greenroom_socketio::engine::Query;
use greenroom_socketio::packet::Packet;
use http::HeaderMap;

use crate::config::KeptHeaders;
use crate::hooks::EngineRequest;
use crate::session::Session;

/// Where a session came from.
#[derive(Debug, Clone)]
pub struct Handshake {
    address: SocketAddr,
    issued_at: SystemTime,
    url: Box<str>,
    origin: Option<Box<str>>,
    is_cross_origin: bool,
    is_secure: bool,
    headers: Option<Box<HeaderMap>>,
}

impl Handshake {
    pub(crate) fn new(request: &EngineRequest, kept: &KeptHeaders) -> Self {
        let origin = request.header("origin");
        let own = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let headers = match kept {
            KeptHeaders::None => None,
            KeptHeaders::All => Some(Box::new(request.headers.clone())),
            KeptHeaders::Listed(names) => {
                let mut headers = HeaderMap::new();
                for name in names {
                    for value in request.headers.get_all(name) {
                        headers.append(name, value.clone());
                    }
                }
                (!headers.is_empty()).then(|| Box::new(headers))
            }
        };
        Self {
            address: request.address,
            issued_at: SystemTime::now(),
            url: request.url().into(),
            origin: origin.map(Into::into),
            is_cross_origin: origin.is_some() && own != request.header("host"),
            is_secure: request.is_secure(),
            headers,
        }
    }

    /// Whether the session was opened by the node's own TLS. A proxy's is not seen.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The other end of the TCP connection that opened the session. A proxy's, where there is one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the session was opened, by the wall clock.
    #[must_use]
    pub fn issued_at(&self) -> SystemTime {
        self.issued_at
    }

    /// Path and query of the request that opened the session.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The value of a key of the URL's query as it was sent, not percent-decoded; the first where it came twice.
    #[must_use]
    pub fn query(&self, key: &str) -> Option<&str> {
        let (_, query) = self.url.split_once('?')?;
        Query::parse(query).pairs().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The page's origin, if a browser sent one. It was checked before.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Whether the page came from another host or port than this node's.
    #[must_use]
    pub fn is_cross_origin(&self) -> bool {
        self.is_cross_origin
    }

    /// A header of the request that opened the session, if [`crate::Config::headers_kept`] keeps it; the first where it
    /// came twice.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.as_ref()?.get(name).and_then(|value| value.to_str().ok())
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
