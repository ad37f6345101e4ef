//! The calls of the control listener: one table, from which the router, the access checks and the OpenAPI
//! document are made.
//!
//! Never holds a handler that is not in the table.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::{MethodRouter, any, delete, get, post};
use greenroom_wire::api::{
    AllocateRequest, Allocation, AssignmentsAnswer, AssignmentsRequest, AuditList, DecisionBody,
    DecisionList, DryRunRequest, EndpointAnswer, FinishRequest, FleetList, FleetStatus, GameserverList,
    GameserverStatus, HostList, LogsAnswer, Overview, Readiness, RestartAnswer, RoomList, RoomStatus,
    ScaleOrder, ScaleRequest, TicketCancelled, TicketsAnswer, TicketsRequest,
};
use greenroom_wire::token::PublicKeys;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value as AnyJson;

use super::{Face, calls, openapi, stream};
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
    /// What it does, for the description.
    pub(crate) summary: &'static str,
    /// What may stand after the `?`.
    pub(crate) query: &'static [Query],
    /// The body it takes, if any.
    pub(crate) asks: Option<Shape>,
    /// The body it answers with; `None` for what is no JSON.
    pub(crate) answers: Option<Shape>,
    body_bytes_max: usize,
    handler: fn() -> MethodRouter<Arc<Face>>,
}

/// A type's schema.
pub(crate) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query, with what it means.
pub(crate) struct Query(pub(crate) &'static str, pub(crate) &'static str);

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

fn route(method: Method, path: &'static str, needs: Option<Role>, summary: &'static str) -> Route {
    Route {
        method,
        path,
        needs,
        summary,
        query: &[],
        asks: None,
        answers: None,
        body_bytes_max: BODY_BYTES_MAX,
        handler: MethodRouter::new,
    }
}

impl Route {
    fn by(self, handler: fn() -> MethodRouter<Arc<Face>>) -> Self {
        Self { handler, ..self }
    }

    fn asks<T: JsonSchema>(self) -> Self {
        Self { asks: Some(of::<T>), ..self }
    }

    fn answers<T: JsonSchema>(self) -> Self {
        Self { answers: Some(of::<T>), ..self }
    }

    fn query(self, query: &'static [Query]) -> Self {
        Self { query, ..self }
    }

    fn large(self) -> Self {
        Self { body_bytes_max: TICKETS_BYTES_MAX, ..self }
    }
}

const OPEN: Option<Role> = None;
const AGENT: Option<Role> = Some(Role::Agent);
const READ: Option<Role> = Some(Role::Read);
const OPERATE: Option<Role> = Some(Role::Operate);
const ADMIN: Option<Role> = Some(Role::Admin);
const FLEET: Query = Query("fleet", "Of this fleet only");

/// All of them.
#[rustfmt::skip]
pub(crate) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| vec![
    route(Method::GET, "/v1/fleets", READ, "All fleets, and why one is short of what it should have").by(|| get(calls::fleets)).answers::<FleetList>(),
    route(Method::GET, "/v1/fleets/{fleet}", READ, "One fleet").by(|| get(calls::fleet)).answers::<FleetStatus>(),
    route(Method::GET, "/v1/fleets/{fleet}/endpoint", OPERATE, "The address of the preferred server of a mesh fleet").by(|| get(calls::endpoint)).answers::<EndpointAnswer>().query(&[Query("labels", "Labels that the server's host must have: `zone:a,tier:b`"), Query("revision", "What the server must run")]),
    route(Method::POST, "/v1/fleets/{fleet}/rooms", OPERATE, "A room by key or new, with a seat for each player: all or none").by(|| post(calls::allocate)).asks::<AllocateRequest>().answers::<Allocation>(),
    route(Method::POST, "/v1/fleets/{fleet}/restart", ADMIN, "A new process for each server of the fleet; rooms are lost").by(|| post(calls::restart)).answers::<RestartAnswer>(),
    route(Method::POST, "/v1/fleets/{fleet}/scale", ADMIN, "Orders at least so many servers for a time, or freezes the fleet").by(|| post(calls::scale)).asks::<ScaleRequest>().answers::<ScaleOrder>(),
    route(Method::GET, "/v1/fleets/{fleet}/decisions", READ, "Why the fleet has as many servers as it has, and its last changes").by(|| get(calls::decisions)).answers::<DecisionList>().query(&[Query("limit", "At most so many past changes; all that are kept by default")]),
    route(Method::POST, "/v1/fleets/{fleet}/decisions/dry-run", OPERATE, "What other rules would decide now; changes nothing").by(|| post(calls::dry_run)).asks::<DryRunRequest>().answers::<DecisionBody>(),
    route(Method::POST, "/v1/fleets/{fleet}/tickets", OPERATE, "Files tickets for the matchmaker").by(|| post(calls::file_tickets)).asks::<TicketsRequest>().answers::<TicketsAnswer>().large(),
    route(Method::POST, "/v1/assignments", OPERATE, "Waits until tickets of an owner are assigned").by(|| post(calls::assignments)).asks::<AssignmentsRequest>().answers::<AssignmentsAnswer>().large(),
    route(Method::DELETE, "/v1/tickets/{ticket}", OPERATE, "Cancels a ticket, or answers the assignment that came first").by(|| delete(calls::cancel_ticket)).answers::<TicketCancelled>(),
    route(Method::GET, "/v1/rooms", READ, "Rooms, live ones first").by(|| get(calls::rooms)).answers::<RoomList>().query(&[FLEET, Query("offset", "How many to leave out first; 0 by default"), Query("limit", "At most this many, 1 to 5,000; 500 by default")]),
    route(Method::GET, "/v1/rooms/{room}", READ, "One room; an ended one is told for 10 min").by(|| get(calls::room)).answers::<RoomStatus>(),
    route(Method::POST, "/v1/rooms/{room}/finish", OPERATE, "The result of a room, from a server without a link").by(|| post(calls::finish)).asks::<FinishRequest>().answers::<RoomStatus>(),
    route(Method::GET, "/v1/gameservers", READ, "Gameservers").by(|| get(calls::gameservers)).answers::<GameserverList>().query(&[FLEET]),
    route(Method::GET, "/v1/gameservers/{server}", READ, "One gameserver").by(|| get(calls::gameserver)).answers::<GameserverStatus>(),
    route(Method::GET, "/v1/gameservers/{server}/logs", READ, "A piece of a server's output").by(|| get(calls::logs)).answers::<LogsAnswer>().query(&[Query("offset", "From this byte; the end without it"), Query("bytes_max", "1 to 262,144; 65,536 by default")]),
    route(Method::GET, "/v1/hosts", READ, "Hosts").by(|| get(calls::hosts)).answers::<HostList>(),
    route(Method::GET, "/v1/overview", READ, "One screen's worth of everything").by(|| get(calls::overview)).answers::<Overview>(),
    route(Method::GET, "/v1/audit", READ, "Who changed what, and why gameservers stopped, newest first").by(|| get(calls::audit)).answers::<AuditList>().query(&[Query("before", "Only entries below this number"), Query("limit", "1 to 1,000; 100 by default")]),
    route(Method::GET, "/v1/agents/stream", AGENT, "The agents' stream: a WebSocket of JSON messages").by(|| any(stream::agents)),
    route(Method::GET, "/v1/keys", OPEN, "Public keys of the join tokens, a JWK set").by(|| get(calls::keys)).answers::<PublicKeys>(),
    route(Method::GET, "/v1/openapi.json", OPEN, "This document").by(|| get(openapi::document)).answers::<AnyJson>(),
    route(Method::GET, "/livez", OPEN, "Whether the process lives").by(|| get(calls::livez)).answers::<AnyJson>(),
    route(Method::GET, "/readyz", OPEN, "Whether the process can serve (503 until then), and what it waits for").by(|| get(calls::readyz)).answers::<Readiness>(),
]);

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
        for route in ROUTES.iter() {
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
        for route in ROUTES.iter() {
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
