//! The calls of the control listener: one table.
//!
//! Never holds a handler that is not in the table.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;
use axum::routing::{any, delete, get, post, put};
use greenroom_wire::api::{
    AllocateRequest, Allocation, AssignmentsAnswer, AssignmentsRequest, AuditList, DecisionBody,
    DecisionList, DrainRequest, DrainStatus, DryRunRequest, EndpointAnswer, FinishRequest, FleetList,
    FleetStatus, GameserverList, GameserverStatus, HostList, LogsAnswer, MetricAnswer, MetricRequest,
    Overview, Readiness, RestartAnswer, RoomList, RoomStatus, ScaleOrder, ScaleRequest, SloList,
    TicketCancelled, TicketStatusBody, TicketsAnswer, TicketsRequest, TriggerList,
};
use greenroom_wire::token::PublicKeys;
use serde_json::Value as AnyJson;

use super::route::{Caller, Query, Route};
use super::{Face, calls, export, openapi, stream};
use crate::access::Role;

/// Largest body of calls that carry up to 1,000 tickets.
const TICKETS_BYTES_MAX: usize = 1024 * 1024;

const OPEN: Caller = Caller::Anybody;
const AGENT: Caller = Caller::Role(Role::Agent);
const READ: Caller = Caller::Role(Role::Read);
const OPERATE: Caller = Caller::Role(Role::Operate);
const ADMIN: Caller = Caller::Role(Role::Admin);
const FLEET: Query = Query("fleet", "Of this fleet only");

/// All of them.
#[rustfmt::skip]
pub(crate) static ROUTES: LazyLock<Vec<Route<Face>>> = LazyLock::new(|| vec![
    Route::new(Method::GET, "/v1/fleets", READ, "All fleets, and why one is short of what it should have").by(|| get(calls::fleets)).answers::<FleetList>(),
    Route::new(Method::GET, "/v1/fleets/{fleet}", READ, "One fleet").by(|| get(calls::fleet)).answers::<FleetStatus>(),
    Route::new(Method::GET, "/v1/fleets/{fleet}/endpoint", OPERATE, "The address of the preferred server of a mesh fleet").by(|| get(calls::endpoint)).answers::<EndpointAnswer>().query(&[Query("labels", "Labels that the server's host must have: `zone:a,tier:b`"), Query("revision", "What the server must run")]),
    Route::new(Method::POST, "/v1/fleets/{fleet}/rooms", OPERATE, "A room by key or new, with a seat for each player: all or none").by(|| post(calls::allocate)).asks::<AllocateRequest>().answers::<Allocation>(),
    Route::new(Method::POST, "/v1/fleets/{fleet}/restart", ADMIN, "A new process for each server of the fleet; rooms that are not kept end").by(|| post(calls::restart)).answers::<RestartAnswer>(),
    Route::new(Method::POST, "/v1/fleets/{fleet}/scale", ADMIN, "Orders at least so many servers for a time, or freezes the fleet").by(|| post(calls::scale)).asks::<ScaleRequest>().answers::<ScaleOrder>(),
    Route::new(Method::GET, "/v1/fleets/{fleet}/decisions", READ, "Why the fleet has as many servers as it has, and its last changes").by(|| get(calls::decisions)).answers::<DecisionList>().query(&[Query("limit", "At most so many past changes; all that are kept by default")]),
    Route::new(Method::POST, "/v1/fleets/{fleet}/decisions/dry-run", OPERATE, "What other rules would decide now; changes nothing").by(|| post(calls::dry_run)).asks::<DryRunRequest>().answers::<DecisionBody>(),
    Route::new(Method::POST, "/v1/fleets/{fleet}/tickets", OPERATE, "Files tickets for the matchmaker").by(|| post(calls::file_tickets)).asks::<TicketsRequest>().answers::<TicketsAnswer>().takes(TICKETS_BYTES_MAX),
    Route::new(Method::POST, "/v1/assignments", OPERATE, "Waits until tickets of an owner are assigned").by(|| post(calls::assignments)).asks::<AssignmentsRequest>().answers::<AssignmentsAnswer>().takes(TICKETS_BYTES_MAX),
    Route::new(Method::GET, "/v1/tickets/{ticket}", READ, "What became of a ticket, or why it still waits").by(|| get(calls::ticket)).answers::<TicketStatusBody>().query(&[Query("why", "`told`, or `left_out`, which costs less; `told` by default")]),
    Route::new(Method::DELETE, "/v1/tickets/{ticket}", OPERATE, "Cancels a ticket, or answers the assignment that came first").by(|| delete(calls::cancel_ticket)).answers::<TicketCancelled>(),
    Route::new(Method::GET, "/v1/rooms", READ, "Rooms, live ones first").by(|| get(calls::rooms)).answers::<RoomList>().query(&[FLEET, Query("offset", "How many to leave out first; 0 by default"), Query("limit", "At most this many, 1 to 5,000; 500 by default")]),
    Route::new(Method::GET, "/v1/rooms/{room}", READ, "One room; an ended one is told for 10 min").by(|| get(calls::room)).answers::<RoomStatus>(),
    Route::new(Method::POST, "/v1/rooms/{room}/finish", OPERATE, "The result of a room, from a server without a link").by(|| post(calls::finish)).asks::<FinishRequest>().answers::<RoomStatus>(),
    Route::new(Method::GET, "/v1/gameservers", READ, "Gameservers").by(|| get(calls::gameservers)).answers::<GameserverList>().query(&[FLEET]),
    Route::new(Method::GET, "/v1/gameservers/{server}", READ, "One gameserver").by(|| get(calls::gameserver)).answers::<GameserverStatus>(),
    Route::new(Method::GET, "/v1/gameservers/{server}/logs", READ, "A piece of a server's output").by(|| get(calls::logs)).answers::<LogsAnswer>().query(&[Query("offset", "From this byte; the end without it"), Query("bytes_max", "1 to 262,144; 65,536 by default")]),
    Route::new(Method::GET, "/v1/hosts", READ, "Hosts").by(|| get(calls::hosts)).answers::<HostList>(),
    Route::new(Method::POST, "/v1/hosts/{host}/drain", ADMIN, "Takes a host out of use, or gives it back; nobody on it is disturbed").by(|| post(calls::drain_host)).asks::<DrainRequest>().answers::<DrainStatus>(),
    Route::new(Method::POST, "/v1/zones/{zone}/drain", ADMIN, "The same with all hosts of a zone, also those that come later").by(|| post(calls::drain_zone)).asks::<DrainRequest>().answers::<DrainStatus>(),
    Route::new(Method::GET, "/v1/overview", READ, "One screen's worth of everything").by(|| get(calls::overview)).answers::<Overview>(),
    Route::new(Method::GET, "/v1/triggers", READ, "What is watched, and what was done about it").by(|| get(calls::triggers)).answers::<TriggerList>(),
    Route::new(Method::GET, "/v1/slos", READ, "Service level objectives, and how often they were kept since this leader leads").by(|| get(calls::slos)).answers::<SloList>(),
    Route::new(Method::PUT, "/v1/metrics/{name}", OPERATE, "Tells a number that triggers watch as `custom.{name}`").by(|| put(calls::metric)).asks::<MetricRequest>().answers::<MetricAnswer>(),
    Route::new(Method::GET, "/v1/audit", READ, "Who changed what, and why gameservers started and stopped, newest first").by(|| get(calls::audit)).answers::<AuditList>().query(&[Query("before", "Only entries below this number"), Query("limit", "1 to 1,000; 100 by default")]),
    Route::new(Method::GET, "/v1/export", ADMIN, "All that is stored, as a file for `greenroom import`").by(|| get(export::export)).query(&[Query("signing_keys", "`included`, which needs a token, or `left_out`; included by default")]),
    Route::new(Method::GET, "/v1/agents/stream", AGENT, "The agents' stream: a WebSocket of JSON messages").by(|| any(stream::agents)),
    Route::new(Method::GET, "/v1/keys", OPEN, "Public keys of the join tokens, a JWK set").by(|| get(calls::keys)).answers::<PublicKeys>(),
    Route::new(Method::GET, "/v1/openapi.json", OPEN, "This document").by(|| get(openapi::of_control)).answers::<AnyJson>(),
    Route::new(Method::GET, "/livez", OPEN, "Whether the process lives").by(|| get(calls::livez)).answers::<AnyJson>(),
    Route::new(Method::GET, "/readyz", OPEN, "Whether the process can serve (503 until then), and what it waits for").by(|| get(calls::readyz)).answers::<Readiness>(),
]);

/// What each path and method needs, as the router names paths.
#[derive(Debug)]
pub(crate) struct Needs(HashMap<&'static str, Vec<(Method, Option<Role>)>>);

impl Needs {
    pub(crate) fn new() -> Self {
        let mut needs: HashMap<_, Vec<_>> = HashMap::new();
        for route in ROUTES.iter() {
            let role = match route.caller {
                Caller::Role(role) => Some(role),
                Caller::Anybody | Caller::Player => None,
            };
            needs.entry(route.path).or_default().push((route.method.clone(), role));
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
            let looks = [OPEN, READ].contains(&route.caller);
            assert!(!changes || !looks, "{} {} needs only {:?}", route.method, route.path, route.caller);
        }
        let needs = Needs::new();
        assert_eq!(needs.of("/v1/fleets", &Method::HEAD), Some(Role::Read));
        assert_eq!(needs.of("/v1/fleets/{fleet}/restart", &Method::POST), Some(Role::Admin));
        assert_eq!(needs.of("/livez", &Method::GET), None);
    }
}
