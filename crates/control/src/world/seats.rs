//! Seats: reserved, claimed, freed, each exactly once.
//!
//! Never gives a seat to two players: a taken seat is free only when its server no longer tells of it, or when its
//! reservation ran out and a younger report does not show it.

use greenroom_core::{PlayerId, RoomId, Timestamp};
use greenroom_wire::rooms::SeatReport;
use smol_str::SmolStr;

use super::state::{RoomState, SeatState};
use super::{IdSource, Notice, World};

/// No room is larger; a report that says otherwise is wrong.
const SEATS_MAX: u16 = 4_096;

/// Players who have left and are remembered of one room, the latest: a room may live for months, and is stored with them.
const PLAYED_MAX: usize = 4_096;

impl World {
    /// When a reservation made now runs out: a whole second, because tokens count in seconds.
    pub(super) fn reservation_expiry(&self) -> Timestamp {
        let exact = (self.now + self.config.timings.reservation).unix_ms();
        Timestamp::from_unix_ms(exact.div_ceil(1_000) * 1_000)
    }

    /// Reserves a seat for each of `players`, who fit: seats they hold are kept, with a fresh token. Gives the seats in
    /// the order of the players.
    pub(super) fn reserve(&mut self, id: &RoomId, players: &[PlayerId]) -> Vec<u16> {
        let expires_at = self.reservation_expiry();
        let Some(room) = self.rooms.get_mut(id) else { return Vec::new() };
        let seats = room.reserve(players, expires_at, &mut self.ids);
        self.recount(id);
        seats
    }

    /// Promises until this moment have run out when a report was made at `made_at`.
    pub(super) fn promises_over(&self, made_at: Timestamp) -> Timestamp {
        made_at - self.config.timings.reservation_slack
    }

    /// Takes in which seats of a room were taken at `made_at`, as its server told it then. A report may have waited, for a
    /// control process that stood still: what ran out meanwhile is only free when one was made after that.
    pub(super) fn observe_seats(&mut self, id: &RoomId, reports: &[SeatReport], made_at: Timestamp) {
        let free_at = self.promises_over(made_at);
        let Some(room) = self.rooms.get_mut(id) else { return };
        // Also who had a seat in which somebody else sits by now.
        let gone = |seat: &&SeatState| {
            seat.phase.is_some() && !reports.iter().any(|report| report.player.0 == seat.player)
        };
        let left: Vec<PlayerId> =
            room.seats.iter().flatten().filter(gone).map(|seat| seat.player.clone()).collect();
        let mut overruled = false;
        for report in reports {
            overruled |= room.claim(report);
        }
        for (index, place) in (0u16..).zip(&mut room.seats) {
            let told = reports.iter().any(|report| report.seat == index);
            let Some(seat) = place.as_mut().filter(|_| !told) else { continue };
            seat.phase = None;
            if !seat.outstanding || seat.expires_at <= free_at {
                let player = seat.player.clone();
                *place = None;
                if self.plays.get(&player) == Some(id) {
                    self.plays.remove(&player);
                }
            }
        }
        let changed = !left.is_empty() || overruled;
        for player in left {
            if !room.played.contains(&player) {
                if room.played.len() >= PLAYED_MAX {
                    room.played.remove(0);
                }
                room.played.push(player);
            }
        }
        let server = room.server.clone();
        self.recount(id);
        if changed {
            self.store_room(id);
        }
        if overruled {
            self.note(Notice::SeatOverruled { room: id.clone(), server });
        }
    }
}

impl RoomState {
    /// See [`World::reserve`]. The caller recounts the room.
    pub(super) fn reserve(
        &mut self,
        players: &[PlayerId],
        expires_at: Timestamp,
        ids: &mut IdSource,
    ) -> Vec<u16> {
        self.vacant_since = None;
        let mut seats = Vec::with_capacity(players.len());
        for player in players {
            let (index, phase) = match self.taken().find(|(_, seat)| seat.player == *player) {
                Some((index, seat)) => (index, seat.phase),
                None => (self.first_free().expect("the caller counted the free seats"), None),
            };
            let token_id = ids.token();
            self.seats[usize::from(index)] =
                Some(SeatState { player: player.clone(), token_id, expires_at, outstanding: true, phase });
            seats.push(index);
        }
        seats
    }

    pub(super) fn first_free(&self) -> Option<u16> {
        (0u16..).zip(&self.seats).find(|(_, seat)| seat.is_none()).map(|(index, _)| index)
    }

    pub(super) fn free_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.is_none()).count()
    }

    /// Seats that `players` need besides those they hold.
    pub(super) fn seats_needed(&self, players: &[PlayerId]) -> usize {
        players.iter().filter(|player| !self.taken().any(|(_, seat)| seat.player == **player)).count()
    }

    /// Marks a seat as taken by whom its server says. True when somebody else was promised it, or nobody.
    fn claim(&mut self, report: &SeatReport) -> bool {
        if report.seat >= SEATS_MAX {
            return false;
        }
        let place = usize::from(report.seat);
        if self.seats.len() <= place {
            self.seats.resize(place + 1, None);
        }
        if let Some(seat) = self.seats[place].as_mut()
            && seat.player == report.player.0
        {
            // A fresh token given to a player who is there stays outstanding until it runs out.
            seat.outstanding &= seat.phase.is_some();
            seat.phase = Some(report.phase);
            return false;
        }
        for other in &mut self.seats {
            if other.as_ref().is_some_and(|seat| seat.player == report.player.0) {
                *other = None;
            }
        }
        self.seats[place] = Some(SeatState {
            player: report.player.0.clone(),
            token_id: SmolStr::default(),
            expires_at: Timestamp::default(),
            outstanding: false,
            phase: Some(report.phase),
        });
        true
    }
}
