//! One live room: its host, its chairs, its clock and its end.
//! Never lets the game's panic out: the room ends as crashed, the others go on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenroom_core::{RoomId, RoomKey, Timestamp};
use greenroom_room::{HostedRoom, JoinError, Output, Player, Presence, Seat, SnapshotError, To, Why};
use greenroom_socketio::packet::Draft;
use greenroom_wire::backplane::{NotRestored, Pid};
use greenroom_wire::kept::KeptRoom;
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport, SeatPhase, SeatReport};
use greenroom_wire::token::JoinClaims;
use serde_json::json;
use tokio::time::Instant;

use super::Verdict;
use super::door::{accept, refuse};
use super::history::{RoomHistory, is_meant};
use super::keeping::Keeping;
use super::seat::{Admission, Chair, Seated};
use crate::recovery::Returning;
use crate::session::Urgency;
use crate::socket::Socket;
use crate::state::{NodeState, random_id};

/// Ticks that are made up for at once; a room that is further behind loses the rest.
const TICKS_AT_ONCE: u64 = 5;

pub(crate) struct LiveRoom {
    pub(super) id: RoomId,
    pub(super) epoch: u32,
    pub(super) key: Option<RoomKey>,
    /// Name of the Socket.IO group of the seated sockets.
    pub(super) group: String,
    host: RefCell<Box<dyn HostedRoom>>,
    pub(super) chairs: RefCell<Vec<Option<Chair>>>,
    /// Every token that opened a seat here and has not expired, with its expiry: none opens one twice.
    pub(super) used: RefCell<BTreeMap<String, u64>>,
    has_ended: Cell<bool>,
    /// Why it is over, where players are told so by and by.
    pub(super) ended: Cell<Option<EndReason>>,
    pub(super) history: RoomHistory,
    /// How it is kept beyond this process.
    pub(super) keeping: Option<Keeping>,
}

impl LiveRoom {
    pub(super) fn new(claims: &JoinClaims, host: Box<dyn HostedRoom>, keeping: Option<Keeping>) -> Rc<Self> {
        let chairs = host.seats().iter().map(|_| None).collect();
        Rc::new(Self {
            id: claims.room.0.clone(),
            epoch: claims.epoch,
            key: claims.key.as_ref().map(|key| key.0.clone()),
            group: format!("room:{}", claims.room),
            host: RefCell::new(host),
            chairs: RefCell::new(chairs),
            used: RefCell::default(),
            has_ended: Cell::new(false),
            ended: Cell::new(None),
            history: RoomHistory::new(),
            keeping,
        })
    }

    /// A room of a process before this one, where it was.
    pub(super) fn taken_up(
        record: KeptRoom,
        host: Box<dyn HostedRoom>,
        history: RoomHistory,
        keeping: Keeping,
    ) -> Rc<Self> {
        let mut chairs: Vec<Option<Chair>> = host.seats().iter().map(|_| None).collect();
        for kept in record.seats {
            // A seat whose socket has no name of ours would be somebody else's.
            if let (Some(chair), Ok(socket_id)) =
                (chairs.get_mut(usize::from(kept.seat)), kept.socket.parse())
            {
                *chair = Some(Chair {
                    player: kept.player.0,
                    jti: kept.jti,
                    issued_at: kept.issued_at,
                    pid: kept.pid.reveal().to_owned(),
                    pid_before: kept.pid_before.map(|pid| pid.reveal().to_owned()),
                    is_told: kept.is_told,
                    socket_id,
                    seed: kept.seed.0,
                    socket: None,
                });
            }
        }
        Rc::new(Self {
            group: format!("room:{}", record.room),
            id: record.room.0,
            epoch: record.epoch,
            key: record.key.map(|key| key.0),
            host: RefCell::new(host),
            chairs: RefCell::new(chairs),
            used: RefCell::new(record.used),
            has_ended: Cell::new(false),
            ended: Cell::new(None),
            history,
            keeping: Some(keeping),
        })
    }

    /// Its state as bytes. `None`: the game panicked over it.
    pub(super) fn snapshot(&self) -> Option<Result<Vec<u8>, SnapshotError>> {
        let host = self.host.borrow();
        catch_unwind(AssertUnwindSafe(|| host.snapshot()))
            .map_err(|_| tracing::error!(room = %self.id, "a room panicked while it was written"))
            .ok()
    }

    /// Calls the game. `None`: it panicked, and the room has ended; or it had ended before, or stands still for the next
    /// process.
    pub(super) fn call<T>(
        self: &Rc<Self>,
        state: &Rc<NodeState>,
        run: impl FnOnce(&mut dyn HostedRoom) -> T,
    ) -> Option<T> {
        if self.has_ended.get() || self.is_sealed() {
            return None;
        }
        let called = {
            let mut host = self.host.borrow_mut();
            catch_unwind(AssertUnwindSafe(|| run(host.as_mut())))
        };
        called
            .map_err(|_| {
                state.counting.rooms_crashed_total.one();
                tracing::error!(room = %self.id, "a room panicked");
                self.end(state, EndReason::Crashed);
            })
            .ok()
    }

    /// Judges a token of this very room and epoch, and seats its player.
    pub(super) fn admit(
        self: &Rc<Self>,
        state: &Rc<NodeState>,
        socket: &Socket,
        claims: &JoinClaims,
        returning: &Returning,
        now: Timestamp,
    ) -> Verdict {
        let index = usize::from(claims.seat);
        let is_reentry = match self.chairs.borrow().get(index) {
            None => return refuse("room_full", format!("the room has no seat {}", claims.seat)),
            Some(Some(chair)) if chair.jti == claims.jti => {
                let shown = returning.pid.as_ref().map(Pid::reveal);
                let knows = |known: &String| Some(known.as_str()) == shown;
                if !knows(&chair.pid) && !chair.pid_before.as_ref().is_some_and(knows) && !chair.is_lost() {
                    return refuse("token_used", "the token was used by another session");
                }
                true
            }
            Some(_) if self.used.borrow().contains_key(&claims.jti) => {
                return refuse("token_used", "the token was used before; ask for a room again");
            }
            Some(_) if claims.is_expired(now) => {
                return refuse("token_expired", "the token has expired; ask for a room again");
            }
            Some(Some(chair)) if chair.player != claims.sub.0 || chair.issued_at > claims.iat => {
                return refuse("seat_taken", "somebody else holds the seat");
            }
            Some(Some(_)) => true,
            Some(None) => false,
        };
        let seat = Seat(claims.seat);
        if is_reentry {
            if self.call(state, |host| host.resume(seat)).is_none_or(|resumed| resumed.is_err()) {
                return refuse("room_ended", "the room is over");
            }
        } else if let Err(verdict) = self.join(state, seat, claims) {
            return verdict;
        }
        accept(self.take_chair(state, socket, claims, returning))
    }

    fn join(self: &Rc<Self>, state: &Rc<NodeState>, seat: Seat, claims: &JoinClaims) -> Result<(), Verdict> {
        let player = Player::new(claims.sub.as_str());
        match self.call(state, |host| host.join(seat, player)) {
            Some(Ok(())) => Ok(()),
            Some(Err(JoinError::NoSuchSeat { .. })) => Err(refuse("room_full", "the room has no such seat")),
            Some(Err(JoinError::Taken { .. })) => Err(refuse("seat_taken", "somebody holds the seat")),
            Some(Err(JoinError::Rejected(reject))) => Err(refuse("join_refused", reject)),
            Some(Err(JoinError::Closed)) | None => Err(refuse("room_ended", "the room is over")),
        }
    }

    /// Ties the socket to the chair. The session's secret is a new one unless all that was missed is sent once more,
    /// because a client that sees its own again believes just that.
    fn take_chair(
        self: &Rc<Self>,
        state: &NodeState,
        socket: &Socket,
        claims: &JoinClaims,
        returning: &Returning,
    ) -> Admission {
        let shown = returning.pid.as_ref().map(Pid::reveal);
        let mut chairs = self.chairs.borrow_mut();
        let chair = &mut chairs[usize::from(claims.seat)];
        let before = chair.take();
        let is_same_token = before.as_ref().is_some_and(|before| before.jti == claims.jti);
        // What the client has shown it surely holds; the new one it holds only if this reply arrives.
        let pid_before = shown.filter(|_| is_same_token).map(str::to_owned);
        let is_back = state.config.recovery.is_some() && is_same_token;
        let comes_back = before.as_ref().filter(|before| is_back && shown == Some(before.pid.as_str()));
        let is_lost = state.config.recovery.is_some() && shown.is_some() && before.is_none();
        let missed = comes_back.map(|before| self.history.missed(Seat(claims.seat), before.seed, returning));
        let recovered = match (missed, comes_back) {
            (Some(Ok(missed)), Some(before)) => {
                socket.set_id(before.socket_id);
                socket.set_recovered();
                state.counting.sessions_restored_total.one();
                Ok((before.pid.clone(), before.seed, missed))
            }
            (Some(Err(why)), _) => {
                state.counting.sessions_not_restored_total.one();
                Err(Some(why))
            }
            // Of a seat that nothing is known of any more.
            (None, _) if is_lost => Err(Some(NotRestored::UnknownSession)),
            (None, _) | (Some(Ok(_)), None) => Err(None),
        };
        let replaced = before.and_then(|before| before.socket);
        let (pid, seed, missed) = match recovered {
            Ok((pid, seed, missed)) => (pid, seed, Ok(missed)),
            Err(why) => {
                let pid = random_id::<greenroom_socketio::ids::OfSession>().as_str().to_owned();
                (pid, self.history.position(), Err(why))
            }
        };
        *chair = Some(Chair {
            player: claims.sub.0.clone(),
            jti: claims.jti.clone(),
            issued_at: claims.iat,
            pid: pid.clone(),
            pid_before,
            is_told: false,
            socket_id: socket.id(),
            seed,
            socket: Some(socket.clone()),
        });
        self.remember_use(claims);
        let seated = Seated { room: Rc::clone(self), seat: Seat(claims.seat) };
        Admission { pid, missed, wants_word: returning.wants_word, seated, replaced }
    }

    /// The client in a seat has been sent its session's secret.
    pub(super) fn told(self: &Rc<Self>, state: &Rc<NodeState>, seat: Seat, socket: &Socket) {
        if let Some(Some(chair)) = self.chairs.borrow_mut().get_mut(seat.index())
            && chair.socket.as_ref() == Some(socket)
        {
            chair.is_told = true;
        }
        self.seats_changed(state);
    }

    /// Expired tokens are refused as such, so a guild's room does not grow with every visit of its long life.
    fn remember_use(&self, claims: &JoinClaims) {
        let now = super::door::wall_clock();
        let mut used = self.used.borrow_mut();
        used.retain(|_, expires_at_s| now.unix_ms() < expires_at_s.saturating_mul(1_000));
        used.insert(claims.jti.clone(), claims.exp);
    }

    /// Whether this socket is the one in the seat.
    pub(super) fn holds(&self, seat: Seat, socket: &Socket) -> bool {
        let chairs = self.chairs.borrow();
        let chair = chairs.get(seat.index()).and_then(Option::as_ref);
        chair.and_then(|chair| chair.socket.as_ref()) == Some(socket)
    }

    /// Unties the socket. `false`: it did not hold the seat any more.
    pub(super) fn release(&self, seat: Seat, socket: &Socket) -> bool {
        let holds = self.holds(seat, socket);
        if holds && let Some(Some(chair)) = self.chairs.borrow_mut().get_mut(seat.index()) {
            chair.socket = None;
        }
        holds
    }

    pub(super) fn report(&self) -> RoomReport {
        let host = self.host.borrow();
        let chairs = self.chairs.borrow();
        let seats = (0..).zip(chairs.iter().zip(host.seats())).filter_map(|(seat, (chair, occupant))| {
            let phase = match occupant.as_ref()?.presence {
                Presence::Connected => SeatPhase::Connected,
                Presence::Dropped { .. } => SeatPhase::Away,
            };
            Some(SeatReport { seat, player: chair.as_ref()?.player.clone().into(), phase })
        });
        RoomReport {
            room: self.id.clone().into(),
            epoch: self.epoch,
            key: self.key.clone().map(Into::into),
            seats: seats.collect(),
            kept: self.is_kept(),
        }
    }

    /// Closes the room from outside.
    pub(super) fn close(self: &Rc<Self>, state: &Rc<NodeState>, reason: EndReason) {
        self.call(state, |host| host.close());
        let outputs = self.call(state, |host| host.take_outputs()).unwrap_or_default();
        self.deliver(state, outputs);
        self.end(state, reason);
    }

    /// Does what the room asked for, and ends it when it is over.
    pub(crate) fn settle(self: &Rc<Self>, state: &Rc<NodeState>) {
        let Some((outputs, is_closed)) = self.call(state, |host| (host.take_outputs(), host.is_closed()))
        else {
            return;
        };
        self.deliver(state, outputs);
        if is_closed {
            self.end(state, EndReason::Finished);
        }
    }

    fn deliver(self: &Rc<Self>, state: &Rc<NodeState>, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, event, payload } => self.send(state, to, &event, payload.as_deref()),
                Output::Left { seat, why } => self.free(state, seat, why),
                Output::Finished { .. } => tracing::info!(room = %self.id, "room finished"),
                Output::Closed => {}
            }
        }
    }

    fn send(self: &Rc<Self>, state: &Rc<NodeState>, to: To, event: &str, payload: Option<&str>) {
        let draft = Draft::event(event).and_then(|draft| match payload {
            Some(payload) => draft.raw_arg(payload),
            None => Ok(draft),
        });
        let packet = match draft.and_then(|draft| draft.prepare("/", None)) {
            Ok(packet) => packet,
            Err(error) => {
                state.counting.emit_faults_total.one();
                tracing::error!(room = %self.id, %error, "a room's event cannot be sent");
                return;
            }
        };
        let packet = self.history.append(state, to, packet);
        let chairs = self.chairs.borrow();
        let meant = (0..).map(Seat).zip(chairs.iter()).filter(|(seat, _)| is_meant(to, *seat));
        let sockets = meant.filter_map(|(_, chair)| chair.as_ref()?.socket.as_ref());
        if !self.holds_back() {
            return sockets.for_each(|socket| socket.send_prepared(&packet, Urgency::Reliable));
        }
        // Whoever comes between now and then is told of it by what they have missed.
        let sockets: Vec<Socket> = sockets.cloned().collect();
        let bytes = packet.frames_bytes();
        self.act(state, bytes, move |_| {
            sockets.iter().for_each(|socket| socket.send_prepared(&packet, Urgency::Reliable));
        });
    }

    /// A seat became free: whoever still sits there is told and disconnected.
    fn free(self: &Rc<Self>, state: &Rc<NodeState>, seat: Seat, why: Why) {
        let chair = self.chairs.borrow_mut().get_mut(seat.index()).and_then(Option::take);
        if let Some(socket) = chair.and_then(|chair| chair.socket) {
            self.act(state, 0, move |_| {
                socket.emit("greenroom:left", &json!({ "why": why }));
                socket.disconnect();
            });
        }
        state.status_changed();
    }

    /// The end of the room, once. One that has come to its own end is kept until its result has arrived, so that no crash
    /// takes back what players were told; any other is over at once.
    pub(super) fn end(self: &Rc<Self>, state: &Rc<NodeState>, reason: EndReason) {
        if self.has_ended.replace(true) {
            return;
        }
        tracing::info!(room = %self.id, ?reason, "room ended");
        self.ended.set(Some(reason));
        match reason {
            EndReason::Finished | EndReason::Empty => {}
            EndReason::NoShow
            | EndReason::ServerLost
            | EndReason::HostLost
            | EndReason::Crashed
            | EndReason::Superseded
            | EndReason::Stopped => self.let_go(state),
        }
        if let Some(rooms) = &state.rooms {
            rooms.bury(state, self);
        }
        if !self.holds_back() {
            // A checkpoint of it is of no use any more.
            self.let_go(state);
        }
        let room = Rc::clone(self);
        self.act(state, 0, move |state| room.dismiss(state, reason));
    }

    /// Its players go, its result is on its way.
    fn dismiss(self: &Rc<Self>, state: &Rc<NodeState>, reason: EndReason) {
        let result = self.host.borrow().result().map(str::to_owned);
        let result = result.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if let Some(link) = &state.link {
            link.room_ended(RoomEnded { room: self.id.clone().into(), epoch: self.epoch, reason, result });
        } else if let Some(rooms) = &state.rooms {
            // Nobody waits for it.
            rooms.delivered(state, &self.id, self.epoch);
        }
        let chairs: Vec<_> = self.chairs.borrow_mut().iter_mut().filter_map(Option::take).collect();
        for socket in chairs.into_iter().filter_map(|chair| chair.socket) {
            socket.emit("greenroom:closed", &json!({ "reason": reason }));
            // When the process goes, the player's wish to play does not: a stock client comes back after the transport
            // close that follows, but not after this.
            if !state.stopping.is_cancelled() {
                socket.disconnect();
            }
        }
        state.status_changed();
    }

    /// One turn of the clock: the ticks that are due, then all they sent in one flush.
    fn turn(self: &Rc<Self>, state: &Rc<NodeState>, ticks: u64) {
        if self.is_choked() || self.is_sealed() {
            // It must not run away from what can be kept of it.
            return state.counting.ticks_skipped_total.add(ticks);
        }
        for _ in 0..ticks {
            self.call(state, |host| host.tick());
        }
        state.counting.ticks_total.add(ticks);
        self.settle(state);
        let over = self.call(state, |host| {
            let linger_ticks = state.config.room_linger.as_millis() * u128::from(host.hz()) / 1000;
            let is_empty = host.seats().iter().all(Option::is_none);
            let is_over = is_empty && (host.is_finished() || u128::from(host.empty_ticks()) > linger_ticks);
            is_over.then(|| if host.is_finished() { EndReason::Finished } else { EndReason::Empty })
        });
        if let Some(Some(reason)) = over {
            self.close(state, reason);
        }
    }
}

/// Ticks a room until its end. The clock is the one that never steps, and each moment is counted from the start, so
/// that nothing adds up.
pub(super) async fn run_ticks(state: Rc<NodeState>, room: Rc<LiveRoom>) {
    let hz = u64::from(room.host.borrow().hz());
    let at = |tick: u64| Duration::from_nanos(tick.saturating_mul(1_000_000_000) / hz);
    let started_at = Instant::now();
    let mut done = 0;
    while !room.has_ended.get() {
        let due_at = started_at + at(done + 1);
        tokio::time::sleep_until(due_at).await;
        let late_us = u64::try_from(due_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        state.counting.tick_late_us_total.add(late_us);
        let elapsed = u64::try_from(started_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let due = (u128::from(elapsed) * u128::from(hz) / 1_000_000_000).try_into().unwrap_or(u64::MAX);
        let behind = due.saturating_sub(done);
        let ticks = behind.clamp(1, TICKS_AT_ONCE);
        state.counting.ticks_skipped_total.add(behind.saturating_sub(ticks));
        done = due.max(done + 1);
        room.turn(&state, ticks);
    }
}
