//! One client's requests, each handed to the server that it belongs to.
//!
//! Never keeps anything of a session: the next request may come to another edge.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::Edge;
use crate::dial::{DialError, Upstream};
use crate::headers;
use crate::members::Backend;
use crate::refused::{Body, Refused};
use crate::sid::{self, Asked, Wanted};
use crate::splice::{Side, Stream, splice};

/// How many servers a request for any of them is offered to.
const TRIES: usize = 3;
/// How long a server may take to open a session.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// How long it may take to answer anything else. A long poll ends with the server's next ping at the latest.
const ANSWER_MAX: Duration = Duration::from_mins(5);
/// Largest answer to a handshake.
const OPEN_BYTES_MAX: usize = 256 * 1024;

/// A connection of a client.
pub(crate) struct Visitor {
    edge: Arc<Edge>,
    peer: IpAddr,
    is_secure: bool,
    /// The connection to the server that was asked last. One for each client: requests on a connection come one by one.
    upstream: Mutex<Option<Upstream>>,
    place: Arc<OwnedSemaphorePermit>,
}

/// What a request is about, besides what it holds.
struct Errand {
    opens: bool,
    /// The answer's session id gets the server's tag.
    is_tagged: bool,
    is_upgrade: bool,
}

impl Visitor {
    pub(crate) fn new(edge: Arc<Edge>, peer: IpAddr, is_secure: bool, place: OwnedSemaphorePermit) -> Self {
        Self { edge, peer, is_secure, upstream: Mutex::new(None), place: Arc::new(place) }
    }

    /// Hands the request on and gives back what its server says.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        self.hand_on(request).await.unwrap_or_else(|refused| refused.answer(origin.as_ref()))
    }

    async fn hand_on(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let target = request.uri().path_and_query().cloned().ok_or(Refused::BadRequest)?;
        let asked = Asked::read(target.query().unwrap_or_default());
        let is_get = request.method() == Method::GET;
        let is_upgrade = is_get && headers::asks_for_websocket(request.headers());
        let is_tagged = is_get && asked.opens && asked.polls;
        let upgrade = is_upgrade.then(|| hyper::upgrade::on(&mut request));
        let target = match &asked.wanted {
            Wanted::Session { query, .. } => format!("{}?{query}", target.path()).parse(),
            Wanted::Stranger | Wanted::Server(_) | Wanted::Any => Ok(target.clone()),
        };
        let errand = Errand { opens: asked.opens, is_tagged, is_upgrade };
        let request = self.rewritten(request, target.map_err(|_| Refused::BadRequest)?, &errand);
        let (upstream, is_used) = self.reach(&asked.wanted, is_upgrade).await?;
        let (answer, upstream) = self.ask(upstream, is_used, request, errand.opens).await?;
        match upgrade {
            Some(client) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(self.tunnel(client, answer, upstream.backend))
            }
            Some(_) | None => self.told(answer, upstream, &errand).await,
        }
    }

    /// The request as the server gets it.
    fn rewritten(
        &self,
        request: Request<Incoming>,
        target: PathAndQuery,
        errand: &Errand,
    ) -> Request<Incoming> {
        let (mut parts, body) = request.into_parts();
        parts.uri = target.into();
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        headers::strip(&mut parts.headers);
        // What it asks for was answered where the body is read: here.
        parts.headers.remove(header::EXPECT);
        headers::forward(&mut parts.headers, self.peer, self.is_secure);
        if errand.is_upgrade {
            headers::upgrade(&mut parts.headers);
        }
        if errand.is_tagged {
            parts.headers.remove(header::ACCEPT_ENCODING);
        }
        Request::from_parts(parts, body)
    }

    /// A connection to the server that is wanted, and whether it carried a request before.
    async fn reach(&self, wanted: &Wanted<'_>, is_upgrade: bool) -> Result<(Upstream, bool), Refused> {
        let known = match *wanted {
            Wanted::Session { tag, .. } => {
                let found = self.edge.find(|members| members.tagged(tag, Instant::now())).await;
                found.ok_or(Refused::UnknownSession)?
            }
            Wanted::Stranger => return Err(Refused::UnknownSession),
            Wanted::Server(name) => {
                let found = self.edge.find(|members| members.named(name, Instant::now())).await;
                found.ok_or(Refused::UnknownServer)?
            }
            Wanted::Any => return self.reach_any(is_upgrade).await,
        };
        let name = known.name.clone();
        self.connect(known, is_upgrade).await.map_err(|error| {
            debug!(server = %name, %error, "a server could not be reached");
            Refused::Gone
        })
    }

    async fn reach_any(&self, is_upgrade: bool) -> Result<(Upstream, bool), Refused> {
        let mut tried = Vec::new();
        for _ in 0..TRIES {
            let chosen = self.edge.members().choose(&tried, Instant::now()).ok_or(Refused::Nobody)?;
            let name = chosen.name.clone();
            match self.connect(chosen, is_upgrade).await {
                Ok(reached) => return Ok(reached),
                Err(error) => {
                    self.edge.members().avoid(&name, Instant::now());
                    warn!(server = %name, error = %greenroom_wire::error::chain(&error), "a server could not be reached; another one is tried");
                    tried.push(name);
                }
            }
        }
        Err(Refused::Nobody)
    }

    async fn connect(&self, to: Arc<Backend>, is_upgrade: bool) -> Result<(Upstream, bool), DialError> {
        let kept = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept.filter(|kept| !is_upgrade && kept.fits(&to)) {
            Some(kept) => Ok((kept, true)),
            None => Ok((self.edge.dialler.dial(to).await?, false)),
        }
    }

    /// The server's answer. A request that never left, because the connection had ended meanwhile, goes over a new one.
    async fn ask(
        &self,
        mut upstream: Upstream,
        is_used: bool,
        request: Request<Incoming>,
        opens: bool,
    ) -> Result<(Response<Incoming>, Upstream), Refused> {
        let within = if opens { OPEN_MAX } else { ANSWER_MAX };
        let first = timeout(within, upstream.sender.try_send_request(request)).await;
        let mut error = match first.map_err(|_| self.late(&upstream))? {
            Ok(answer) => return Ok((answer, upstream)),
            Err(error) => error,
        };
        let Some(request) = error.take_message().filter(|_| is_used) else {
            debug!(server = %upstream.backend.name, error = %error.error(), "a server went away");
            return Err(Refused::Gone);
        };
        let backend = Arc::clone(&upstream.backend);
        let mut upstream = self.edge.dialler.dial(backend).await.map_err(|_| Refused::Gone)?;
        let second = timeout(within, upstream.sender.send_request(request)).await;
        let answer = second.map_err(|_| self.late(&upstream))?.map_err(|_| Refused::Gone)?;
        Ok((answer, upstream))
    }

    fn late(&self, upstream: &Upstream) -> Refused {
        let name = &upstream.backend.name;
        self.edge.members().avoid(name, Instant::now());
        warn!(server = %name, "a server did not answer in time");
        Refused::Late
    }

    /// What the client is told; the connection waits for its next request.
    async fn told(
        &self,
        answer: Response<Incoming>,
        upstream: Upstream,
        errand: &Errand,
    ) -> Result<Response<Body>, Refused> {
        let (mut parts, body) = answer.into_parts();
        headers::strip(&mut parts.headers);
        let body = if errand.is_tagged && parts.status == StatusCode::OK {
            let whole = timeout(OPEN_MAX, Limited::new(body, OPEN_BYTES_MAX).collect()).await;
            let whole = whole.map_err(|_| self.late(&upstream))?.map_err(|_| Refused::Gone)?.to_bytes();
            // What is no open packet passes as it is.
            let body = sid::tagged(&whole, &upstream.backend.tag).map_or(whole, Bytes::from);
            parts.headers.remove(header::CONTENT_LENGTH);
            Either::Left(Full::new(body))
        } else {
            Either::Right(body)
        };
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(upstream.rested());
        Ok(Response::from_parts(parts, body))
    }

    /// Agrees to the WebSocket as the server did, and carries it from then on.
    fn tunnel(
        &self,
        client: OnUpgrade,
        mut answer: Response<Incoming>,
        backend: Arc<Backend>,
    ) -> Response<Body> {
        let server = hyper::upgrade::on(&mut answer);
        let (edge, place) = (Arc::clone(&self.edge), Arc::clone(&self.place));
        self.edge.tasks.spawn(async move {
            let (client, server) = match tokio::try_join!(client, server) {
                Ok(both) => both,
                Err(error) => return debug!(%error, "a websocket ended before it began"),
            };
            let carrying = splice(side(client), side(server));
            tokio::select! {
                ended = carrying => {
                    if let Err(error) = ended {
                        debug!(%error, server = %backend.name, "a websocket ended early");
                    }
                }
                () = edge.turn_to_end() => {}
            }
            drop((backend, place));
        });
        let (mut parts, _) = answer.into_parts();
        parts.extensions.clear();
        headers::strip(&mut parts.headers);
        headers::upgrade(&mut parts.headers);
        Response::from_parts(parts, Either::Left(Full::default()))
    }
}

/// The bare connection.
fn side(upgraded: Upgraded) -> Side {
    let parts = upgraded
        .downcast::<TokioIo<Box<dyn Stream>>>()
        .expect("both ends are served and dialled as such a stream");
    Side { stream: parts.io.into_inner(), read: parts.read_buf.to_vec() }
}
