//! Owns what one event means to a player: which facts, which actions, which step next.
//! Never does IO or reads a clock.

use std::time::Duration;

use super::{
    AWAITED_MAX, Action, Address, Awaited, ClosedBy, FINISHED, Found, Matched, Phase, Player, RoomEnd,
    SocketState,
};
use crate::{
    fact::{Fact, Measured, Seat, SessionBack},
    flow::{Flow, Measure, RoomsWanted, SocketName, Step},
    scenario::Peer,
    template::Template,
};

/// How a step began.
enum Entered {
    /// It ends by an event, or after this time.
    Waits(Option<Duration>),
    /// It is over at once.
    Done,
}

/// What a server of ours wants to see of a token.
fn token_auth(token: &str) -> String {
    format!(r#"{{"token":{}}}"#, serde_json::Value::from(token))
}

/// One event being handled.
pub(super) struct Turn<'a> {
    pub(super) player: &'a mut Player,
    pub(super) flow: &'a Flow,
    pub(super) now: Duration,
    pub(super) actions: Vec<Action>,
}

impl Turn<'_> {
    pub(super) fn step(&self) -> &Step {
        &self.flow.steps[self.player.step]
    }

    pub(super) fn tell(&mut self, fact: Fact) {
        self.actions.push(Action::Tell(fact));
    }

    pub(super) fn woken(&mut self) {
        if self.player.phase == Phase::Waiting {
            if self.player.deadline.is_some_and(|at| at <= self.now) {
                self.player.phase = Phase::Walking;
                self.tell(Fact::Arrived);
                self.enter();
            }
            return;
        }
        for socket in SocketName::ALL {
            if self.player.leave_at[socket.index()].is_some_and(|at| at <= self.now) {
                self.leave(socket);
            }
        }
        self.woken_away();
        if self.player.phase == Phase::Done {
            return;
        }
        // What was due before the end of the play is sent, also when the timer comes late.
        if self
            .player
            .input_at
            .is_some_and(|at| at <= self.now && self.player.deadline.is_some_and(|end| at < end))
        {
            self.send_input();
        }
        if self.player.phase == Phase::Done {
            return;
        }
        if self.player.deadline.is_some_and(|at| at <= self.now) {
            match self.step() {
                // The play is over once the player is back.
                Step::Play { .. } if self.player.away.is_some() => {
                    self.player.deadline = None;
                    self.player.input_at = None;
                }
                Step::Think { .. } => self.advance(),
                Step::Play { ack_within, .. } => match *ack_within {
                    Some(within) => self.end_play(within),
                    None => self.advance(),
                },
                Step::Find { within, .. }
                | Step::Join { within, .. }
                | Step::Connect { within, .. }
                | Step::Emit { ack_within: Some(within), .. }
                | Step::Expect { within, .. }
                | Step::ExpectSeat { within, .. }
                | Step::Barrier { within } => {
                    let reason = format!("not done within {within:?}");
                    self.fail(reason);
                }
                Step::Address { .. } | Step::Emit { .. } | Step::LeaveLater { .. } | Step::Leave { .. } => {}
            }
        }
    }

    /// The time is over, but the last answers may still come: for that long at most.
    fn end_play(&mut self, ack_within: Duration) {
        let last = self.player.awaited.last().map(|awaited| awaited.sent + ack_within);
        match last {
            Some(until) if until > self.now => {
                self.player.input_at = None;
                self.player.deadline = Some(until);
            }
            Some(_) => self.fail(format!("{} events were not acknowledged", self.player.awaited.len())),
            None => self.advance(),
        }
    }

    /// Sends one input, and sets the next one into the future: inputs that were missed are not sent in a burst.
    fn send_input(&mut self) {
        let flow = self.flow;
        let (Step::Play { socket, argument, every: Some(every), ack_within, .. }, Some(due)) =
            (&flow.steps[self.player.step], self.player.input_at)
        else {
            return;
        };
        let open = self.player.sockets[socket.index()] == SocketState::Open;
        if open && self.player.role.peer != Peer::HalfOpen {
            self.emit(*socket, argument, due, ack_within.is_some());
        }
        let missed = (self.now - due).as_nanos() / every.as_nanos().max(1);
        let steps = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        self.player.input_at = Some(due.saturating_add(every.saturating_mul(steps)));
    }

    fn emit(&mut self, socket: SocketName, argument: &Template, due: Duration, wants_ack: bool) {
        if self.player.sockets[socket.index()] == SocketState::Away {
            return self
                .fail(format!("the {socket} connection is away; send in a play step, which waits for it"));
        }
        let player = &mut *self.player;
        if argument.is_numbered() {
            player.numbered += 1;
            self.actions.push(Action::Tell(Fact::Numbered(player.numbered)));
        }
        let filled = argument
            .fill(&player.role.filling(&player.name, player.numbered, due, self.now), &mut player.draws);
        let ack = wants_ack.then(|| {
            player.acks_asked += 1;
            let numbered = if argument.is_numbered() { player.numbered } else { 0 };
            player.awaited.push(Awaited { number: player.acks_asked, numbered, due, sent: self.now });
            player.acks_asked
        });
        self.actions.push(Action::Emit { socket, step: player.step, argument: filled, ack });
        if player.awaited.len() > AWAITED_MAX {
            self.fail(format!("{AWAITED_MAX} events were not acknowledged"));
        }
    }

    pub(super) fn acked(&mut self, _: SocketName, number: u32) {
        let Some(at) = self.player.awaited.iter().position(|awaited| awaited.number == number) else {
            return self.fail(format!("event {number} was acknowledged twice or unasked"));
        };
        let Awaited { due, sent, numbered, .. } = self.player.awaited.remove(at);
        self.player.numbered_acked = self.player.numbered_acked.max(numbered);
        self.tell(Fact::Measured(Measured {
            measure: Measure::Ack,
            due,
            intended: self.now.saturating_sub(due),
            service: self.now.saturating_sub(sent),
        }));
        let play_is_over = |turn: &Self| turn.player.input_at.is_none() && turn.player.awaited.is_empty();
        let goes_on = match self.step() {
            Step::Emit { ack_within, .. } => ack_within.is_some(),
            Step::Play { every, .. } => every.is_some() && play_is_over(self),
            Step::Find { .. }
            | Step::Join { .. }
            | Step::Address { .. }
            | Step::Connect { .. }
            | Step::Expect { .. }
            | Step::ExpectSeat { .. }
            | Step::Think { .. }
            | Step::Barrier { .. }
            | Step::LeaveLater { .. }
            | Step::Leave { .. } => false,
        };
        if goes_on {
            self.advance();
        }
    }

    pub(super) fn met(&mut self) {
        if matches!(self.step(), Step::Barrier { .. }) {
            self.advance();
        }
    }

    pub(super) fn dialled(&mut self, socket: SocketName, at: Duration) {
        if let Some(away) = self.player.away.as_mut().filter(|_| socket == SocketName::Game) {
            away.began = at;
        } else if self.player.sockets[socket.index()] == SocketState::Opening {
            self.player.began = at;
        }
    }

    pub(super) fn found(&mut self, answer: &Result<Found, String>) {
        if !matches!(self.step(), Step::Find { .. } | Step::Join { .. }) {
            return;
        }
        match answer {
            Ok(Found { url, seat }) => {
                let auth = seat.as_ref().map(|(_, token)| token_auth(token));
                self.player.address = Some(Box::new(Address { url: url.clone(), auth }));
                if let Some((seat, _)) = seat {
                    self.player.assigned = true;
                    self.tell(Fact::Assigned(seat.clone()));
                }
                self.advance();
            }
            Err(reason) => self.fail(reason.clone()),
        }
    }

    pub(super) fn connected(&mut self, connected: SocketName, session: SessionBack) {
        if self.player.sockets[connected.index()] != SocketState::Opening {
            return;
        }
        let is_first = self.player.away.as_ref().is_some_and(|away| away.is_first);
        if is_first && connected == SocketName::Game {
            self.player.away = None;
        }
        if let Some(comeback) = self.comes_back(connected).filter(|_| self.player.away.is_some()) {
            return self.back(comeback, session);
        }
        self.player.sockets[connected.index()] = SocketState::Open;
        if let Step::Connect { socket, measure, .. } = *self.step()
            && socket == connected
        {
            self.measured(measure);
            self.advance();
        }
    }

    /// A stretch of the way is done: the next one is meant to begin now.
    fn measured(&mut self, measure: Measure) {
        let (due, began) = (self.player.mark, self.player.began);
        self.player.mark = self.now;
        self.player.began = self.now;
        self.tell(Fact::Measured(Measured {
            measure,
            due,
            intended: self.now.saturating_sub(due),
            service: self.now.saturating_sub(began),
        }));
    }

    pub(super) fn refused(&mut self, socket: SocketName, code: &str) {
        if self.room_may_be_gone(code) {
            return;
        }
        // The transport is still there; the end closes it.
        self.tell(Fact::Refused { socket, code: code.to_owned() });
        self.end();
    }

    pub(super) fn received(&mut self, on: SocketName, name: &str, argument: Option<&str>) {
        if let Step::Play { socket, end, .. } = self.step()
            && *socket == on
        {
            if end == name {
                let told = argument.and_then(|argument| serde_json::from_str::<RoomEnd>(argument).ok());
                self.player.room_end = Some(told.map_or_else(|| "untold".into(), |end| end.reason));
            }
            return;
        }
        self.pushed(on, name);
        let expected = self.flow.steps.iter().position(
            |step| matches!(step, Step::ExpectSeat { socket, event, .. } if *socket == on && event == name),
        );
        let Some(expected) = expected else { return };
        let Step::ExpectSeat { measure, .. } = self.flow.steps[expected] else { return };
        let matched: Matched = match serde_json::from_str(argument.unwrap_or("null")) {
            Ok(matched) => matched,
            Err(error) => return self.fail(format!("{name:?} cannot be read: {error}")),
        };
        let first = !std::mem::replace(&mut self.player.assigned, true);
        let seat = Seat { room: matched.room.into(), endpoint: matched.endpoint.into(), seat: matched.seat };
        let url = matched.url.unwrap_or_else(|| format!("http://{}", seat.endpoint));
        self.tell(Fact::Assigned(seat));
        if expected == self.player.step {
            let auth = token_auth(&matched.token);
            self.player.address = Some(Box::new(Address { url, auth: Some(auth) }));
            self.measured(measure);
            self.advance();
        } else if first {
            self.fail(format!("{name:?} came unasked"));
        }
    }

    /// Counts a push for the first step, from here on, that waits for one.
    fn pushed(&mut self, on: SocketName, name: &str) {
        let flow = self.flow;
        let ahead = flow.steps.iter().enumerate().skip(self.player.step);
        for (at, step) in ahead {
            let Step::Expect { socket, event, count, .. } = step else { continue };
            let already = self.player.pushes.get(at).copied().unwrap_or_default();
            if *socket == on && event == name && already < *count {
                self.player.pushes.resize(flow.steps.len(), 0);
                self.player.pushes[at] += 1;
                if at == self.player.step && already + 1 == *count {
                    self.measured(Measure::Push);
                    self.advance();
                }
                return;
            }
        }
    }

    pub(super) fn closed(&mut self, socket: SocketName, by: &ClosedBy) {
        let state = std::mem::replace(&mut self.player.sockets[socket.index()], SocketState::Closed);
        self.player.leave_at[socket.index()] = None;
        let needed = self.step().needs() == Some(socket);
        let during = self.step().title();
        let room_end = self.player.room_end.as_deref().filter(|_| needed);
        let reason = match (room_end, by) {
            (Some(end), _) if end != FINISHED => format!("the room ended: {end}"),
            (_, ClosedBy::Server) => "the server disconnected the socket".to_owned(),
            (_, ClosedBy::Transport(reason)) => reason.clone(),
        };
        let by_transport = matches!(by, ClosedBy::Transport(_));
        match state {
            SocketState::Closed | SocketState::Away => {}
            SocketState::Open | SocketState::Opening if self.player.role.peer != Peer::Sound => {
                self.tell(Fact::Shed);
                self.end();
            }
            SocketState::Open if *by == ClosedBy::Server && self.lost_its_room() => {
                self.tell(Fact::RoomLost);
                self.end();
            }
            SocketState::Opening | SocketState::Open
                if let Some(comeback) = self.comes_back(socket).filter(|_| by_transport) =>
            {
                self.lost_for_now(comeback, state == SocketState::Opening);
            }
            SocketState::Opening => self.fail(reason),
            SocketState::Open if *by == ClosedBy::Server && room_end == Some(FINISHED) => {
                self.tell(Fact::RoomEnded);
                self.advance();
            }
            SocketState::Open => {
                self.tell(Fact::Lost { socket, during, reason });
                if needed {
                    self.end();
                }
            }
        }
    }

    /// The server told that the room has ended otherwise than by its own will, and that is allowed.
    fn lost_its_room(&self) -> bool {
        let told = self.player.room_end.as_deref().is_some_and(|end| end != FINISHED);
        told && self.flow.comeback.is_some_and(|comeback| comeback.rooms == RoomsWanted::MayEnd)
    }

    pub(super) fn advance(&mut self) {
        self.player.step += 1;
        self.enter();
    }

    /// Does the steps from the current one on until one of them waits.
    fn enter(&mut self) {
        self.player.deadline = None;
        self.player.input_at = None;
        self.player.cut_at = None;
        let flow = self.flow;
        while let Some(step) = flow.steps.get(self.player.step) {
            match self.enter_step(step) {
                Entered::Waits(_) if self.player.phase == Phase::Done => return,
                Entered::Waits(within) => {
                    self.player.deadline = within.map(|within| self.now + within);
                    return;
                }
                Entered::Done if self.player.phase == Phase::Done => return,
                Entered::Done => self.player.step += 1,
            }
        }
        self.tell(Fact::Finished);
        self.end();
    }

    fn enter_step(&mut self, step: &Step) -> Entered {
        match step {
            Step::Find { within, .. } => {
                self.actions.push(Action::Find { step: self.player.step });
                Entered::Waits(Some(*within))
            }
            Step::Join { key, within, .. } => {
                let filling = self.player.role.filling(&self.player.name, 0, self.now, self.now);
                let key = key.fill(&filling, &mut self.player.draws);
                self.actions.push(Action::Join { step: self.player.step, key });
                Entered::Waits(Some(*within))
            }
            Step::Address { url } => {
                self.player.address = Some(Box::new(Address { url: url.clone(), auth: None }));
                Entered::Done
            }
            Step::Connect { socket, within, .. } => self.connect(*socket, *within),
            Step::Emit { socket, argument, ack_within, .. } => {
                self.emit(*socket, argument, self.now, ack_within.is_some());
                ack_within.map_or(Entered::Done, |within| Entered::Waits(Some(within)))
            }
            Step::Expect { count, within, .. } => {
                self.player.mark = self.now;
                self.player.began = self.now;
                let came = self.player.pushes.get(self.player.step).is_some_and(|came| came >= count);
                if came { Entered::Done } else { Entered::Waits(Some(*within)) }
            }
            Step::ExpectSeat { within, .. } => Entered::Waits(Some(*within)),
            Step::Think { least, most } => {
                let more = self.player.draws.span(most.saturating_sub(*least));
                Entered::Waits(Some(*least + more))
            }
            Step::Barrier { within } => {
                self.actions.push(Action::Meet);
                Entered::Waits(Some(*within))
            }
            Step::LeaveLater { socket, within } => {
                let wait = self.player.draws.span(*within);
                self.player.leave_at[socket.index()] = Some(self.now + wait);
                Entered::Done
            }
            Step::Play { every, lasting, .. } => {
                self.tell(Fact::Playing);
                self.player.input_at = every.map(|every| self.now + self.player.draws.span(every));
                self.player.plan_cut(self.flow.cuts, self.now);
                Entered::Waits(Some(*lasting))
            }
            Step::Leave { socket } => {
                self.leave(*socket);
                Entered::Done
            }
        }
    }

    fn connect(&mut self, socket: SocketName, within: Duration) -> Entered {
        let Some(address) = self.player.address.take() else {
            self.fail("there is no address to connect to".to_owned());
            return Entered::Waits(None);
        };
        let Address { url, auth } = *address;
        self.player.sockets[socket.index()] = SocketState::Opening;
        self.actions.push(Action::Connect { socket, step: self.player.step, url, auth });
        Entered::Waits(Some(within))
    }

    fn leave(&mut self, socket: SocketName) {
        self.player.leave_at[socket.index()] = None;
        let state = std::mem::replace(&mut self.player.sockets[socket.index()], SocketState::Closed);
        if socket == SocketName::Game {
            self.player.away = None;
        }
        if matches!(state, SocketState::Open | SocketState::Opening) {
            self.actions.push(Action::Leave(socket));
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.tell(Fact::Failed { during: self.step().title(), reason });
        self.end();
    }

    pub(super) fn end(&mut self) {
        self.player.phase = Phase::Done;
        self.player.deadline = None;
        self.player.input_at = None;
        self.player.cut_at = None;
        self.player.away = None;
        self.player.address = None;
        self.player.awaited = Vec::new();
        self.player.pushes = Vec::new();
        for socket in SocketName::ALL {
            self.leave(socket);
        }
    }
}
