//! The calls of the control listener: one table, from which the router and the access checks are made.
//!
//! Never holds a handler that is not in the table.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::{MethodRouter, any, delete, get, post};

use super::{Face, calls, stream};
use crate::access::Role;

/// Largest body of most calls, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest body of calls that carry up to 1,000 tickets.
const TICKETS_BYTES_MAX: usize = 1024 * 1024;

/// One call.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// The least role it needs; `None` is open to everybody who reaches the listener.
    pub(crate) needs: Option<Role>,
    body_bytes_max: usize,
    handler: fn() -> MethodRouter<Arc<Face>>,
}

const fn route(
    method: Method,
    path: &'static str,
    needs: Option<Role>,
    handler: fn() -> MethodRouter<Arc<Face>>,
) -> Route {
    Route { method, path, needs, body_bytes_max: BODY_BYTES_MAX, handler }
}

const fn large(path: &'static str, needs: Option<Role>, handler: fn() -> MethodRouter<Arc<Face>>) -> Route {
    Route { method: Method::POST, path, needs, body_bytes_max: TICKETS_BYTES_MAX, handler }
}

const OPEN: Option<Role> = None;
const READ: Option<Role> = Some(Role::Read);
const OPERATE: Option<Role> = Some(Role::Operate);
const ADMIN: Option<Role> = Some(Role::Admin);

/// All of them.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    route(Method::GET, "/v1/fleets", READ, || get(calls::fleets)),
    route(Method::GET, "/v1/fleets/{fleet}", READ, || get(calls::fleet)),
    route(Method::GET, "/v1/fleets/{fleet}/endpoint", OPERATE, || get(calls::endpoint)),
    route(Method::POST, "/v1/fleets/{fleet}/rooms", OPERATE, || post(calls::allocate)),
    route(Method::POST, "/v1/fleets/{fleet}/restart", ADMIN, || post(calls::restart)),
    large("/v1/fleets/{fleet}/tickets", OPERATE, || post(calls::file_tickets)),
    large("/v1/assignments", OPERATE, || post(calls::assignments)),
    route(Method::DELETE, "/v1/tickets/{ticket}", OPERATE, || delete(calls::cancel_ticket)),
    route(Method::GET, "/v1/rooms", READ, || get(calls::rooms)),
    route(Method::GET, "/v1/rooms/{room}", READ, || get(calls::room)),
    route(Method::POST, "/v1/rooms/{room}/finish", OPERATE, || post(calls::finish)),
    route(Method::GET, "/v1/gameservers", READ, || get(calls::gameservers)),
    route(Method::GET, "/v1/gameservers/{server}", READ, || get(calls::gameserver)),
    route(Method::GET, "/v1/gameservers/{server}/logs", READ, || get(calls::logs)),
    route(Method::GET, "/v1/hosts", READ, || get(calls::hosts)),
    route(Method::GET, "/v1/overview", READ, || get(calls::overview)),
    route(Method::GET, "/v1/audit", READ, || get(calls::audit)),
    route(Method::GET, "/v1/agents/stream", Some(Role::Agent), || any(stream::agents)),
    route(Method::GET, "/v1/keys", OPEN, || get(calls::keys)),
    route(Method::GET, "/livez", OPEN, || get(calls::livez)),
    route(Method::GET, "/readyz", OPEN, || get(calls::readyz)),
];

/// The router of all calls, without what surrounds it.
pub(crate) fn router() -> Router<Arc<Face>> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let limit = DefaultBodyLimit::max(route.body_bytes_max);
        router.route(route.path, (route.handler)().layer(limit))
    })
}

/// What each path and method needs, as the router names paths.
#[derive(Debug)]
pub(crate) struct Needs(HashMap<&'static str, Vec<(Method, Option<Role>)>>);

impl Needs {
    pub(crate) fn new() -> Self {
        let mut needs: HashMap<_, Vec<_>> = HashMap::new();
        for route in ROUTES {
            needs.entry(route.path).or_default().push((route.method.clone(), route.needs));
        }
        Self(needs)
    }

    /// The role a request needs. A method that the path does not take is refused by it anyway: like a page that is
    /// not there, it needs none. HEAD is answered as GET is.
    pub(crate) fn of(&self, path: &str, method: &Method) -> Option<Role> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let listed = self.0.get(path)?;
        listed.iter().find(|(known, _)| known == method).and_then(|(_, needs)| *needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_needs_more_than_looking() {
        for route in ROUTES {
            let changes = route.method != Method::GET;
            let looks = matches!(route.needs, None | Some(Role::Read));
            assert!(!changes || !looks, "{} {} needs only {:?}", route.method, route.path, route.needs);
        }
        let needs = Needs::new();
        assert_eq!(needs.of("/v1/fleets", &Method::HEAD), READ);
        assert_eq!(needs.of("/v1/fleets/{fleet}/restart", &Method::POST), ADMIN);
        assert_eq!(needs.of("/livez", &Method::GET), None);
    }
}
