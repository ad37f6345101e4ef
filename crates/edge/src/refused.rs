//! What the edge answers itself, when there is no server to do so.
//!
//! Never a reason for a stock client to give up: each of these makes it try again.

use bytes::Bytes;
use greenroom_socketio::engine::RequestError;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

/// What a client is answered: a server's own words, or ours.
pub(crate) type Body = Either<Full<Bytes>, Incoming>;

/// Why no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// None may get anything new, or none could be reached. Try again.
    Nobody,
    /// The server that was named is not known, or not yet. Try again, or ask the control plane again.
    UnknownServer,
    /// The session's server is no more, or no edge gave the session out. Open a new one.
    UnknownSession,
    /// The server could not be reached, or went away before it answered.
    Gone,
    /// The server did not answer in time.
    Late,
    /// The request names nothing to ask for.
    BadRequest,
}

impl Refused {
    /// The answer to a client of this origin. Any origin may read it: it says nothing of what is behind.
    pub(crate) fn answer(self, origin: Option<&HeaderValue>) -> Response<Body> {
        let (status, text) = match self {
            Self::Nobody => (StatusCode::SERVICE_UNAVAILABLE, "no server is ready\n"),
            Self::UnknownServer => (StatusCode::SERVICE_UNAVAILABLE, "this server is not known\n"),
            Self::UnknownSession => (StatusCode::BAD_REQUEST, RequestError::UnknownSession.body()),
            Self::Gone => (StatusCode::BAD_GATEWAY, "the server cannot be reached\n"),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "the server does not answer\n"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "there is no path in this request\n"),
        };
        let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        let kind = if self == Self::UnknownSession { "application/json" } else { "text/plain" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        answer
    }
}
