//! The listener for players: where to connect, a seat in a room by key, a ticket for a match. For oneself alone.
//!
//! Never believes a body about who calls or how well they play, and never offers a fleet that was not opened to players.

mod limit;
mod login;
mod routes;
mod vouched;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use greenroom_core::{FleetName, IdempotencyKey, PlayerId, TicketId};
use greenroom_wire::Text;
use greenroom_wire::api::{
    AllocateRequest, AssignmentsRequest, PlayerAssignmentsRequest, PlayerRoomRequest, PlayerTicket,
    PlayerTicketRequest, TicketBody, TicketsAnswer, TicketsRequest,
};
use greenroom_wire::error::Code;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Face;
use super::calls::header_key;
use super::error::{self, ApiError};
use super::extract::{Named, Told};
use super::listen::{self, Peer};
use super::{Listening, route};
use crate::config::PlayersConfig;
use crate::world::Call;

pub(crate) use login::Login;
pub use login::LoginError;
pub(crate) use routes::ROUTES;

use limit::{Limiter, household};
use vouched::Vouched;

/// Largest answer to one filed ticket, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a browser may remember what is allowed.
const CORS_AGE: Duration = Duration::from_mins(10);
/// Hex digits of a player's mark in tickets.
const MARK_CHARS: usize = 32;

/// What the handlers of this listener need.
pub(crate) struct Lobby {
    face: Arc<Face>,
    config: PlayersConfig,
    login: Login,
    addresses: Mutex<Limiter<IpAddr>>,
    players: Mutex<Limiter<PlayerId>>,
}

type Shared = State<Arc<Lobby>>;
type Outcome = Result<Response, ApiError>;

impl Lobby {
    pub(crate) fn new(config: PlayersConfig, login: Login, face: Arc<Face>) -> Self {
        let now = Instant::now();
        Self {
            face,
            login,
            addresses: Mutex::new(Limiter::new(config.per_address, now)),
            players: Mutex::new(Limiter::new(config.per_player, now)),
            config,
        }
    }

    /// Serves until `stop`, then lets open calls finish within `grace`.
    pub(crate) async fn serve(self, listener: Listening, grace: Duration, stop: CancellationToken) {
        let connections_max = self.config.connections_max;
        let lobby = Arc::new(self);
        let serving = listen::serve(listener, router(lobby.clone()), connections_max, grace, stop.clone());
        tokio::join!(serving, lobby.login.keep_fresh(stop));
    }

    fn allow_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = addresses.take(household(address), Instant::now());
        taken.map_err(|wait| too_many("this address", wait))
    }

    fn allow_player(&self, player: &PlayerId) -> Result<(), ApiError> {
        let mut players = self.players.lock().unwrap_or_else(PoisonError::into_inner);
        players.take(player.clone(), Instant::now()).map_err(|wait| too_many("this player", wait))
    }

    fn check_open(&self, fleets: &[FleetName], fleet: &FleetName, what: &str) -> Result<(), ApiError> {
        if fleets.contains(fleet) {
            return Ok(());
        }
        Err(ApiError::new(Code::Forbidden, format!("players may not ask fleet {fleet} for {what}")))
    }
}

fn router(lobby: Arc<Lobby>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(origins(&lobby.config.origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([header::RETRY_AFTER])
        .max_age(CORS_AGE);
    route::router(&ROUTES)
        .fallback(nothing)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(lobby.clone(), limit_address))
        .layer(cors)
        .with_state(lobby)
}

fn origins(allowed: &[String]) -> AllowOrigin {
    if allowed.iter().any(|origin| origin == "*") {
        return AllowOrigin::any();
    }
    AllowOrigin::list(allowed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
}

async fn nothing(request: Request) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is nothing for players at {:?}", request.uri().path()))
}

/// The first thing that is looked at: nobody makes us check signatures without end.
async fn limit_address(State(lobby): Shared, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let address = peer.map(|peer| caller_address(peer, request.headers(), lobby.config.proxies));
    match address.map_or(Ok(()), |address| lobby.allow_address(address)) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn too_many(who: &str, wait: Duration) -> ApiError {
    ApiError::new(Code::TooMany, format!("{who} calls too often; retry later")).retry_after(wait)
}

/// The address that the outermost trusted proxy saw: the last but `proxies` of what X-Forwarded-For says, where each
/// proxy adds the one it was called from. What stands before that, anybody may have written.
fn caller_address(peer: IpAddr, headers: &HeaderMap, proxies: usize) -> IpAddr {
    if proxies == 0 {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let seen: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let told = seen.len().checked_sub(proxies).and_then(|place| seen[place].parse().ok());
    told.unwrap_or(peer)
}

/// The player who calls, known by the token and within the allowance; and what else the token says.
struct Me(PlayerId, Vouched);

impl FromRequestParts<Arc<Lobby>> for Me {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, lobby: &Arc<Lobby>) -> Result<Self, ApiError> {
        let token = super::guard::bearer(&parts.headers)?;
        let (player, vouched) = lobby.login.player(token).await?;
        lobby.allow_player(&player)?;
        Ok(Self(player, vouched))
    }
}

async fn endpoint(State(lobby): Shared, Me(_, _): Me, Named(fleet): Named<FleetName>) -> Outcome {
    lobby.check_open(&lobby.config.endpoints, &fleet, "an endpoint")?;
    Ok(lobby.face.ask_anywhere(Call::Endpoint { fleet, select: None }).await)
}

async fn room(
    State(lobby): Shared,
    Me(me, _): Me,
    Named(fleet): Named<FleetName>,
    headers: HeaderMap,
    Told(body): Told<PlayerRoomRequest>,
) -> Outcome {
    lobby.check_open(&lobby.config.rooms, &fleet, "a room")?;
    let others = body.players.iter().flatten().any(|player| player.0 != me);
    if others {
        let message = format!("player {me} may ask for a seat for {me} alone");
        return Err(ApiError::new(Code::Forbidden, message));
    }
    let asked = header_key(&headers)?.or(body.idempotency_key.map(|key| key.0));
    let body = AllocateRequest {
        key: Some(body.key),
        idempotency_key: asked.map(|key| Text(own_key(&me, &key))),
        players: vec![Text(me)],
        timeout_ms: body.timeout_ms,
        init: serde_json::Value::Null,
        fill: false,
        select: None,
    };
    Ok(lobby.face.ask_anywhere(Call::Allocate { fleet, body }).await)
}

async fn ticket(
    State(lobby): Shared,
    Me(me, vouched): Me,
    Named(fleet): Named<FleetName>,
    headers: HeaderMap,
    Told(body): Told<PlayerTicketRequest>,
) -> Outcome {
    lobby.check_open(&lobby.config.tickets, &fleet, "a match")?;
    let asked = header_key(&headers)?.or(body.idempotency_key.map(|key| key.0));
    let id = ticket_id(&me, asked.as_ref())?;
    let rating = vouched.rating(lobby.config.rating_claim.as_deref())?;
    let attributes = lobby.config.said.of(body.attributes, &vouched)?;
    let ticket =
        TicketBody { rating, attributes, keyword: body.keyword, ..TicketBody::new(id.clone(), [me.clone()]) };
    let body = TicketsRequest { owner: mark(&me), tickets: vec![ticket] };
    let answer = lobby.face.ask_anywhere(Call::FileTickets { fleet, body }).await;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let told = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
    let told = told.ok().and_then(|told| serde_json::from_slice::<TicketsAnswer>(&told).ok());
    let mut told =
        told.ok_or_else(|| ApiError::internal("filed tickets were answered with something else"))?;
    match told.refused.pop() {
        Some(refused) => Err(ApiError::new(refused.code, refused.message)),
        None => Ok(Json(PlayerTicket { ticket: Text(id), term: told.term }).into_response()),
    }
}

async fn assignments(
    State(lobby): Shared,
    Me(me, _): Me,
    Told(body): Told<PlayerAssignmentsRequest>,
) -> Outcome {
    let body = AssignmentsRequest { owner: mark(&me), ack: body.ack, wait_ms: body.wait_ms };
    Ok(lobby.face.ask_anywhere(Call::Assignments(body)).await)
}

/// Without what keeps it waiting: that costs a walk over all tickets, and players ask often.
async fn ticket_status(State(lobby): Shared, Me(me, _): Me, Named(ticket): Named<TicketId>) -> Outcome {
    check_own(&me, &ticket)?;
    Ok(lobby.face.ask_anywhere(Call::Ticket { ticket, why: false }).await)
}

async fn cancel(State(lobby): Shared, Me(me, _): Me, Named(ticket): Named<TicketId>) -> Outcome {
    check_own(&me, &ticket)?;
    Ok(lobby.face.ask_anywhere(Call::CancelTicket(ticket)).await)
}

/// A ticket of somebody else is none.
fn check_own(me: &PlayerId, ticket: &TicketId) -> Result<(), ApiError> {
    let own = ticket.as_str().strip_prefix(&mark(me)).is_some_and(|rest| rest.starts_with('-'));
    let message = || format!("there is no ticket {ticket} of player {me}");
    if own { Ok(()) } else { Err(ApiError::new(Code::TicketNotFound, message())) }
}

fn hex(parts: &[&str], chars: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts are the same bytes.
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(chars);
    text
}

/// A player's mark: owner of the player's tickets and beginning of their ids.
fn mark(player: &PlayerId) -> String {
    format!("p-{}", hex(&["player", player.as_str()], MARK_CHARS))
}

/// The player's own key, apart from the same words of another player and of the back end.
fn own_key(player: &PlayerId, key: &IdempotencyKey) -> IdempotencyKey {
    let text = format!("p-{}", hex(&["key", player.as_str(), key.as_str()], 64));
    text.parse().expect("hex digits make an idempotency key")
}

/// A new id, or the one that belongs to the player's key.
fn ticket_id(player: &PlayerId, key: Option<&IdempotencyKey>) -> Result<TicketId, ApiError> {
    let last = match key {
        Some(key) => hex(&["ticket", player.as_str(), key.as_str()], 24),
        None => {
            let random =
                getrandom::u64().map_err(|_| ApiError::internal("the system gave no random bytes"))?;
            format!("{random:016x}")
        }
    };
    Ok(format!("{}-{last}", mark(player)).parse().expect("hex digits and dashes make a ticket id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_says_who_calls() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let cases = [
            (0, vec!["203.0.113.9"], "10.0.0.1"),
            (1, vec!["203.0.113.9"], "203.0.113.9"),
            (1, vec!["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (1, vec!["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
            (2, vec!["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (2, vec!["203.0.113.9"], "10.0.0.1"),
            (1, vec![], "10.0.0.1"),
            (1, vec!["unknown"], "10.0.0.1"),
        ];
        for (proxies, lines, wanted) in cases {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            assert_eq!(caller_address(peer, &headers, proxies).to_string(), wanted, "{proxies} {lines:?}");
        }
    }

    #[test]
    fn a_ticket_tells_whose_it_is_and_the_same_key_gives_the_same() {
        let (ann, bob): (PlayerId, PlayerId) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let key: IdempotencyKey = "k".parse().unwrap();
        let of = |player, key| ticket_id(player, key).unwrap();
        assert_eq!(of(&ann, Some(&key)), of(&ann, Some(&key)));
        assert_ne!(of(&ann, Some(&key)), of(&bob, Some(&key)));
        assert_ne!(of(&ann, None), of(&ann, None));
        assert!(of(&ann, None).as_str().starts_with(&mark(&ann)));
        assert_ne!(mark(&ann), mark(&bob));
    }
}
