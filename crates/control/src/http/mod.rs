//! The HTTP face of the control plane: paths, bodies, the agents' stream, pages.
//!
//! Never decides: a call goes to the world's loop and its answer comes back. Every answer that is not 2xx has the same
//! shape, made in `error`.

mod error;
mod extract;
mod guard;

mod calls;
mod pages;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, delete, get, post};
use greenroom_wire::error::Code;
use greenroom_wire::token::{PublicKeys, Signer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::{ControlConfig, ReadyWhen, StaticPage};
use crate::run::{Input, RunError};
use crate::world::{Answer, Call, Minimum, StreamId};

use error::ApiError;

/// Largest body of most calls, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest body of calls that carry up to 1,000 tickets.
const TICKETS_BYTES_MAX: usize = 1024 * 1024;
/// Longest time a call may take: above the longest wait that may be asked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// What every handler needs. One per process, shared.
pub(crate) struct Face {
    inputs: mpsc::Sender<Input>,
    signer: Signer,
    keys: PublicKeys,
    pages: BTreeMap<String, StaticPage>,
    guard: guard::Guard,
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
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inputs,
            signer,
            keys,
            pages: config.pages.into_iter().map(|page| (page.path.clone(), page)).collect(),
            guard: guard::Guard::new(config.allowed_hosts, config.allowed_origins),
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
    async fn ask(&self, call: Call) -> Result<Answer, ApiError> {
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

/// Serves until `stop`, then gives open calls the grace time.
pub(crate) async fn serve(
    listener: TcpListener,
    config: ControlConfig,
    signer: Signer,
    keys: PublicKeys,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let grace = config.stop_grace;
    let face = Arc::new(Face::new(config, signer, keys, inputs, stop.clone()));
    let served = axum::serve(listener, router(face)).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        outcome = async { served.await } => outcome.map_err(RunError::Serve),
        () = async { stop.cancelled().await; tokio::time::sleep(grace).await } => Ok(()),
    }
}

fn router(face: Arc<Face>) -> Router {
    let tickets = Router::new()
        .route("/v1/fleets/{fleet}/tickets", post(calls::file_tickets))
        .route("/v1/assignments", post(calls::assignments))
        .layer(DefaultBodyLimit::max(TICKETS_BYTES_MAX));
    Router::new()
        .route("/v1/fleets", get(calls::fleets))
        .route("/v1/fleets/{fleet}", get(calls::fleet))
        .route("/v1/fleets/{fleet}/endpoint", get(calls::endpoint))
        .route("/v1/fleets/{fleet}/rooms", post(calls::allocate))
        .route("/v1/fleets/{fleet}/restart", post(calls::restart))
        .route("/v1/tickets/{ticket}", delete(calls::cancel_ticket))
        .route("/v1/rooms", get(calls::rooms))
        .route("/v1/rooms/{room}", get(calls::room))
        .route("/v1/rooms/{room}/finish", post(calls::finish))
        .route("/v1/gameservers", get(calls::gameservers))
        .route("/v1/gameservers/{server}", get(calls::gameserver))
        .route("/v1/gameservers/{server}/logs", get(calls::logs))
        .route("/v1/hosts", get(calls::hosts))
        .route("/v1/overview", get(calls::overview))
        .route("/v1/keys", get(calls::keys))
        .route("/livez", get(calls::livez))
        .route("/readyz", get(calls::readyz))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(tickets)
        .route("/v1/agents/stream", any(stream::agents))
        .fallback(pages::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(face.clone(), guard::guard))
        .with_state(face)
}
