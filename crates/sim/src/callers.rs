//! Everybody who asks: back ends for rooms, players for lobby servers. And the players on their way.
//!
//! Never looks at control's insides: an answer is all they know.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_control::world::{Answer, Call, Grant, Refusal, RequestId};
use greenroom_core::placement::ZONE;
use greenroom_core::{FleetName, PlayerId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::api::{AllocateRequest, SelectorBody};
use greenroom_wire::token::JoinClaims;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::Summary;
use crate::host::ZONES;
use crate::invariant::Broken;

/// How late an answer may be: a tick and a step.
pub(crate) const LATE_MS_MAX: u64 = 600;

/// Rooms that several parties ask for.
const KEYS: u32 = 6;

/// Somebody on the way to a server.
#[derive(Debug, Clone)]
pub(crate) enum Arrival {
    /// With a token.
    Room { server: ServerName, claims: Box<JoinClaims>, leaves_ms: u64 },
    /// To a mesh server.
    Mesh { server: ServerName, player: PlayerId, leaves_ms: u64 },
}

#[derive(Debug)]
struct Pending {
    asked_ms: u64,
    deadline_ms: u64,
    body: Option<AllocateRequest>,
}

/// The world of callers.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    pending: BTreeMap<RequestId, Pending>,
    arrivals: Vec<(u64, Arrival)>,
    repeats: Vec<(u64, AllocateRequest)>,
    /// What each idempotency key was answered with.
    answers: BTreeMap<String, String>,
    number: u64,
    stay_ms_max: u64,
}

impl Callers {
    /// Nobody has called yet; players stay for up to `stay_ms_max`.
    pub(crate) fn new(stay_ms_max: u64) -> Self {
        Self { stay_ms_max, ..Self::default() }
    }

    /// A new call for a room or for a lobby server.
    pub(crate) fn ask(&mut self, now_ms: u64, request: RequestId, rng: &mut ChaCha8Rng) -> Call {
        if rng.random_bool(0.3) {
            self.pending
                .insert(request, Pending { asked_ms: now_ms, deadline_ms: now_ms + 10_000, body: None });
            return Call::Endpoint { fleet: name("lobby"), select: select(rng) };
        }
        let party = rng.random_range(1..=4);
        let key = rng.random_bool(0.4).then(|| rng.random_range(0..KEYS));
        let body = AllocateRequest {
            key: key.map(|key| Text(format!("guild:{key}").parse().expect("visible ASCII"))),
            players: (0..party).map(|_| Text(self.player(rng))).collect(),
            idempotency_key: rng.random_bool(0.5).then(|| {
                self.number += 1;
                Text(format!("order-{}", self.number).parse().expect("visible ASCII"))
            }),
            timeout_ms: Some(rng.random_range(0..=10_000)),
            init: Value::Null,
            fill: key.is_none() && rng.random_bool(0.3),
            select: select(rng),
        };
        self.allocate(now_ms, request, body)
    }

    /// A new player.
    fn player(&mut self, rng: &mut ChaCha8Rng) -> PlayerId {
        self.number += rng.random_range(1..=3);
        format!("player-{}", self.number).parse().expect("visible ASCII")
    }

    fn allocate(&mut self, now_ms: u64, request: RequestId, body: AllocateRequest) -> Call {
        let deadline_ms = now_ms + body.timeout_ms.unwrap_or(10_000);
        self.pending.insert(request, Pending { asked_ms: now_ms, deadline_ms, body: Some(body.clone()) });
        Call::Allocate { fleet: name("arena"), body }
    }

    /// A call that is made once more, when one is due.
    pub(crate) fn repeat(&mut self, now_ms: u64) -> Option<AllocateRequest> {
        let due = self.repeats.iter().position(|(at, _)| *at <= now_ms)?;
        Some(self.repeats.swap_remove(due).1)
    }

    /// Makes that call.
    pub(crate) fn ask_again(&mut self, now_ms: u64, request: RequestId, body: AllocateRequest) -> Call {
        self.allocate(now_ms, request, body)
    }

    /// Takes an answer in.
    pub(crate) fn answered(
        &mut self,
        now_ms: u64,
        request: RequestId,
        answer: Result<Answer, Refusal>,
        (lost, rng): (&BTreeSet<String>, &mut ChaCha8Rng),
        summary: &mut Summary,
    ) -> Result<(), Broken> {
        let Some(pending) = self.pending.remove(&request) else {
            return Err(Broken::AnsweredTwice { request: request.0 });
        };
        match (answer, pending.body) {
            (Ok(Answer::Allocated(grant)), Some(body)) => {
                summary.granted += 1;
                self.granted(now_ms, &grant, body, (lost, rng))?;
            }
            (Ok(Answer::Endpoint(answer)), None) => {
                summary.granted += 1;
                let player = self.player(rng);
                let at = now_ms + rng.random_range(10..=4_000);
                // It asks again when it could not dial well before the answer expires: some come late.
                if at + 1_000 > answer.expires_at_ms {
                    return Ok(());
                }
                let leaves_ms = at + rng.random_range(100..=self.stay_ms_max);
                self.arrivals.push((at, Arrival::Mesh { server: answer.server.0, player, leaves_ms }));
            }
            (Ok(_) | Err(_), _) => summary.refused += 1,
        }
        Ok(())
    }

    fn granted(
        &mut self,
        now_ms: u64,
        grant: &Grant,
        body: AllocateRequest,
        (lost, rng): (&BTreeSet<String>, &mut ChaCha8Rng),
    ) -> Result<(), Broken> {
        if let Some(key) = body.idempotency_key.as_ref().map(ToString::to_string) {
            let fingerprint = fingerprint(grant);
            let first = self.answers.entry(key.clone()).or_insert_with(|| fingerprint.clone());
            if lost.contains(&format!("request:{key}")) {
                first.clone_from(&fingerprint);
            }
            if *first != fingerprint {
                return Err(Broken::AnswerChanged { key, first: first.clone(), second: fingerprint });
            }
            if rng.random_bool(0.4) {
                self.repeats.push((now_ms + rng.random_range(10..=30_000), body));
            }
        }
        self.seated(now_ms, grant, rng);
        Ok(())
    }

    /// The players of a grant set out.
    pub(crate) fn seated(&mut self, now_ms: u64, grant: &Grant, rng: &mut ChaCha8Rng) {
        for seat in &grant.record.seats {
            // Some never come, some come too late.
            let delay_ms = match rng.random_range(0..20) {
                0..3 => continue,
                3 => rng.random_range(25_000..=40_000),
                _ => rng.random_range(10..=4_000),
            };
            let at = now_ms + delay_ms;
            let leaves_ms = at + rng.random_range(500..=self.stay_ms_max);
            let claims = Box::new(grant.claims(seat));
            let server = grant.record.server.0.clone();
            self.arrivals.push((at, Arrival::Room { server, claims, leaves_ms }));
        }
    }

    /// Who arrives in this step.
    pub(crate) fn arrivals(&mut self, now_ms: u64) -> Vec<Arrival> {
        let (due, later) = std::mem::take(&mut self.arrivals).into_iter().partition(|(at, _)| *at <= now_ms);
        self.arrivals = later;
        let due: Vec<(u64, Arrival)> = due;
        due.into_iter().map(|(_, arrival)| arrival).collect()
    }

    /// Nobody will answer this call. Who has an idempotency key asks again.
    pub(crate) fn hang_up(&mut self, now_ms: u64, request: RequestId, rng: &mut ChaCha8Rng) {
        let Some(pending) = self.pending.remove(&request) else { return };
        if let Some(body) = pending.body.filter(|body| body.idempotency_key.is_some()) {
            self.repeats.push((now_ms + rng.random_range(10..=3_000), body));
        }
    }

    /// Calls that are overdue; an error when nothing was wrong with the control plane since `troubled_ms`.
    pub(crate) fn overdue(&self, now_ms: u64, troubled_ms: u64) -> Result<Vec<RequestId>, Broken> {
        let mut overdue = Vec::new();
        for (request, pending) in &self.pending {
            let late_ms = now_ms.saturating_sub(pending.deadline_ms);
            if late_ms > LATE_MS_MAX {
                if troubled_ms < pending.asked_ms {
                    return Err(Broken::Unanswered { request: request.0, late_ms });
                }
                overdue.push(*request);
            }
        }
        Ok(overdue)
    }

    /// Calls, players and repeats still under way.
    pub(crate) fn under_way(&self) -> usize {
        self.pending.len() + self.arrivals.len() + self.repeats.len()
    }
}

/// Some will take servers of one zone only.
fn select(rng: &mut ChaCha8Rng) -> Option<SelectorBody> {
    let zone = ZONES[rng.random_range(0..ZONES.len())].to_owned();
    let labels = [(ZONE.to_owned(), zone)].into();
    rng.random_bool(0.15).then_some(SelectorBody { labels, revision: None })
}

pub(crate) fn fingerprint(grant: &Grant) -> String {
    let seats =
        grant.record.seats.iter().map(|seat| format!("{}:{}:{}", seat.seat, seat.player, seat.token_id));
    format!("{} {}", grant.record.room, seats.collect::<Vec<_>>().join(" "))
}

fn name(fleet: &str) -> FleetName {
    fleet.parse().expect("the names here are valid")
}
