//! `GET /v1/export`: all that is stored, as a file.
//!
//! Never stops the world: the store is read beside it, as of one moment, after the audit trail has it that somebody asked. Only
//! who decides can write there, so nobody is given what a deposed leader takes for the last word.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use greenroom_store::export::Export;
use greenroom_wire::error::Code;
use greenroom_wire::export::SigningKeys;
use serde::Deserialize;

use super::Face;
use super::calls::actor;
use super::error::ApiError;
use super::extract::Asked;
use crate::access::Caller;
use crate::run::clock;
use crate::world::{Actor, Call};

/// The type of the answer: lines of JSON.
pub(super) const CONTENT: &str = "application/x-ndjson";

/// `?signing_keys=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct What {
    #[serde(default)]
    signing_keys: SigningKeys,
}

pub(crate) async fn export(
    State(face): State<Arc<Face>>,
    Extension(caller): Extension<Caller>,
    Asked(What { signing_keys }): Asked<What>,
) -> Result<Response, ApiError> {
    let by = actor(caller);
    if (signing_keys, &by) == (SigningKeys::Included, &Actor::Anonymous) {
        let message = "the signing keys are given to the bearer of a token only; configure [[control.tokens]], \
                       leave them out, or export from the store itself while no control plane runs on it";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    face.ask(Call::Export { signing_keys, by }).await?;
    let failed = |error: &dyn std::error::Error| ApiError::internal(&format!("the export failed: {error}"));
    let export = Export::take(&*face.store, clock(), signing_keys).await.map_err(|error| failed(&error))?;
    // A file of many MiB, beside the thread that everybody waits for.
    let file =
        tokio::task::spawn_blocking(move || export.to_bytes()).await.map_err(|error| failed(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT), (header::CACHE_CONTROL, "no-store")], file).into_response())
}
