//! The History of one room: what it sent in the last seconds, for players whose connection was cut.
//!
//! Deliver first: an event is sent and kept in the same step, by the one node that has the room. It goes with the room.

use std::cell::RefCell;

use greenroom_backplane::{Log, Missing};
use greenroom_room::{Seat, To};
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::{NotRestored, Position, RETAINED_BESIDES};

use super::wall_clock;
use crate::recovery::{Returning, with_place};
use crate::state::{NodeState, random_u64};

struct Sent {
    to: To,
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

    /// The number of the last event.
    pub(super) fn head(&self) -> u64 {
        self.0.borrow().head()
    }

    /// Keeps an event that is about to be sent, which from then on carries its place. Without recovery it stays as it
    /// is.
    pub(super) fn append(&self, state: &NodeState, to: To, packet: Prepared) -> Prepared {
        let Some(recovery) = &state.config.recovery else { return packet };
        let mut log = self.0.borrow_mut();
        let position = Position { epoch: log.epoch(), offset: log.head() + 1, n: 0 };
        let Some(packet) = with_place(&packet, position) else { return packet };
        let now = wall_clock();
        log.append(now, packet.frames_bytes() + size_of::<Sent>(), Sent { to, packet: packet.clone() });
        let keep_from = now - (recovery.window + RETAINED_BESIDES);
        log.trim(keep_from, recovery.room_history_bytes_max, drop);
        packet
    }

    /// What the player in a seat has missed, whose session began after `seed`.
    pub(super) fn missed(
        &self,
        seat: Seat,
        seed: u64,
        returning: &Returning,
    ) -> Result<Vec<Prepared>, NotRestored> {
        let log = self.0.borrow();
        let start = match returning.offset {
            Some(place) if place.epoch == log.epoch() => place.offset.max(seed),
            // Of a room before this one, or a text that an event of the program's own ended in.
            Some(_) => return Err(NotRestored::Rewound),
            None if returning.is_lost => return Err(NotRestored::Rewound),
            None => seed,
        };
        let after = log.after(start).map_err(|missing| match missing {
            Missing::TooOld => NotRestored::WindowOver,
            Missing::Evicted => NotRestored::HistoryFull,
            Missing::Ahead => NotRestored::Rewound,
        })?;
        Ok(after.filter(|kept| is_meant(kept.event.to, seat)).map(|kept| kept.event.packet.clone()).collect())
    }
}
