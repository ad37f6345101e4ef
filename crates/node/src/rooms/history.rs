//! The History of one room: what it sent in the last seconds, for players whose connection was cut.
//!
//! Written by the one node that has the room, in the step that sends. It goes with the room, wherever that is kept.

use std::cell::RefCell;

use greenroom_backplane::{Log, Missing};
use greenroom_core::Timestamp;
use greenroom_room::{Seat, To};
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::{NotRestored, Position, RETAINED_BESIDES};
use greenroom_wire::kept::{Receivers, RoomEvent};

use super::wall_clock;
use crate::link::read_draft;
use crate::recovery::{Returning, with_place};
use crate::state::{NodeState, random_u64};

/// Most bytes of a History that is kept beyond its process: a message to the backplane has all of it.
const KEPT_BYTES_MAX: usize = 1 << 20;

struct Sent {
    to: To,
    /// Without its place.
    plain: Prepared,
    /// With its place.
    packet: Prepared,
}

pub(super) struct RoomHistory(RefCell<Log<Sent>>);

/// Whether an event is for the player in this seat.
pub(super) fn is_meant(to: To, seat: Seat) -> bool {
    match to {
        To::All => true,
        To::Only(only) => seat == only,
        To::Except(but) => seat != but,
    }
}

impl RoomHistory {
    pub(super) fn new() -> Self {
        // 0 is no History's.
        Self(RefCell::new(Log::new(random_u64().max(1), 0)))
    }

    /// The History that ended at `position`, out of the events that were kept.
    pub(super) fn restored(state: &NodeState, position: Position, events: &[RoomEvent]) -> Self {
        let first = events.first().map_or(position.offset, |first| first.offset - 1);
        let mut log = Log::new(position.epoch, first);
        for event in events {
            let packet =
                read_draft(state, &event.packet, &[]).and_then(|draft| Ok(draft.prepare("/", None)?));
            let place = Position { epoch: position.epoch, offset: event.offset, n: 0 };
            let read = packet.ok().and_then(|plain| Some((with_place(&plain, place)?, plain)));
            let Some((packet, plain)) = read.filter(|_| event.offset == log.head() + 1) else {
                // Nothing before it can be told without a gap.
                tracing::warn!(offset = event.offset, "an event of a kept room cannot be read");
                log = Log::new(position.epoch, event.offset);
                continue;
            };
            let sent = Sent { to: to(event.to), plain, packet };
            log.append(Timestamp::from_unix_ms(event.at_ms), bytes(&sent.packet), sent);
        }
        Self(RefCell::new(log))
    }

    /// Its epoch and the number of the last event.
    pub(super) fn position(&self) -> Position {
        let log = self.0.borrow();
        Position { epoch: log.epoch(), offset: log.head(), n: 0 }
    }

    /// Events up to here are gone.
    pub(super) fn floor(&self) -> u64 {
        self.0.borrow().floor()
    }

    /// All events after `offset` that are there.
    pub(super) fn events_after(&self, offset: u64) -> Vec<RoomEvent> {
        let log = self.0.borrow();
        let events = log.after(offset.clamp(log.floor(), log.head())).into_iter().flatten();
        let events = events.map(|kept| RoomEvent {
            offset: kept.offset,
            at_ms: kept.at.unix_ms(),
            to: receivers(kept.event.to),
            packet: kept.event.plain.text().to_owned(),
        });
        events.collect()
    }

    /// Keeps an event that is about to be sent, which from then on carries its place. Without recovery it stays as it
    /// is.
    pub(super) fn append(&self, state: &NodeState, to: To, plain: Prepared) -> Prepared {
        let Some(recovery) = &state.config.recovery else { return plain };
        let mut log = self.0.borrow_mut();
        let position = Position { epoch: log.epoch(), offset: log.head() + 1, n: 0 };
        let Some(packet) = with_place(&plain, position) else { return plain };
        let now = wall_clock();
        log.append(now, bytes(&packet), Sent { to, plain, packet: packet.clone() });
        let keep_from = now - (recovery.window + RETAINED_BESIDES);
        log.trim(keep_from, recovery.room_history_bytes_max.min(KEPT_BYTES_MAX), drop);
        packet
    }

    /// What the player in a seat has missed, whose session began after `seed`.
    pub(super) fn missed(
        &self,
        seat: Seat,
        seed: Position,
        returning: &Returning,
    ) -> Result<Vec<Prepared>, NotRestored> {
        let log = self.0.borrow();
        let seed = Some(seed.offset).filter(|_| seed.epoch == log.epoch());
        let start = match (returning.offset, seed) {
            (Some(place), Some(seed)) if place.epoch == log.epoch() => place.offset.max(seed),
            // Of a room before this one, or a text that an event of the program's own ended in.
            (Some(_), _) => return Err(NotRestored::Rewound),
            (None, _) if returning.is_lost => return Err(NotRestored::Rewound),
            (None, Some(seed)) => seed,
            // The session is older than the History.
            (None, None) => return Err(NotRestored::Rewound),
        };
        let after = log.after(start).map_err(|missing| match missing {
            Missing::TooOld => NotRestored::WindowOver,
            Missing::Evicted => NotRestored::HistoryFull,
            Missing::Ahead => NotRestored::Rewound,
        })?;
        Ok(after.filter(|kept| is_meant(kept.event.to, seat)).map(|kept| kept.event.packet.clone()).collect())
    }
}

fn bytes(packet: &Prepared) -> usize {
    packet.frames_bytes() + size_of::<Sent>()
}

fn receivers(to: To) -> Receivers {
    match to {
        To::All => Receivers::All,
        To::Only(seat) => Receivers::Only(seat.0),
        To::Except(seat) => Receivers::Except(seat.0),
    }
}

fn to(receivers: Receivers) -> To {
    match receivers {
        Receivers::All => To::All,
        Receivers::Only(seat) => To::Only(Seat(seat)),
        Receivers::Except(seat) => To::Except(Seat(seat)),
    }
}
