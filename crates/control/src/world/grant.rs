//! A room with seats, promised and not yet signed.
//!
//! Never signs: the claims come out, whoever holds the key makes the tokens. The same grant gives the same claims.

use greenroom_wire::Text;
use greenroom_wire::api::{Allocation, Assignment, SeatGrant};
use greenroom_wire::record::{AnswerRecord, SeatRecord};
use greenroom_wire::token::{ISSUER, JoinClaims, Purpose};
use serde_json::Value;

use super::TicketGrant;

/// A promise, as it is stored, with what else its tokens say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The room and the seats.
    pub record: AnswerRecord,
    /// Seats of the room in all.
    pub seats_max: u16,
    /// Handed to the room's `create`.
    pub init: Value,
}

impl Grant {
    /// What the token of one granted seat says.
    #[must_use]
    pub fn claims(&self, seat: &SeatRecord) -> JoinClaims {
        JoinClaims {
            iss: ISSUER.to_owned(),
            aud: self.record.fleet.clone(),
            sub: seat.player.clone(),
            jti: seat.token_id.to_string(),
            iat: self.record.answered_at_ms / 1_000,
            exp: seat.expires_at_ms / 1_000,
            purpose: Purpose::Join,
            room: self.record.room.clone(),
            epoch: self.record.epoch,
            instance: self.record.instance.clone(),
            seat: seat.seat,
            seats: self.seats_max,
            key: self.record.key.clone(),
            init: self.init.clone(),
        }
    }

    /// The answer, with each token made by `sign`.
    #[must_use]
    pub fn signed(&self, sign: impl Fn(&JoinClaims) -> String) -> Allocation {
        let record = &self.record;
        Allocation {
            room: record.room.clone(),
            fleet: record.fleet.clone(),
            key: record.key.clone(),
            epoch: record.epoch,
            server: record.server.clone(),
            endpoint: record.endpoint.to_string(),
            url: url(&record.endpoint, record.tls),
            created: record.created,
            because: record.because.clone(),
            seats: record
                .seats
                .iter()
                .map(|seat| SeatGrant {
                    seat: seat.seat,
                    player: seat.player.clone(),
                    token: sign(&self.claims(seat)),
                    expires_at_ms: seat.expires_at_ms,
                })
                .collect(),
        }
    }
}

impl TicketGrant {
    /// The answer, with each token made by `sign`.
    #[must_use]
    pub fn signed(&self, sign: impl Fn(&JoinClaims) -> String) -> Assignment {
        Assignment { ticket: Text(self.ticket.clone()), allocation: self.grant.signed(sign) }
    }
}

/// What a Socket.IO client dials for `host:port`.
pub(crate) fn url(endpoint: &str, tls: bool) -> String {
    format!("{}://{endpoint}", if tls { "https" } else { "http" })
}
