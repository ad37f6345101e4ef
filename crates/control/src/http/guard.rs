//! Who may call: the right token or certificate where callers must say who they are, else the right `Host`; and no page of
//! another site.
//!
//! Never logs a token. Where nobody is asked the API serves its own machine only: without the `Host` check a page could point
//! its own name at 127.0.0.1 and read everything (DNS rebinding); without the `Origin` check it could write blindly.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_core::HostName;
use greenroom_wire::error::Code;
use tracing::{Instrument as _, debug, debug_span};

use super::Face;
use super::error::ApiError;
use super::forward::FORWARDED;
use super::inside::{Inside, Shown};
use super::routes::Needs;
use crate::access::{Caller, Role, Tokens};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Opened by GET, but it changes things.
const STREAM_PATH: &str = "/v1/agents/stream";

/// Which hosts and origins are answered.
#[derive(Debug)]
pub(crate) struct Guard {
    tokens: Arc<Tokens>,
    needs: Needs,
    /// Who is known by certificate; `None` where nobody is.
    inside: Option<Inside>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(crate) fn new(
        tokens: Arc<Tokens>,
        inside: Option<Inside>,
        hosts: Vec<String>,
        origins: Vec<String>,
    ) -> Self {
        Self { tokens, needs: Needs::new(), inside, hosts, origins }
    }

    /// Refuses an agent that speaks for another host than its certificate; why.
    pub(super) fn check_host(&self, host: &HostName, shown: Option<&Shown>) -> Result<(), String> {
        self.inside.as_ref().map_or(Ok(()), |inside| inside.check_host(host, shown))
    }

    /// Whether callers must say who they are.
    fn asks(&self) -> bool {
        self.tokens.are_needed() || self.inside.is_some()
    }

    /// Who calls, if the call may be made. `route` is the path as the router knows it.
    fn admit(
        &self,
        method: &Method,
        path: &str,
        route: Option<&str>,
        headers: &HeaderMap,
        shown: Option<&Shown>,
    ) -> Result<Caller, ApiError> {
        self.check(method, path, headers)?;
        let anybody = |role| Caller { name: None, role };
        if !self.asks() {
            return Ok(anybody(Role::Admin));
        }
        let is_passed_on = headers.contains_key(FORWARDED);
        if let Some(inside) = self.inside.as_ref().filter(|_| is_passed_on) {
            inside.check_replica(shown)?;
        }
        let needed = route.and_then(|route| self.needs.of(route, method));
        let Some(needed) = needed else { return Ok(anybody(Role::Agent)) };
        if let Some(inside) = &self.inside {
            if needed == Role::Agent {
                inside.check_agent(shown)?;
                return Ok(anybody(Role::Agent));
            }
            // What players ask for has no token of the control listener. Whoever else asks has shown it where the call arrived.
            if is_passed_on && !headers.contains_key(AUTHORIZATION) && Role::Operate.allows(needed) {
                return Ok(anybody(Role::Operate));
            }
        }
        let caller = self.caller(headers)?;
        if caller.role.allows(needed) {
            return Ok(caller);
        }
        let (name, role) = (caller.name.unwrap_or_default(), caller.role);
        let message = format!(
            "this call needs the role {needed}, and the token {name:?} has the role {role}; use another token"
        );
        Err(ApiError::new(Code::Forbidden, message))
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.tokens.bearer(bearer(headers)?).ok_or_else(|| {
            let message = "this token is not known here; it may have been taken out of use";
            ApiError::new(Code::Unauthorized, message)
        })
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let forbidden = |message: String| Err(ApiError::new(Code::Forbidden, message));
        let host = text(headers, &HOST).unwrap_or_default();
        if !self.asks() && !self.knows_host(host) {
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

/// The token that a request brings.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let unauthorized = |message: &str| ApiError::new(Code::Unauthorized, message);
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(unauthorized(
            "this call needs a token: send the header `Authorization: Bearer <token>`; \
             the command line takes it from GREENROOM_TOKEN or --token-from",
        ));
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.ok_or_else(|| unauthorized("the Authorization header is not `Bearer <token>`"))
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
pub(crate) async fn guard(State(face): State<Arc<Face>>, mut request: Request, next: Next) -> Response {
    let id = face.requests.fetch_add(1, Ordering::Relaxed);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = debug_span!("request", id, %method, %path);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let shown = request.extensions().get::<Shown>();
    let admitted = face.guard.admit(&method, &path, route, request.headers(), shown);
    let mut response = async {
        let response = match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(error) => error.into_response(),
        };
        debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await;
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id));
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_and_own_pages_are_answered() {
        let tokens = Arc::new(Tokens::read(Vec::new()).unwrap());
        let guard =
            Guard::new(tokens, None, vec!["control.test".to_owned()], vec!["http://app.test".to_owned()]);
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
