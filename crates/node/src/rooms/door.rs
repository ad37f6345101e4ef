//! The check of a JoinToken against this node's rooms, in the order of the refusals that clients know.
//! Never answers a passing state with a refusal, because stock clients give up then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_core::Timestamp;
use greenroom_room::{CreateError, HostedRoom};
use greenroom_wire::token::{JoinClaims, TokenError};
use serde::Deserialize;
use serde_json::json;

use super::live::{LiveRoom, run_ticks};
use super::{Admission, Rooms, Verdict};
use crate::handshake::{ConnectRequest, Refusal};
use crate::recovery::Returning;
use crate::socket::Socket;
use crate::state::{NodeState, random_u64};

/// What a client brings in `auth`, beside what the stock client adds by itself when it comes back.
#[derive(Deserialize)]
struct Auth {
    token: Option<String>,
    /// The room that the client believes to enter; may be left out.
    room: Option<String>,
}

/// Why a client does not get in. The code is `error.message` at the client, and in `error.data` beside a text.
pub(super) fn refuse(code: &str, message: impl std::fmt::Display) -> Verdict {
    let data = json!({ "code": code, "message": message.to_string() });
    Verdict::Refuse(Refusal::new(code).with_data(data))
}

/// The wall clock, which the tokens' expiry is told in.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Rooms {
    /// Judges who asks for the main namespace of a room server, and seats them.
    pub(crate) fn enter(&self, state: &Rc<NodeState>, socket: &Socket, request: &ConnectRequest) -> Verdict {
        let auth = match request.auth::<Auth>() {
            Ok(auth) => auth,
            Err(error) => return refuse("token_malformed", format!("auth cannot be read: {error}")),
        };
        let Some(token) = &auth.token else {
            return refuse("token_missing", "auth has no token; ask for a room first");
        };
        if self.is_ending.get() {
            return Verdict::HangUp;
        }
        let claims = match self.check(token) {
            Ok(claims) => claims,
            Err(verdict) => return verdict,
        };
        if claims.instance.0 != self.instance {
            match self.has_come_over(&claims.instance.0, &claims.room.0, claims.epoch) {
                Some(true) => {}
                Some(false) => return refuse("wrong_server", "the token is for another server"),
                None => return Verdict::HangUp,
            }
        }
        if auth.room.as_ref().is_some_and(|room| room != claims.room.as_str()) {
            return refuse("wrong_room", format!("the token is for room {}", claims.room));
        }
        let live = self.live.borrow().get(&claims.room.0).cloned();
        let returning = Returning::read(request);
        match live {
            Some(room) if claims.epoch < room.epoch => refuse("room_ended", "the room has a new owner"),
            Some(room) if claims.epoch == room.epoch => {
                room.admit(state, socket, &claims, &returning, wall_clock())
            }
            Some(older) => {
                older.close(state, greenroom_wire::rooms::EndReason::Superseded);
                self.open(state, socket, &claims, &returning)
            }
            None => self.open(state, socket, &claims, &returning),
        }
    }

    fn check(&self, token: &str) -> Result<JoinClaims, Verdict> {
        let verifier = self.verifier.borrow();
        // The agent has not reached control yet: that passes.
        let verifier = verifier.as_ref().ok_or(Verdict::HangUp)?;
        verifier.claims(token).map_err(|error| {
            let code = match &error {
                TokenError::Malformed => "token_malformed",
                TokenError::Signature => "token_signature",
                TokenError::Audience { .. } => "wrong_fleet",
            };
            refuse(code, error)
        })
    }

    /// Opens the room of a first token.
    fn open(
        &self,
        state: &Rc<NodeState>,
        socket: &Socket,
        claims: &JoinClaims,
        returning: &Returning,
    ) -> Verdict {
        let has_ended =
            self.ended.borrow().get(&claims.room.0).is_some_and(|ended| claims.epoch <= ended.epoch);
        if has_ended {
            return refuse("room_ended", "the room is over");
        }
        let now = wall_clock();
        if claims.is_expired(now) {
            return refuse("token_expired", "the token has expired; ask for a room again");
        }
        if self.count() >= state.config.rooms_max {
            // A lingering room will make place.
            return Verdict::HangUp;
        }
        let host = match self.create(claims) {
            Ok(host) => host,
            Err(verdict) => return verdict,
        };
        state.counting.rooms_opened_total.one();
        let room = LiveRoom::new(claims, host, self.keeping());
        self.live.borrow_mut().insert(room.id.clone(), Rc::clone(&room));
        tracing::info!(room = %room.id, "room opened");
        let handle = crate::node::NodeHandle(Rc::clone(state));
        handle.spawn(run_ticks(Rc::clone(state), Rc::clone(&room)));
        state.status_changed();
        // The first checkpoint has who comes with it.
        room.list(state);
        room.admit(state, socket, claims, returning, now)
    }

    fn create(&self, claims: &JoinClaims) -> Result<Box<dyn HostedRoom>, Verdict> {
        let init = claims.init.to_string();
        let kind = &self.kind;
        let created = catch_unwind(AssertUnwindSafe(|| kind.create(&init, random_u64(), claims.seats)));
        match created {
            Ok(Ok(host)) => Ok(host),
            Ok(Err(error)) => {
                tracing::warn!(room = %claims.room, %error, "a room could not be made");
                Err(match &error {
                    CreateError::Rejected(reject) => refuse("room_refused", reject),
                    CreateError::Seats { .. } | CreateError::Init { .. } => refuse("room_refused", &error),
                })
            }
            Err(_) => {
                tracing::error!(room = %claims.room, "a room panicked while it was made");
                Err(refuse("room_refused", "the room failed to start"))
            }
        }
    }
}

/// A seat that the token opened: what is left to do once the client has its connect reply.
pub(super) fn accept(admission: Admission) -> Verdict {
    Verdict::Accept(Some(admission))
}
