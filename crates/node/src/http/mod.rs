//! The node's port: accepts connections, serves the few HTTP requests there are, hands WebSockets over raw.
//! Never keeps HTTP state for a WebSocket: hyper is gone once the upgrade was answered.

mod accept;
mod compress;
mod fresh;
pub(crate) mod options;
mod origin;
mod polling;
mod served;
mod upgrade;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::engine::{Admitted, HttpMethod, Query, RequestError, Transport};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::handshake::Handshake;
use crate::hooks::{EngineRequest, Refused};
use crate::session::Session;
use crate::state::NodeState;

pub(crate) use accept::run as accept;
pub(crate) use fresh::Fresh;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A request without a body to read has none.
type Request = http::Request<Option<Incoming>>;
type Response = http::Response<Full<Bytes>>;
type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

/// What becomes of a connection whose request was answered with 101.
enum Takeover {
    Open(Handshake),
    Upgrade(Rc<Session>),
    /// The session has moved before: the WebSocket is opened and closed, as clients expect.
    Refuse,
}

/// Serves the requests of one connection.
struct Door {
    state: Rc<NodeState>,
    address: SocketAddr,
    is_secure: bool,
    takeover: RefCell<Option<Takeover>>,
}

impl Door {
    async fn answer(self: Rc<Self>, request: Request) -> Response {
        let path = request.uri().path();
        if path == self.state.config.path || Some(path) == self.state.config.path.strip_suffix('/') {
            return self.answer_engine(request).await;
        }
        match path {
            "/livez" => plain(StatusCode::OK, "alive"),
            "/readyz" if self.state.stopping.is_cancelled() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "stopping")
            }
            "/readyz" if self.state.is_backplane_down() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "the backplane cannot be reached")
            }
            "/readyz" => plain(StatusCode::OK, "ready"),
            _ => plain(StatusCode::NOT_FOUND, "not found"),
        }
    }

    async fn answer_engine(self: Rc<Self>, request: Request) -> Response {
        let config = &self.state.config;
        let (parts, body) = request.into_parts();
        let request = Rc::new(EngineRequest {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            // An IPv4 client of a dual stack has its own address, not one in IPv6 dress.
            address: SocketAddr::new(self.address.ip().to_canonical(), self.address.port()),
            is_secure: self.is_secure,
        });
        let Some(allowed) = origin::judge(&request.headers, &config.origins) else {
            self.state.counting.origins_refused_total.one();
            let refused = Refused::new(RequestError::Forbidden, "ORIGIN");
            self.state.hooks.tell(&request, &refused);
            return refusal(&refused);
        };
        let is_preflight = request.method == Method::OPTIONS;
        let mut response = if is_preflight {
            plain(StatusCode::NO_CONTENT, "")
        } else if let Some(own) = self.state.hooks.middlewares.iter().find_map(|middle| middle(&request)) {
            own.map(Full::new)
        } else {
            match self.route(&request, body).await {
                Ok(response) => response,
                Err(refused) => {
                    self.state.counting.requests_refused_total.one();
                    self.state.hooks.tell(&request, &refused);
                    refusal(&refused)
                }
            }
        };
        allowed.mark(response.headers_mut(), &config.cors, is_preflight);
        self.state.hooks.mark(&request, response.headers_mut());
        response
    }

    async fn route(&self, request: &Rc<EngineRequest>, body: Option<Incoming>) -> Result<Response, Refused> {
        let query = Query::parse(request.uri.query().unwrap_or_default());
        let config = &self.state.config;
        let is_spoken = |name: &str| {
            let all = [Transport::Polling, Transport::WebSocket];
            all.into_iter().any(|known| known.as_str() == name && config.transports.has(known))
        };
        if !query.transport.is_some_and(is_spoken) {
            return Err(refused(RequestError::UnknownTransport, &query, request));
        }
        let session = query
            .sid
            .and_then(|sid| sid.parse().ok())
            .and_then(|sid| self.state.sessions.borrow().get(&sid).cloned());
        let method = match request.method {
            Method::GET => HttpMethod::Get,
            Method::POST => HttpMethod::Post,
            _ => HttpMethod::Other,
        };
        let is_websocket = upgrade::is_asked(&request.headers);
        let now_on = session.as_ref().map(|session| session.transport());
        let admitted =
            query.admit(method, is_websocket, now_on).map_err(|error| refused(error, &query, request))?;
        if let Admitted::Open(transport) = admitted {
            return self.open(request, transport).await;
        }
        let Some(session) = session else {
            return Err(refused(RequestError::UnknownSession, &query, request));
        };
        match admitted {
            Admitted::Poll => Ok(polling::poll(&session, request).await),
            Admitted::Post => Ok(polling::post(&session, body).await),
            Admitted::Upgrade if config.allow_upgrades => {
                let takeover = upgrade::begin(&session);
                Ok(self.take_over(request, takeover))
            }
            Admitted::Upgrade | Admitted::Open(_) => {
                Err(Refused::new(RequestError::BadRequest, "UPGRADES_ARE_OFF"))
            }
        }
    }

    async fn open(&self, request: &Rc<EngineRequest>, transport: Transport) -> Result<Response, Refused> {
        self.allow(request).await?;
        if self.state.is_full() {
            self.state.counting.connections_refused_total.one();
            return Ok(busy());
        }
        let handshake = Handshake::new(request, &self.state.config.headers_kept);
        Ok(match transport {
            Transport::Polling => polling::open(&self.state, handshake),
            Transport::WebSocket => self.take_over(request, Takeover::Open(handshake)),
        })
    }

    /// Asks the program, if it wants to be asked.
    async fn allow(&self, request: &Rc<EngineRequest>) -> Result<(), Refused> {
        let Some(allow) = &self.state.hooks.allow else { return Ok(()) };
        let judged = tokio::time::timeout(self.state.config.connect_timeout, allow(Rc::clone(request))).await;
        match judged {
            Ok(judged) => judged.map_err(Refused::forbidden),
            Err(_) => Err(Refused::new(RequestError::Forbidden, "TIMEOUT")),
        }
    }

    fn take_over(&self, request: &EngineRequest, takeover: Takeover) -> Response {
        let response = upgrade::accept(&request.headers);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.takeover.replace(Some(takeover));
        } else if let Takeover::Upgrade(session) = takeover {
            session.abandon_upgrade();
        }
        response
    }
}

/// A refusal with what was wrong.
fn refused(error: RequestError, query: &Query<'_>, request: &EngineRequest) -> Refused {
    let context = match error {
        RequestError::UnknownTransport => query.transport.unwrap_or_default().to_owned(),
        RequestError::UnknownSession => query.sid.unwrap_or_default().to_owned(),
        RequestError::BadHandshakeMethod => request.method.to_string(),
        RequestError::BadRequest if query.sid.is_some() => "TRANSPORT_MISMATCH".to_owned(),
        RequestError::BadRequest => "TRANSPORT_HANDSHAKE_ERROR".to_owned(),
        RequestError::UnsupportedProtocol => query.version.unwrap_or_default().to_owned(),
        RequestError::Forbidden => String::new(),
    };
    Refused::new(error, context)
}

/// An Engine.IO error as clients know it.
fn refusal(refused: &Refused) -> Response {
    let status = StatusCode::from_u16(refused.error.status()).expect("an error has a valid status");
    respond(status, "application/json", refused.body())
}

/// The node takes nobody right now.
fn busy() -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "busy");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    respond(status, "text/plain; charset=UTF-8", Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    let mut response = http::Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
