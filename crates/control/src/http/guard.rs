//! Who may call at all: the right `Host`, and no page of another site.
//!
//! Never asks for a token: the API serves its own machine only. Without the `Host` check a page could point its own
//! name at 127.0.0.1 and read everything (DNS rebinding); without the `Origin` check it could write blindly.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_wire::error::Code;
use tracing::{Instrument as _, debug, debug_span};

use super::Face;
use super::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Opened by GET, but it changes things.
const STREAM_PATH: &str = "/v1/agents/stream";

/// Which hosts and origins are answered.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(crate) const fn new(hosts: Vec<String>, origins: Vec<String>) -> Self {
        Self { hosts, origins }
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let forbidden = |message: String| Err(ApiError::new(Code::Forbidden, message));
        let host = text(headers, &HOST).unwrap_or_default();
        if !self.knows_host(host) {
            return forbidden(format!("this API does not answer under the host {host:?}"));
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD) || path == STREAM_PATH;
        if !changes || !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = text(headers, &ORIGIN).unwrap_or_default();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if own == Some(host) || self.origins.iter().any(|allowed| allowed == origin) {
            return Ok(());
        }
        forbidden(format!("pages of {origin:?} may not change anything here"))
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = without_port(host);
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Checks each request, gives it an id and a span.
pub(crate) async fn guard(State(face): State<Arc<Face>>, request: Request, next: Next) -> Response {
    let id = face.requests.fetch_add(1, Ordering::Relaxed);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = debug_span!("request", id, %method, %path);
    let checked = face.guard.check(&method, &path, request.headers());
    let mut response = async {
        let response = match checked {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        };
        debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await;
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_and_own_pages_are_answered() {
        let guard = Guard::new(vec!["control.test".to_owned()], vec!["http://app.test".to_owned()]);
        let cases = [
            ("loopback", "GET", "/", Some("127.0.0.1:8700"), None, true),
            ("name", "GET", "/", Some("localhost:8700"), None, true),
            ("six", "GET", "/", Some("[::1]:8700"), None, true),
            ("six without port", "GET", "/", Some("[::1]"), None, true),
            ("configured", "GET", "/", Some("control.test"), None, true),
            ("rebound", "GET", "/", Some("evil.test:8700"), None, false),
            ("rebound look-alike", "GET", "/", Some("127.0.0.1.evil.test"), None, false),
            ("no host", "GET", "/", None, None, false),
            ("own page writes", "POST", "/", Some("localhost:8700"), Some("http://localhost:8700"), true),
            ("other port writes", "POST", "/", Some("localhost:8700"), Some("http://localhost:9"), false),
            ("other site reads", "GET", "/", Some("localhost:8700"), Some("http://evil.test"), true),
            ("other site writes", "DELETE", "/", Some("localhost:8700"), Some("http://evil.test"), false),
            ("hidden origin writes", "POST", "/", Some("localhost:8700"), Some("null"), false),
            ("allowed site writes", "POST", "/", Some("localhost:8700"), Some("http://app.test"), true),
            ("a page opens a stream", "GET", STREAM_PATH, Some("localhost"), Some("http://evil.test"), false),
        ];
        for (name, method, path, host, origin, answered) in cases {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let method = method.parse().unwrap();
            assert_eq!(guard.check(&method, path, &headers).is_ok(), answered, "{name}");
        }
    }
}
