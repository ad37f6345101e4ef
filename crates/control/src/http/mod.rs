//! The HTTP face of the control plane: paths, bodies, the agents' stream, pages.
//!
//! Never decides: a call goes to the world's loop and its answer comes back. Every answer that is not 2xx has the same
//! shape, made in `error`.

mod error;
mod extract;
mod guard;
mod listen;
mod openapi;
mod routes;

mod calls;
mod pages;
mod players;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use greenroom_wire::error::Code;
use greenroom_wire::token::{PublicKeys, Signer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::{REREAD, Tokens};
use crate::config::{ControlConfig, PlayersConfig, ReadyWhen, StaticPage};
use crate::run::{Input, RunError};
use crate::world::{Answer, Call, Minimum, StreamId};

pub(crate) use players::Login;
pub use players::LoginError;

use error::ApiError;
use players::Lobby;

/// Longest time a call may take: above the longest wait that may be asked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// What every handler needs. One per process, shared.
pub(crate) struct Face {
    inputs: mpsc::Sender<Input>,
    signer: Signer,
    keys: PublicKeys,
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
        signer: Signer,
        keys: PublicKeys,
        tokens: Arc<Tokens>,
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inputs,
            signer,
            keys,
            pages: config.pages.into_iter().map(|page| (page.path.clone(), page)).collect(),
            tokens: tokens.clone(),
            connections_max: config.connections_max,
            grace: config.stop_grace,
            guard: guard::Guard::new(tokens, config.allowed_hosts, config.allowed_origins),
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

    /// Asks the world. A caller that is dropped meanwhile is forgotten by the loop.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.inputs.try_send(Input::Asked { call: Box::new(call), reply });
        match asked {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(ApiError::new(Code::TooMany, "too many calls wait already; retry later"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopping()),
        }
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer.map_err(ApiError::from),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(ApiError::internal("the world did not answer within its deadline")),
        }
    }
}

fn stopping() -> ApiError {
    ApiError::new(Code::Rebuilding, "the control plane is stopping; retry when it is back")
}

/// What the listeners share.
pub(crate) fn face(
    config: ControlConfig,
    signer: Signer,
    keys: PublicKeys,
    tokens: Arc<Tokens>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) -> Arc<Face> {
    Arc::new(Face::new(config, signer, keys, tokens, inputs, stop))
}

/// Serves until the stop, then gives open calls the grace time.
pub(crate) async fn serve(listener: TcpListener, face: Arc<Face>) -> Result<(), RunError> {
    let (grace, stop) = (face.grace, face.stop.clone());
    let serving = listen::serve(listener, router(face.clone()), face.connections_max, grace, stop.clone());
    tokio::join!(serving, face.tokens.keep_fresh(REREAD, stop));
    Ok(())
}

/// The same for players.
pub(crate) async fn serve_players(
    listener: TcpListener,
    config: PlayersConfig,
    login: Login,
    face: Arc<Face>,
) -> Result<(), RunError> {
    let (grace, stop) = (face.grace, face.stop.clone());
    Lobby::new(config, login, face).serve(listener, grace, stop).await;
    Ok(())
}

fn router(face: Arc<Face>) -> Router {
    routes::router()
        .fallback(pages::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(face.clone(), guard::guard))
        .with_state(face)
}
