//! The node's port: accepts connections, serves the few HTTP requests there are, hands WebSockets over raw.
//! Never keeps HTTP state for a WebSocket: hyper is gone once the upgrade was answered.

mod accept;
mod origin;
mod polling;
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
use crate::session::Session;
use crate::state::NodeState;

pub(crate) use accept::run as accept;

type Request = http::Request<Incoming>;
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
            "/readyz" => plain(StatusCode::OK, "ready"),
            _ => plain(StatusCode::NOT_FOUND, "not found"),
        }
    }

    async fn answer_engine(self: Rc<Self>, request: Request) -> Response {
        let allowed = origin::judge(request.headers(), &self.state.config.origins);
        let Some(allowed) = allowed else {
            self.state.counting.origins_refused_total.one();
            return refusal(RequestError::Forbidden);
        };
        let mut response = if request.method() == Method::OPTIONS {
            plain(StatusCode::NO_CONTENT, "")
        } else {
            self.route(request).await
        };
        allowed.mark(response.headers_mut());
        response
    }

    async fn route(self: Rc<Self>, request: Request) -> Response {
        let raw = request.uri().query().unwrap_or_default();
        let query = Query::parse(raw);
        let session = query
            .sid
            .and_then(|sid| sid.parse().ok())
            .and_then(|sid| self.state.sessions.borrow().get(&sid).cloned());
        let method = match *request.method() {
            Method::GET => HttpMethod::Get,
            Method::POST => HttpMethod::Post,
            _ => HttpMethod::Other,
        };
        let is_websocket = upgrade::is_asked(request.headers());
        let admitted = query.admit(method, is_websocket, session.as_ref().map(|session| session.transport()));
        match (admitted, session) {
            (Err(error), _) => {
                self.state.counting.requests_refused_total.one();
                refusal(error)
            }
            (Ok(Admitted::Open(_)), _) if self.state.is_full() => {
                self.state.counting.connections_refused_total.one();
                busy()
            }
            (Ok(Admitted::Open(Transport::Polling)), _) => {
                polling::open(&self.state, self.handshake(&request))
            }
            (Ok(Admitted::Open(Transport::WebSocket)), _) => {
                self.take_over(&request, Takeover::Open(self.handshake(&request)))
            }
            (Ok(Admitted::Poll), Some(session)) => polling::poll(&session).await,
            (Ok(Admitted::Post), Some(session)) => polling::post(&session, request).await,
            (Ok(Admitted::Upgrade), Some(session)) => {
                let takeover = upgrade::begin(&session);
                self.take_over(&request, takeover)
            }
            (Ok(Admitted::Poll | Admitted::Post | Admitted::Upgrade), None) => {
                refusal(RequestError::UnknownSession)
            }
        }
    }

    fn take_over(&self, request: &Request, takeover: Takeover) -> Response {
        let response = upgrade::accept(request.headers());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.takeover.replace(Some(takeover));
        } else if let Takeover::Upgrade(session) = takeover {
            session.abandon_upgrade();
        }
        response
    }

    fn handshake(&self, request: &Request) -> Handshake {
        let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        Handshake {
            address: self.address,
            query: request.uri().query().unwrap_or_default().into(),
            origin: origin.map(Into::into),
        }
    }
}

/// An Engine.IO error as clients know it.
fn refusal(error: RequestError) -> Response {
    let status = StatusCode::from_u16(error.status()).expect("an error has a valid status");
    respond(status, "application/json", Bytes::from_static(error.body().as_bytes()))
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
