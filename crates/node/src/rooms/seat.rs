//! A player's chair in a live room, and the tie between a socket and it.
//! Never the room's own view of the seat: that is the host's.

use std::rc::Rc;
use std::time::Duration;

use greenroom_core::{PlayerId, RoomId};
use greenroom_room::{InputError, Seat, Why};
use greenroom_socketio::SocketId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::{NotRestored, Position};
use serde_json::json;

use super::LiveRoom;
use crate::connection_log;
use crate::event::Event;
use crate::recovery::tell_word;
use crate::socket::Socket;
use crate::state::NodeState;

/// Code of an input that is wrong and stays so.
const BAD_INPUT: &str = "bad_input";
/// Code of an input that may be sent again: the room has as much as it takes, until its next tick.
const NOT_NOW: &str = "not_now";

/// How long a seat is kept where sessions are not.
const SEAT_KEPT: Duration = Duration::from_secs(30);

/// How long a player may be away and go on.
pub(super) fn session_kept(state: &NodeState) -> Duration {
    state.config.recovery.as_ref().map_or(SEAT_KEPT, |recovery| recovery.window)
}

/// Who holds a seat, by which token and which session.
pub(super) struct Chair {
    pub(super) player: PlayerId,
    pub(super) jti: String,
    pub(super) issued_at: u64,
    /// Secret of the session, given with the last connect reply.
    pub(super) pid: String,
    /// The one that the client showed when it came back: the reply with the newer one may not have arrived.
    pub(super) pid_before: Option<String>,
    /// That secret has been sent to its client.
    pub(super) is_told: bool,
    /// Its socket's public id, which a client that comes back gets again.
    pub(super) socket_id: SocketId,
    /// The room's last event when the session began.
    pub(super) seed: Position,
    pub(super) socket: Option<Socket>,
}

impl Chair {
    /// Its client may never have had the secret: the process ended, or the connection, before it was sent for sure.
    pub(super) fn is_lost(&self) -> bool {
        !self.is_told && self.socket.as_ref().is_none_or(|socket| !socket.has_session())
    }
}

/// A socket's seat.
#[derive(Clone)]
pub(crate) struct Seated {
    pub(crate) room: Rc<LiveRoom>,
    pub(super) seat: Seat,
}

/// A client that gets in.
pub(crate) struct Admission {
    /// The session's new secret, for the connect reply.
    pub(crate) pid: String,
    /// What it missed, all of it; or why it is not told that.
    pub(super) missed: Result<Vec<Prepared>, Option<NotRestored>>,
    pub(super) wants_word: bool,
    pub(crate) seated: Seated,
    /// The connection that held the seat until now.
    pub(super) replaced: Option<Socket>,
}

impl Admission {
    /// Says in the log who came.
    pub(crate) fn log(&self, state: &NodeState, socket: &Socket) {
        let went_on = self.missed.as_ref().map(|_| ()).map_err(|why| *why);
        connection_log::came(state, socket, went_on, Some(self.seated.room_id()));
    }

    /// What is due once the client has its connect reply: the group, the room's greeting, the old connection's end.
    pub(crate) fn complete(self, state: &Rc<NodeState>, socket: &Socket) {
        if let Some(old) = self.replaced {
            old.emit("greenroom:taken_over", &json!({}));
            old.close_transport();
        }
        if self.wants_word {
            tell_word(socket, self.missed.is_ok(), self.missed.as_ref().err().copied().flatten());
        }
        socket.send_missed(self.missed.as_deref().unwrap_or_default());
        let Seated { room, seat } = &self.seated;
        room.told(state, *seat, socket);
        socket.join(&room.group);
        socket.set_seat(Some(Box::new(self.seated.clone())));
        room.settle(state);
        // A handler may have disconnected the socket before it was tied to its seat.
        if !socket.is_connected() {
            let reason = if socket.has_session() {
                DisconnectReason::ServerNamespaceDisconnect
            } else {
                DisconnectReason::ForcedServerClose
            };
            self.seated.handle_gone(state, socket, reason);
        }
        state.status_changed();
    }
}

impl Seated {
    pub(crate) fn room_id(&self) -> &RoomId {
        &self.room.id
    }

    /// An event of the player: an input of the room's next tick. An ack says that it was taken.
    pub(crate) fn handle_event(&self, state: &Rc<NodeState>, socket: &Socket, mut event: Event) {
        let refused = {
            let mut args = event.args();
            let argument = args.next();
            match (args.next(), self.room.holds(self.seat, socket)) {
                (_, false) => return,
                (Some(_), true) => Some((BAD_INPUT, "an event of a room takes one argument".to_owned())),
                (None, true) if self.room.is_choked() => {
                    let why = "the room waits until what it sent is kept; repeat the event later";
                    Some((NOT_NOW, why.to_owned()))
                }
                (None, true) => {
                    let handled =
                        self.room.call(state, |host| host.handle(self.seat, event.name(), argument));
                    match handled {
                        None | Some(Err(InputError::Closed)) => return,
                        Some(Ok(())) => None,
                        Some(Err(error @ (InputError::NotConnected { .. } | InputError::Decode(_)))) => {
                            Some((BAD_INPUT, error.to_string()))
                        }
                        Some(Err(error @ InputError::Full { .. })) => Some((NOT_NOW, error.to_string())),
                    }
                }
            }
        };
        match refused {
            None => {
                if let Some(ack) = event.ack() {
                    // A state in which it was taken must be kept before anybody is told so.
                    self.room.act(state, 0, move |_| ack.send(&json!({ "ok": true })));
                }
            }
            Some((code, message)) => {
                state.counting.inputs_refused_total.one();
                let told = json!({ "event": event.name(), "code": code, "message": message });
                match event.ack() {
                    Some(ack) => ack.send(&json!({ "ok": false, "error": told })),
                    None => socket.emit_volatile("greenroom:refused", &told),
                }
            }
        }
    }

    /// The player's socket is gone: for good when the player said so, else for the room's grace.
    pub(crate) fn handle_gone(&self, state: &Rc<NodeState>, socket: &Socket, reason: DisconnectReason) {
        if !self.room.release(self.seat, socket) {
            return;
        }
        let seat = self.seat;
        match reason {
            DisconnectReason::ClientNamespaceDisconnect => {
                self.room.call(state, |host| host.leave(seat, Why::Left));
            }
            DisconnectReason::ServerNamespaceDisconnect => {
                self.room.call(state, |host| host.leave(seat, Why::Kicked));
            }
            DisconnectReason::TransportError
            | DisconnectReason::TransportClose
            | DisconnectReason::ParseError
            | DisconnectReason::PingTimeout
            | DisconnectReason::ServerShuttingDown
            | DisconnectReason::ForcedClose
            | DisconnectReason::ForcedServerClose => {
                let session = session_kept(state);
                self.room.call(state, |host| host.drop_seat(seat, session));
            }
        }
        self.room.settle(state);
        state.status_changed();
    }
}
