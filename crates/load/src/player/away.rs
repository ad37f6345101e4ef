//! Owns the way of a player who lost the game connection and comes back, and the cuts that players make themselves.
//! Never does IO or reads a clock.

use std::time::Duration;

use super::{Action, Phase, Player, SocketState, turn::Turn};
use crate::{
    draws::Draws,
    fact::{Fact, Measured, Parting, SessionBack},
    flow::{Comeback, CutShape, Cuts, Measure, RoomsWanted, SocketName, Step},
    scenario::Peer,
};

/// The longest wait between two attempts.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Stream of the choices about cuts and delays: apart from those of the steps, whose order they must not change.
const STREAM: u64 = 2 << 40;
/// Codes of servers that do not have the room any more, or were started anew.
const ROOM_GONE: [&str; 2] = ["room_ended", "wrong_server"];

/// A player without the game connection.
#[derive(Debug)]
pub(super) struct Away {
    since: Duration,
    until: Duration,
    /// When to dial; `None` while the connection is being opened.
    dial_at: Option<Duration>,
    /// When this attempt did begin.
    pub(super) began: Duration,
    attempts: u16,
    /// It was never there: the server, or the way to it, was gone when it was opened for the first time.
    pub(super) is_first: bool,
}

impl Away {
    pub(super) fn wake_at(&self) -> Duration {
        self.dial_at.map_or(self.until, |at| at.min(self.until))
    }
}

impl Player {
    /// A drawn time up to `most`, of the choice `nth` about cuts.
    fn draw_away(&self, nth: u16, what: u64, most: Duration) -> Duration {
        let stream = STREAM | (u64::from(self.role.index) << 8) | what;
        Draws::new(self.role.seed.wrapping_add(u64::from(nth)), stream).span(most)
    }

    /// Sets the moment of the next cut.
    pub(super) fn plan_cut(&mut self, cuts: Option<Cuts>, now: Duration) {
        let Some(Cuts { shape, share, .. }) = cuts else { return };
        let stream = STREAM | (u64::from(self.role.index) << 8);
        if self.role.peer != Peer::Sound || Draws::new(self.role.seed, stream).share() >= share {
            return;
        }
        self.cut_at = match shape {
            CutShape::Storm { at } => Some(at).filter(|at| *at > now && self.cuts == 0),
            CutShape::Churn { every } => Some(now + every / 2 + self.draw_away(self.cuts, 1, every)),
        };
    }
}

impl Turn<'_> {
    /// Whether the loss of this connection is no end.
    pub(super) fn comes_back(&self, socket: SocketName) -> Option<Comeback> {
        let sound = socket == SocketName::Game && self.player.role.peer == Peer::Sound;
        self.flow.comeback.filter(|_| sound)
    }

    /// Does what is due while the game connection is away, or cuts it.
    pub(super) fn woken_away(&mut self) {
        if self.player.cut_at.is_some_and(|at| at <= self.now) {
            self.player.cut_at = None;
            self.cut();
        }
        let Some(away) = &mut self.player.away else { return };
        if away.until <= self.now {
            let within = away.until - away.since;
            self.player.away = None;
            return self.fail(format!("not connected again within {within:?}"));
        }
        if away.dial_at.is_some_and(|at| at <= self.now) {
            away.dial_at = None;
            away.began = self.now;
            away.attempts = away.attempts.saturating_add(1);
            self.player.sockets[SocketName::Game.index()] = SocketState::Opening;
            self.actions.push(Action::Reconnect(SocketName::Game));
        }
    }

    fn cut(&mut self) {
        let open = self.player.sockets[SocketName::Game.index()] == SocketState::Open;
        let (Some(cuts), Some(comeback), true) = (self.flow.cuts, self.flow.comeback, open) else { return };
        self.actions.push(Action::Cut(SocketName::Game));
        self.player.cuts = self.player.cuts.saturating_add(1);
        let wait = cuts.away + self.player.draw_away(self.player.cuts, 2, cuts.away);
        self.part(Parting::Player);
        self.dial_after(comeback, wait, false);
    }

    /// The game connection was there and is gone.
    fn part(&mut self, by: Parting) {
        // Nobody acknowledges on a connection that is gone.
        self.player.awaited.clear();
        self.tell(Fact::Away { by, acked: self.player.numbered_acked });
    }

    fn dial_after(&mut self, comeback: Comeback, wait: Duration, is_first: bool) {
        self.player.sockets[SocketName::Game.index()] = SocketState::Away;
        self.player.away = Some(Box::new(Away {
            since: self.now,
            until: self.now + wait + comeback.within,
            dial_at: Some(self.now + wait),
            began: self.now,
            attempts: 0,
            is_first,
        }));
    }

    /// The server or the network ended the game connection, or did not open it again.
    pub(super) fn lost_for_now(&mut self, comeback: Comeback, is_first: bool) {
        let wait = self.backoff(comeback);
        let Some(away) = &mut self.player.away else {
            if !is_first {
                self.part(Parting::Server);
            }
            return self.dial_after(comeback, wait, is_first);
        };
        away.dial_at = Some(self.now + wait);
        self.player.sockets[SocketName::Game.index()] = SocketState::Away;
    }

    /// The wait before the next attempt: doubled each time, half of it drawn.
    fn backoff(&self, Comeback { delay, .. }: Comeback) -> Duration {
        let attempts = self.player.away.as_ref().map_or(0, |away| away.attempts);
        let whole = delay.saturating_mul(1 << attempts.min(12)).min(DELAY_MAX.max(delay));
        let nth = self.player.cuts.wrapping_mul(64).wrapping_add(attempts);
        whole / 2 + self.player.draw_away(nth, 3, whole)
    }

    /// The game connection is there again.
    pub(super) fn back(&mut self, comeback: Comeback, session: SessionBack) {
        let Some(away) = self.player.away.take() else { return };
        self.player.sockets[SocketName::Game.index()] = SocketState::Open;
        self.tell(Fact::Back { session, wanted: comeback.session });
        self.tell(Fact::Measured(Measured {
            measure: Measure::Resume,
            due: away.since,
            intended: self.now.saturating_sub(away.since),
            service: self.now.saturating_sub(away.began),
        }));
        if !matches!(self.step(), Step::Play { .. }) {
            return;
        }
        if self.player.deadline.is_none_or(|at| at <= self.now) {
            return self.advance();
        }
        if matches!(self.flow.cuts, Some(Cuts { shape: CutShape::Churn { .. }, .. })) {
            self.player.plan_cut(self.flow.cuts, self.now);
        }
    }

    /// The server does not know the room any more; whether that is allowed.
    pub(super) fn room_may_be_gone(&mut self, code: &str) -> bool {
        let allowed = self.flow.comeback.is_some_and(|comeback| comeback.rooms == RoomsWanted::MayEnd);
        let gone = allowed && ROOM_GONE.contains(&code);
        if gone {
            self.tell(Fact::RoomLost);
            self.end();
        }
        gone && self.player.phase == Phase::Done
    }
}
