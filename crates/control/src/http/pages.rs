//! Pages that the caller gave: the dashboard, the examples.
//!
//! Never reads a file: what is served is what was given.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use greenroom_wire::error::Code;

use super::Face;
use super::error::{ApiError, method_not_allowed};

/// Everything that is not of the API.
pub(crate) async fn page(State(face): State<Arc<Face>>, request: Request) -> Response {
    let path = request.uri().path();
    let Some(page) = face.pages.get(path) else {
        return ApiError::new(Code::NotFound, format!("there is nothing at {path:?}")).into_response();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return method_not_allowed(request.method().clone(), request.uri().clone()).await.into_response();
    }
    let headers = [
        (CONTENT_TYPE, page.content_type.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, page.bytes.clone()).into_response()
}
