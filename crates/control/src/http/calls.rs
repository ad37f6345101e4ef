//! The calls of the API: each reads its request, asks the world and writes the answer.
//!
//! Never keeps anything between two calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use greenroom_core::{FleetName, HostName, IdempotencyKey, Revision, RoomId, ServerName, TicketId};
use greenroom_wire::Text;
use greenroom_wire::api::{
    AllocateRequest, AssignmentsAnswer, AssignmentsRequest, DrainKind, DrainRequest, DryRunRequest,
    FinishRequest, MetricRequest, Readiness, ReplicaRole, ReplicaStatus, ScaleRequest, SelectorBody,
    TicketCancelled, TicketsRequest,
};
use greenroom_wire::token::PublicKeys;
use serde::Deserialize;

use super::Face;
use super::error::ApiError;
use super::extract::{Asked, Named, Told};
use crate::access::Caller;
use crate::office::{Desk, Leader, Leading};
use crate::world::{Actor, Answer, Call};

type Shared = State<Arc<Face>>;
type Outcome = Result<Response, ApiError>;

/// `?fleet=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfFleet {
    pub(super) fleet: Option<Text<FleetName>>,
}

/// `?fleet=&offset=&limit=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paged {
    fleet: Option<Text<FleetName>>,
    offset: Option<usize>,
    limit: Option<usize>,
}

/// `?before=&limit=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    before: Option<u64>,
    limit: Option<usize>,
}

/// `?labels=zone:a,tier:b&revision=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Select {
    labels: Option<String>,
    revision: Option<Text<Revision>>,
}

impl Select {
    pub(super) fn body(self) -> Result<Option<SelectorBody>, ApiError> {
        let mut labels = BTreeMap::new();
        for pair in self.labels.iter().flat_map(|labels| labels.split(',')) {
            let Some((name, value)) = pair.split_once(':') else {
                let message = format!("labels has {pair:?}; write labels=zone:a,tier:b");
                return Err(ApiError::bad_request(message));
            };
            labels.insert(name.to_owned(), value.to_owned());
        }
        let asked = !labels.is_empty() || self.revision.is_some();
        Ok(asked.then_some(SelectorBody { labels, revision: self.revision }))
    }
}

/// `?limit=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Last {
    limit: Option<usize>,
}

/// `?offset=&bytes_max=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    offset: Option<u64>,
    bytes_max: Option<u32>,
}

/// `?why=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Explained {
    why: Option<WhyWord>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum WhyWord {
    Told,
    LeftOut,
}

impl Face {
    pub(super) async fn answer(&self, call: Call) -> Outcome {
        let (answer, desk) = self.ask(call).await?;
        desk.body(answer).await
    }
}

impl Desk {
    /// The body of an answer. Tokens are signed by a thread beside that of the world's loop.
    pub(super) async fn body(self: Arc<Self>, answer: Answer) -> Outcome {
        let has_tokens =
            matches!(answer, Answer::Allocated(_) | Answer::Assignments { .. } | Answer::Cancelled(Some(_)));
        if !has_tokens {
            return Ok(self.written(answer));
        }
        let desk = Arc::clone(&self);
        let written = self.pens.write(move || desk.written(answer)).await;
        written.map_err(|spilt| ApiError::internal(&spilt.to_string()))
    }

    fn written(&self, answer: Answer) -> Response {
        let sign = |claims: &_| self.signer.sign(claims);
        match answer {
            Answer::Endpoint(body) => Json(body).into_response(),
            Answer::Allocated(grant) => Json(grant.signed(sign)).into_response(),
            Answer::Tickets(body) => Json(body).into_response(),
            Answer::Ticket(body) => Json(body).into_response(),
            Answer::Assignments { term, assignments } => {
                let assignments = assignments.iter().map(|ticket| ticket.signed(sign)).collect();
                Json(AssignmentsAnswer { term, assignments }).into_response()
            }
            Answer::Cancelled(None) => Json(TicketCancelled::Cancelled).into_response(),
            Answer::Cancelled(Some(ticket)) => {
                Json(TicketCancelled::AlreadyAssigned { assignment: Box::new(ticket.signed(sign)) })
                    .into_response()
            }
            Answer::Finished(body) | Answer::Room(body) => Json(body).into_response(),
            Answer::Logs(body) => Json(body).into_response(),
            Answer::Restarted(body) => Json(body).into_response(),
            Answer::Scaled(body) => Json(body).into_response(),
            Answer::Drained(body) => Json(body).into_response(),
            Answer::MayExport => StatusCode::NO_CONTENT.into_response(),
            Answer::Decisions(body) => Json(body).into_response(),
            Answer::DryRun(body) => Json(body).into_response(),
            Answer::Fleets(body) => Json(body).into_response(),
            Answer::Fleet(body) => Json(body).into_response(),
            Answer::Gameservers(body) => Json(body).into_response(),
            Answer::Gameserver(body) => Json(body).into_response(),
            Answer::Rooms(body) => Json(body).into_response(),
            Answer::Hosts(body) => Json(body).into_response(),
            Answer::Overview(body) => Json(body).into_response(),
            Answer::Audit(body) => Json(body).into_response(),
            Answer::Metric(body) => Json(body).into_response(),
            Answer::Triggers(body) => Json(body).into_response(),
            Answer::Slos(body) => Json(body).into_response(),
            Answer::Readiness(body) => {
                let status = if body.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, Json(body)).into_response()
            }
        }
    }
}

pub(crate) async fn fleets(State(face): Shared) -> Outcome {
    face.answer(Call::Fleets).await
}

pub(crate) async fn fleet(State(face): Shared, Named(fleet): Named<FleetName>) -> Outcome {
    face.answer(Call::Fleet(fleet)).await
}

pub(crate) async fn endpoint(
    State(face): Shared,
    Named(fleet): Named<FleetName>,
    Asked(select): Asked<Select>,
) -> Outcome {
    let select = select.body()?;
    face.answer(Call::Endpoint { fleet, select }).await
}

pub(crate) async fn allocate(
    State(face): Shared,
    Named(fleet): Named<FleetName>,
    headers: HeaderMap,
    Told(mut body): Told<AllocateRequest>,
) -> Outcome {
    take_key(&headers, &mut body)?;
    face.answer(Call::Allocate { fleet, body }).await
}

/// The key of the header goes into the body, where it must not contradict one.
pub(super) fn take_key(headers: &HeaderMap, body: &mut AllocateRequest) -> Result<(), ApiError> {
    let Some(key) = header_key(headers)? else { return Ok(()) };
    if body.idempotency_key.as_ref().is_some_and(|in_body| in_body.0 != key) {
        let message = "the Idempotency-Key header and idempotency_key in the body differ";
        return Err(ApiError::bad_request(message));
    }
    body.idempotency_key = Some(Text(key));
    Ok(())
}

pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text =
        value.to_str().map_err(|_| ApiError::bad_request("the Idempotency-Key header is not ASCII"))?;
    let key = text
        .parse()
        .map_err(|error| ApiError::bad_request(format!("in the Idempotency-Key header: {error}")))?;
    Ok(Some(key))
}

pub(crate) async fn file_tickets(
    State(face): Shared,
    Named(fleet): Named<FleetName>,
    Told(body): Told<TicketsRequest>,
) -> Outcome {
    face.answer(Call::FileTickets { fleet, body }).await
}

pub(crate) async fn assignments(State(face): Shared, Told(body): Told<AssignmentsRequest>) -> Outcome {
    face.answer(Call::Assignments(body)).await
}

pub(crate) async fn cancel_ticket(State(face): Shared, Named(ticket): Named<TicketId>) -> Outcome {
    face.answer(Call::CancelTicket(ticket)).await
}

pub(crate) async fn ticket(
    State(face): Shared,
    Named(ticket): Named<TicketId>,
    Asked(explained): Asked<Explained>,
) -> Outcome {
    let why = explained.why.is_none_or(|why| why == WhyWord::Told);
    face.answer(Call::Ticket { ticket, why }).await
}

pub(crate) async fn rooms(State(face): Shared, Asked(page): Asked<Paged>) -> Outcome {
    let limit = page.limit.unwrap_or(500);
    if !(1..=5_000).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit must be 1 to 5000, not {limit}")));
    }
    let fleet = page.fleet.map(|fleet| fleet.0);
    face.answer(Call::Rooms { fleet, offset: page.offset.unwrap_or(0), limit }).await
}

pub(crate) async fn room(State(face): Shared, Named(room): Named<RoomId>) -> Outcome {
    face.answer(Call::Room(room)).await
}

pub(crate) async fn finish(
    State(face): Shared,
    Extension(caller): Extension<Caller>,
    Named(room): Named<RoomId>,
    Told(body): Told<FinishRequest>,
) -> Outcome {
    face.answer(Call::Finish { room, body, by: actor(caller) }).await
}

pub(crate) async fn gameservers(State(face): Shared, Asked(of): Asked<OfFleet>) -> Outcome {
    face.answer(Call::Gameservers(of.fleet.map(|fleet| fleet.0))).await
}

pub(crate) async fn gameserver(State(face): Shared, Named(server): Named<ServerName>) -> Outcome {
    face.answer(Call::Gameserver(server)).await
}

pub(crate) async fn logs(
    State(face): Shared,
    Named(server): Named<ServerName>,
    Asked(piece): Asked<Piece>,
) -> Outcome {
    face.answer(Call::Logs { server, offset: piece.offset, bytes_max: piece.bytes_max }).await
}

pub(crate) async fn restart(
    State(face): Shared,
    Extension(caller): Extension<Caller>,
    Named(fleet): Named<FleetName>,
) -> Outcome {
    face.answer(Call::Restart { fleet, by: actor(caller) }).await
}

/// Who calls, as the audit trail names them.
pub(super) fn actor(caller: Caller) -> Actor {
    caller.name.map_or(Actor::Anonymous, Actor::Token)
}

pub(crate) async fn audit(State(face): Shared, Asked(page): Asked<Before>) -> Outcome {
    let limit = page.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit must be 1 to 1000, not {limit}")));
    }
    face.answer(Call::Audit { before: page.before, limit }).await
}

pub(crate) async fn slos(State(face): Shared) -> Outcome {
    face.answer(Call::Slos).await
}

pub(crate) async fn triggers(State(face): Shared) -> Outcome {
    face.answer(Call::Triggers).await
}

pub(crate) async fn metric(
    State(face): Shared,
    Named(name): Named<String>,
    Told(body): Told<MetricRequest>,
) -> Outcome {
    face.answer(Call::TellMetric { name, body }).await
}

pub(crate) async fn scale(
    State(face): Shared,
    Extension(caller): Extension<Caller>,
    Named(fleet): Named<FleetName>,
    Told(body): Told<ScaleRequest>,
) -> Outcome {
    face.answer(Call::Scale { fleet, body, by: actor(caller) }).await
}

pub(crate) async fn drain_host(
    State(face): Shared,
    Extension(caller): Extension<Caller>,
    Named(name): Named<HostName>,
    Told(body): Told<DrainRequest>,
) -> Outcome {
    let name = name.to_string();
    face.answer(Call::Drain { kind: DrainKind::Host, name, body, by: actor(caller) }).await
}

pub(crate) async fn drain_zone(
    State(face): Shared,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Told(body): Told<DrainRequest>,
) -> Outcome {
    face.answer(Call::Drain { kind: DrainKind::Zone, name, body, by: actor(caller) }).await
}

pub(crate) async fn decisions(
    State(face): Shared,
    Named(fleet): Named<FleetName>,
    Asked(page): Asked<Last>,
) -> Outcome {
    face.answer(Call::Decisions { fleet, limit: page.limit.unwrap_or(usize::MAX) }).await
}

pub(crate) async fn dry_run(
    State(face): Shared,
    Named(fleet): Named<FleetName>,
    Told(body): Told<DryRunRequest>,
) -> Outcome {
    face.answer(Call::DryRun { fleet, body }).await
}

pub(crate) async fn hosts(State(face): Shared) -> Outcome {
    face.answer(Call::Hosts).await
}

pub(crate) async fn keys(State(face): Shared) -> Result<Json<PublicKeys>, ApiError> {
    let desk = face.office.desk().ok_or_else(super::no_leader)?;
    Ok(Json(desk.keys.clone()))
}

/// Alive as long as it answers.
pub(crate) async fn livez() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "alive": true }))
}

/// A replica that does not lead can serve as soon as it knows who does.
pub(crate) async fn readyz(State(face): Shared) -> Outcome {
    let Some(peers) = &face.peers else {
        return face.answer(Call::Readiness { minimum: face.minimum }).await;
    };
    let leading = face.office.leading().borrow().clone();
    let replica = |role, leader: Option<&Leader>| ReplicaStatus {
        name: peers.config.name.clone(),
        role,
        leader: leader.map(|leader| leader.name.clone()),
        term: leader.map(|leader| leader.term),
    };
    let readiness = match leading {
        Leading::Ourselves(desk) => {
            let ourselves = Leader { name: peers.config.name.clone(), url: String::new(), term: desk.term };
            let (answer, _) = face.ask(Call::Readiness { minimum: face.minimum }).await?;
            let Answer::Readiness(readiness) = answer else {
                return Err(ApiError::internal("readiness was answered with something else"));
            };
            Readiness { replica: Some(replica(ReplicaRole::Leader, Some(&ourselves))), ..readiness }
        }
        Leading::Another(leader) => Readiness {
            ready: true,
            waiting_on: Vec::new(),
            replica: Some(replica(ReplicaRole::Follower, Some(&leader))),
        },
        Leading::Nobody(why) => Readiness {
            ready: false,
            waiting_on: vec![format!("a leader: {why}")],
            replica: Some(replica(ReplicaRole::Follower, None)),
        },
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(readiness)).into_response())
}

pub(crate) async fn overview(State(face): Shared) -> Outcome {
    let (answer, desk) = face.ask(Call::Overview).await?;
    let Answer::Overview(mut overview) = answer else { return desk.body(answer).await };
    overview.leader = face.peers.as_ref().map(|peers| peers.config.name.clone());
    desk.body(Answer::Overview(overview)).await
}
