//! What a program says to the side of the node below namespaces: who may open a session, which headers answers carry, and
//! what it hears of refusals and single packets.
//! Never asked for health endpoints or for requests of refused origins.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::engine::{EnginePacket, Query, RequestError};
use http::{HeaderMap, Method, Response, Uri};

use crate::connection::Connection;
use crate::node::Node;

/// The head of one HTTP request to the Engine.IO endpoint.
#[derive(Debug)]
pub struct EngineRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) address: SocketAddr,
    pub(crate) is_secure: bool,
}

impl EngineRequest {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn url(&self) -> &str {
        self.uri.path_and_query().map_or("", |url| url.as_str())
    }

    /// The value of a key of the query, not percent-decoded; the first where it came twice.
    #[must_use]
    pub fn query(&self, key: &str) -> Option<&str> {
        let query = Query::parse(self.uri.query().unwrap_or_default());
        query.pairs().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of a header, the first where it came twice; `None` also when it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The other end of the TCP connection. A proxy's, where there is one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it came by the node's own TLS. A proxy's is not seen.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it opens a session: it names none.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        Query::parse(self.uri.query().unwrap_or_default()).sid.is_none()
    }
}

/// A request that was refused, as the program hears of it.
#[derive(Debug)]
pub struct ConnectionError<'a> {
    /// The request.
    pub request: &'a EngineRequest,
    /// The code that the client gets: 0 unknown transport, 1 unknown session, 2 bad method, 3 bad request, 4 forbidden,
    /// 5 unsupported protocol version.
    pub code: u8,
    /// The message that the client gets.
    pub message: &'a str,
    /// What was wrong: the transport, session, method or version that was asked for, or the name of the fault.
    pub context: &'a str,
}

/// A refusal in the making.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: RequestError,
    pub(crate) message: Option<String>,
    pub(crate) context: String,
}

impl Refused {
    pub(crate) fn new(error: RequestError, context: impl Into<String>) -> Self {
        Self { error, message: None, context: context.into() }
    }

    pub(crate) fn forbidden(message: String) -> Self {
        Self { error: RequestError::Forbidden, context: message.clone(), message: Some(message) }
    }

    pub(crate) fn body(&self) -> Bytes {
        match &self.message {
            None => Bytes::from_static(self.error.body().as_bytes()),
            Some(message) => {
                Bytes::from(serde_json::json!({ "code": self.error.code(), "message": message }).to_string())
            }
        }
    }
}

pub(crate) type Allowing = Pin<Box<dyn Future<Output = Result<(), String>>>>;
type Allow = Box<dyn Fn(Rc<EngineRequest>) -> Allowing>;
type EngineMiddleware = Box<dyn Fn(&EngineRequest) -> Option<Response<Bytes>>>;
type OnHeaders = Box<dyn Fn(&EngineRequest, &mut HeaderMap)>;
type OnConnectionError = Box<dyn Fn(&ConnectionError<'_>)>;
type OnPacket = Box<dyn Fn(&Connection, &EnginePacket<'_>)>;
type OnDrain = Box<dyn Fn(&Connection)>;

/// All that a program registered. Each is empty by default and then costs nothing.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) allow: Option<Allow>,
    pub(crate) middlewares: Vec<EngineMiddleware>,
    pub(crate) on_initial_headers: Option<OnHeaders>,
    pub(crate) on_headers: Option<OnHeaders>,
    pub(crate) on_connection_error: Option<OnConnectionError>,
    pub(crate) on_packet: Option<OnPacket>,
    pub(crate) on_packet_create: Option<OnPacket>,
    pub(crate) on_drain: Option<OnDrain>,
}

impl Hooks {
    pub(crate) fn tell(&self, request: &EngineRequest, refused: &Refused) {
        if let Some(on_connection_error) = &self.on_connection_error {
            let standard = refused.error.to_string();
            on_connection_error(&ConnectionError {
                request,
                code: refused.error.code(),
                message: refused.message.as_deref().unwrap_or(&standard),
                context: &refused.context,
            });
        }
    }

    /// Lets the program write headers into an answer.
    pub(crate) fn mark(&self, request: &EngineRequest, headers: &mut HeaderMap) {
        if request.is_handshake()
            && let Some(on_initial_headers) = &self.on_initial_headers
        {
            on_initial_headers(request, headers);
        }
        if let Some(on_headers) = &self.on_headers {
            on_headers(request, headers);
        }
    }
}

impl Node {
    /// Judges who may open a session, before anything is kept for it: the text of an error is the message of a refusal
    /// `403` with code 4. It may wait, for the connect timeout at most, after which it counts as a no. A second
    /// registration replaces the first.
    pub fn allow_request<F>(&mut self, judge: impl Fn(Rc<EngineRequest>) -> F + 'static) -> &mut Self
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        self.hooks.allow = Some(Box::new(move |request| Box::pin(judge(request))));
        self
    }

    /// Called for every HTTP request to the Engine.IO endpoint, of which a WebSocket has one. An answer of its own ends
    /// the request. Several run in the order of their registration.
    pub fn engine_middleware(
        &mut self,
        middleware: impl Fn(&EngineRequest) -> Option<Response<Bytes>> + 'static,
    ) -> &mut Self {
        self.hooks.middlewares.push(Box::new(middleware));
        self
    }

    /// Called to change the headers of the answer that opens a session. A second registration replaces the first.
    pub fn on_initial_headers(
        &mut self,
        handler: impl Fn(&EngineRequest, &mut HeaderMap) + 'static,
    ) -> &mut Self {
        self.hooks.on_initial_headers = Some(Box::new(handler));
        self
    }

    /// Called to change the headers of every answer of the Engine.IO endpoint. A second registration replaces the
    /// first.
    pub fn on_headers(&mut self, handler: impl Fn(&EngineRequest, &mut HeaderMap) + 'static) -> &mut Self {
        self.hooks.on_headers = Some(Box::new(handler));
        self
    }

    /// Called for every request that was refused with an Engine.IO error. A second registration replaces the first.
    pub fn on_connection_error(&mut self, handler: impl Fn(&ConnectionError<'_>) + 'static) -> &mut Self {
        self.hooks.on_connection_error = Some(Box::new(handler));
        self
    }

    /// Called for each Engine.IO packet of a client on an open session, before it is acted on: messages, pongs and the
    /// close. A second registration replaces the first.
    pub fn on_packet(&mut self, handler: impl Fn(&Connection, &EnginePacket<'_>) + 'static) -> &mut Self {
        self.hooks.on_packet = Some(Box::new(handler));
        self
    }

    /// Called for each Engine.IO packet that is queued for a client: the open packet, messages and pings, of broadcasts
    /// once for each receiver. A handler that emits is called for that too. A second registration replaces the first.
    pub fn on_packet_create(
        &mut self,
        handler: impl Fn(&Connection, &EnginePacket<'_>) + 'static,
    ) -> &mut Self {
        self.hooks.on_packet_create = Some(Box::new(handler));
        self
    }

    /// Called when all that waited for a client has left for it: the moment to produce more for a slow one, of which
    /// [`Connection::waiting_bytes`] tells. A second registration replaces the first.
    pub fn on_drain(&mut self, handler: impl Fn(&Connection) + 'static) -> &mut Self {
        self.hooks.on_drain = Some(Box::new(handler));
        self
    }
}
