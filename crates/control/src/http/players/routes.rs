//! The calls of the players' listener: one table.
//!
//! Never offers what is not in it.

use std::sync::LazyLock;

use axum::http::Method;
use axum::routing::{delete, get, post};
use greenroom_wire::api::{
    Allocation, AssignmentsAnswer, EndpointAnswer, PlayerAssignmentsRequest, PlayerRoomRequest, PlayerTicket,
    PlayerTicketRequest, TicketCancelled, TicketStatusBody,
};
use serde_json::Value as AnyJson;

use super::Lobby;
use crate::http::route::{Caller, Route};
use crate::http::{calls, openapi};

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

const OPEN: Caller = Caller::Anybody;
const PLAYER: Caller = Caller::Player;

/// All of them.
#[rustfmt::skip]
pub(crate) static ROUTES: LazyLock<Vec<Route<Lobby>>> = LazyLock::new(|| vec![
    Route::new(Method::GET, "/v1/fleets/{fleet}/endpoint", PLAYER, "The address of the preferred server of a mesh fleet").by(|| get(super::endpoint)).answers::<EndpointAnswer>(),
    Route::new(Method::POST, "/v1/fleets/{fleet}/rooms", PLAYER, "A seat for oneself in the room of a key").by(|| post(super::room)).asks::<PlayerRoomRequest>().answers::<Allocation>().takes(BODY_BYTES_MAX),
    Route::new(Method::POST, "/v1/fleets/{fleet}/tickets", PLAYER, "Waits for a match, alone").by(|| post(super::ticket)).asks::<PlayerTicketRequest>().answers::<PlayerTicket>().takes(BODY_BYTES_MAX),
    Route::new(Method::POST, "/v1/assignments", PLAYER, "Waits until the own ticket is assigned").by(|| post(super::assignments)).asks::<PlayerAssignmentsRequest>().answers::<AssignmentsAnswer>().takes(BODY_BYTES_MAX),
    Route::new(Method::GET, "/v1/tickets/{ticket}", PLAYER, "What became of the own ticket, or how far apart its match may be").by(|| get(super::ticket_status)).answers::<TicketStatusBody>(),
    Route::new(Method::DELETE, "/v1/tickets/{ticket}", PLAYER, "Cancels the own ticket, or answers the assignment that came first").by(|| delete(super::cancel)).answers::<TicketCancelled>(),
    Route::new(Method::GET, "/v1/openapi.json", OPEN, "This document").by(|| get(openapi::of_players)).answers::<AnyJson>(),
    Route::new(Method::GET, "/livez", OPEN, "Whether the process lives").by(|| get(calls::livez)).answers::<AnyJson>(),
]);
