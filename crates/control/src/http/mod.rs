//! The HTTP face of the control plane: paths, bodies, the agents' stream, pages.
//!
//! Never decides: a call goes to the world's loop and its answer comes back. Every answer that is not 2xx has the same
//! shape, made in `error`.

mod error;
mod extract;
mod forward;
mod guard;
mod inside;
mod listen;
mod openapi;
mod pulse;
mod route;
mod routes;
mod seen;
mod seldom;
mod standing;

mod calls;
mod export;
mod pages;
mod players;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use greenroom_store::Store;
use greenroom_tls::Tls;
use greenroom_wire::error::Code;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::{REREAD, Tokens};
use crate::config::{ControlConfig, PlayersConfig, ReadyWhen, StaticPage};
use crate::office::{Desk, Office};
use crate::run::{Input, Post, RunError};
use crate::world::{Answer, Call, Minimum, StreamId};

pub(crate) use players::Login;
pub use players::LoginError;

use error::ApiError;
use players::Lobby;

/// Longest time a call may take: above the longest wait that may be asked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// What every handler needs. One per process, shared.
pub(crate) struct Face {
    office: Arc<Office>,
    store: Arc<dyn Store>,
    /// The other replicas; `None` where there are none.
    peers: Option<forward::Peers>,
    pages: BTreeMap<String, StaticPage>,
    guard: guard::Guard,
    tokens: Arc<Tokens>,
    connections_max: usize,
    grace: Duration,
    minimum: Minimum,
    streams: AtomicU64,
    requests: AtomicU64,
    stop: CancellationToken,
}

impl Face {
    fn new(
        config: ControlConfig,
        peers: Option<forward::Peers>,
        tokens: Arc<Tokens>,
        (office, store): (Arc<Office>, Arc<dyn Store>),
        stop: CancellationToken,
    ) -> Self {
        Self {
            office,
            store,
            peers,
            pages: config.pages.into_iter().map(|page| (page.path.clone(), page)).collect(),
            tokens: tokens.clone(),
            connections_max: config.connections_max,
            grace: config.stop_grace,
            guard: guard::Guard::new(
                tokens,
                config.tls.and_then(|tls| tls.mutual).as_ref().map(inside::Inside::new),
                config.allowed_hosts,
                config.allowed_origins,
            ),
            minimum: match config.ready_when {
                ReadyWhen::Serving => Minimum::Ignored,
                ReadyWhen::MinimumReady => Minimum::Required,
            },
            streams: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            stop,
        }
    }

    fn new_stream(&self) -> StreamId {
        StreamId(self.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks the world of this process. A caller that is dropped meanwhile is forgotten by the loop.
    pub(super) async fn ask(&self, call: Call) -> Result<(Answer, Arc<Desk>), ApiError> {
        let Some(desk) = self.office.desk() else { return Err(no_leader()) };
        let (reply, answer) = oneshot::channel();
        let asked = desk.inputs.try_send(Input::Asked { call: Box::new(call), reply });
        match asked {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(ApiError::new(Code::TooMany, "too many calls wait already; retry later"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(no_leader()),
        }
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer.map(|answer| (answer, desk)).map_err(ApiError::from),
            Ok(Err(_)) => Err(no_leader()),
            Err(_) => Err(ApiError::internal("the world did not answer within its deadline")),
        }
    }

    /// The same for callers that do not come through [`forward::forward`].
    pub(super) async fn ask_anywhere(&self, call: Call) -> Response {
        match &self.peers {
            Some(peers) => forward::ask(self, peers, &call).await,
            None => self.answer(call).await.into_response(),
        }
    }
}

/// Nobody decides here, or has not said what it decided.
fn no_leader() -> ApiError {
    ApiError::new(Code::Rebuilding, "nobody leads the control plane right now; retry soon").lost()
}

/// What the listeners share.
pub(crate) fn face(
    config: ControlConfig,
    tls: Option<&Arc<Tls>>,
    tokens: Arc<Tokens>,
    post: Post,
    stop: CancellationToken,
) -> Result<Arc<Face>, RunError> {
    let Post { config: whole, store, office } = post;
    let peers = config.replica.clone();
    let reader = || standing::Reader::new(Arc::clone(&office), Arc::clone(&store), whole);
    let peers = peers.map(|replica| forward::Peers::new(replica, tls, reader()));
    let peers = peers.transpose()?;
    Ok(Arc::new(Face::new(config, peers, tokens, (office, store), stop)))
}

/// A listener, and its TLS if it has any.
type Listening = (TcpListener, Option<Arc<Tls>>);

/// Serves until the stop, then gives open calls the grace time.
pub(crate) async fn serve(listener: Listening, face: Arc<Face>) {
    let (grace, stop) = (face.grace, face.stop.clone());
    let serving = listen::serve(listener, router(face.clone()), face.connections_max, grace, stop.clone());
    tokio::join!(serving, face.tokens.keep_fresh(REREAD, stop));
}

/// The same for players.
pub(crate) async fn serve_players(listener: Listening, config: PlayersConfig, login: Login, face: Arc<Face>) {
    let (grace, stop) = (face.grace, face.stop.clone());
    Lobby::new(config, login, face).serve(listener, grace, stop).await;
}

fn router(face: Arc<Face>) -> Router {
    route::router(&routes::ROUTES)
        .fallback(pages::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(face.clone(), forward::forward))
        .layer(axum::middleware::from_fn_with_state(face.clone(), guard::guard))
        .with_state(face)
}
