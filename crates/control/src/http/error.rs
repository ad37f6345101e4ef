//! The one place that turns what went wrong into status, stable code and body.
//!
//! Never tells internals: those go to the log, under the request's id.

use std::time::Duration;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER as RETRY_AFTER_HEADER;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use greenroom_wire::error::{Code, ErrorBody};
use tracing::error;

use crate::world::Refusal;

/// When a retry makes sense, where nothing says it better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is not 2xx.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(super) code: Code,
    message: String,
    retry_after: Duration,
    is_lost: bool,
}

/// Beside an answer, for `forward`: nobody decided, or who did was lost before it told what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost;

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: RETRY_AFTER, is_lost: false }
    }

    /// The same, marked: another replica may answer the call.
    pub(super) fn lost(self) -> Self {
        Self { is_lost: true, ..self }
    }

    /// The same with another time after which a retry makes sense.
    pub(crate) fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// A fault of ours: `detail` goes to the log only.
    pub(crate) fn internal(detail: &str) -> Self {
        error!(error = detail, "a call failed");
        Self::new(Code::Internal, "the control plane failed; its log says more under this request's id")
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(ErrorBody::new(self.code, self.message))).into_response();
        if self.is_lost {
            response.extensions_mut().insert(Lost);
        }
        if self.code.retryable() {
            // Whole seconds, and never too early.
            let seconds = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER_HEADER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
