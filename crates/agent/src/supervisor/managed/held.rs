//! What a gameserver says of its being in use: by its own word (`Allocate`, `Reserve`), and by the players it tells of.
//!
//! Never what follows from that: whoever decides about starts, stops and places reads it in the report.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::sdk::{Long, Players};

use super::{Managed, Out};
use crate::journal::JournalHeld;
use crate::supervisor::sdk::SdkRefusal;

/// Longest reservation with an end, in seconds: a year.
const RESERVE_MAX: u64 = 365 * 24 * 3600;
/// Most players that one server may tell of one by one.
const PLAYERS_MAX: u32 = 1000;
/// Longest id of a player, in bytes.
const PLAYER_BYTES_MAX: usize = 256;

/// Whether a gameserver is in use by its own word.
///
/// ```text
///          Allocate                 Allocate
///   Free ───────────► Allocated ◄──────────── Reserved
///    ▲ ▲                  │                      ▲ │
///    │ └──── Ready ───────┘       Reserve(d)     │ │ Ready, or d is over
///    └───────────────────────────────────────────┼─┘
///                     any of them ───────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Hold {
    /// It says nothing of that: rooms and connections speak.
    #[default]
    Free,
    /// Until it says otherwise.
    Allocated,
    /// Until then, `None`: until it says otherwise. Then it is free.
    Reserved {
        /// When it ends.
        until: Option<Timestamp>,
    },
}

impl Hold {
    pub(super) const fn is_held(self) -> bool {
        match self {
            Self::Free => false,
            Self::Allocated | Self::Reserved { .. } => true,
        }
    }

    pub(super) const fn ends_at(self) -> Option<Timestamp> {
        match self {
            Self::Free | Self::Allocated => None,
            Self::Reserved { until } => until,
        }
    }

    /// As Agones calls it, of one that answers.
    pub(super) const fn state(self) -> &'static str {
        match self {
            Self::Free => "Ready",
            Self::Allocated => "Allocated",
            Self::Reserved { .. } => "Reserved",
        }
    }

    /// For people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::Allocated => {
                "in use by its own word (Allocate): nothing new is sent there until it calls Ready"
            }
            Self::Reserved { until: Some(_) } => {
                "in use by its own word (Reserve): nothing new is sent there until that time is over"
            }
            Self::Reserved { until: None } => {
                "in use by its own word (Reserve): nothing new is sent there until it calls Ready"
            }
        }
    }
}

impl From<Option<JournalHeld>> for Hold {
    fn from(held: Option<JournalHeld>) -> Self {
        match held {
            None => Self::Free,
            Some(JournalHeld::Allocated) => Self::Allocated,
            Some(JournalHeld::Reserved { until_ms }) => {
                Self::Reserved { until: until_ms.map(Timestamp::from_unix_ms) }
            }
        }
    }
}

impl From<Hold> for Option<JournalHeld> {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Free => None,
            Hold::Allocated => Some(JournalHeld::Allocated),
            Hold::Reserved { until } => {
                Some(JournalHeld::Reserved { until_ms: until.map(|until| until.unix_ms()) })
            }
        }
    }
}

/// The players that a process has told of one by one.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) ids: BTreeSet<String>,
    /// As it was told; `None`: never.
    pub(super) capacity: Option<u32>,
}

impl Managed {
    /// Whether it is in use by its own word.
    pub(in super::super) const fn is_held(&self) -> bool {
        self.own_word.hold.is_held()
    }

    /// Whether it says that no room of it is played: it tells when it is in use, and is not; nobody is on it; and it has never told
    /// of rooms one by one. One that never says that it is in use says nothing of its rooms either: they last as long as its process.
    pub(super) fn says_no_rooms(&self) -> bool {
        self.own_word.tells_use && !self.is_held() && !self.link.ever && self.players_count() == 0
    }

    /// Connections that it tells of, or players where those are more.
    pub(in super::super) fn connections(&self) -> u32 {
        self.status.connections.max(self.players_count())
    }

    fn players_count(&self) -> u32 {
        u32::try_from(self.own_word.roster.ids.len()).unwrap_or(u32::MAX)
    }

    /// It says that it is in use, or no longer. Whoever says so serves.
    pub(in super::super) fn hold(&mut self, hold: Hold, now: Timestamp, out: &mut Out) {
        let before = std::mem::replace(&mut self.own_word.hold, hold);
        self.own_word.tells_use |= hold.is_held();
        if before != hold {
            tracing::info!(server = %self.order.server, from = before.state(), to = hold.state(), "gameserver says whether it is in use");
            out.dirty = true;
            out.changed = true;
        }
        self.serves(now, out);
    }

    /// It says that it is in use for so many seconds from now on; 0: until it says otherwise.
    pub(in super::super) fn reserve(
        &mut self,
        seconds: u64,
        now: Timestamp,
        out: &mut Out,
    ) -> Result<(), SdkRefusal> {
        if seconds > RESERVE_MAX {
            return Err(SdkRefusal::Reserve { seconds, max: RESERVE_MAX });
        }
        let until = (seconds > 0).then(|| now + Duration::from_secs(seconds));
        self.hold(Hold::Reserved { until }, now, out);
        Ok(())
    }

    /// Frees it when its reservation is over. That is no sign of life.
    pub(super) fn end_reservation(&mut self, now: Timestamp, out: &mut Out) {
        if self.own_word.hold.ends_at().is_some_and(|at| at <= now) {
            tracing::info!(server = %self.order.server, "the reservation of a gameserver is over");
            self.own_word.hold = Hold::Free;
            out.dirty = true;
            out.changed = true;
        }
    }

    fn players_max(&self) -> u32 {
        let seats = u32::from(self.order.rooms_per_server) * u32::from(self.order.seats_per_room);
        let usual = if seats == 0 { PLAYERS_MAX } else { seats.min(PLAYERS_MAX) };
        self.own_word.roster.capacity.unwrap_or(usual)
    }

    /// A player came. False: was there already.
    pub(in super::super) fn player_came(
        &mut self,
        player: String,
        out: &mut Out,
    ) -> Result<bool, SdkRefusal> {
        if player.is_empty() || player.len() > PLAYER_BYTES_MAX {
            return Err(SdkRefusal::PlayerId { bytes_max: PLAYER_BYTES_MAX });
        }
        if self.own_word.roster.ids.contains(&player) {
            return Ok(false);
        }
        let capacity = self.players_max();
        if self.players_count() >= capacity {
            return Err(SdkRefusal::PlayersFull { capacity });
        }
        self.own_word.roster.ids.insert(player);
        self.own_word.tells_use = true;
        out.dirty = true;
        out.changed = true;
        Ok(true)
    }

    /// A player went. False: was not there.
    pub(in super::super) fn player_went(&mut self, player: &str, out: &mut Out) -> bool {
        let was_there = self.own_word.roster.ids.remove(player);
        out.dirty |= was_there;
        out.changed |= was_there;
        was_there
    }

    /// How many players there may be. Those that are there stay, be they more.
    pub(in super::super) fn set_players_max(
        &mut self,
        capacity: u64,
        out: &mut Out,
    ) -> Result<(), SdkRefusal> {
        let told = u32::try_from(capacity).ok().filter(|told| *told <= PLAYERS_MAX);
        let told = told.ok_or(SdkRefusal::PlayersMax { capacity, max: PLAYERS_MAX })?;
        out.dirty |= self.own_word.roster.capacity.replace(told) != Some(told);
        Ok(())
    }

    /// Who is on it, as it has told.
    pub(in super::super) fn players_now(&self) -> Players {
        Players {
            count: Long(self.players_count().into()),
            capacity: Long(self.players_max().into()),
            ids: self.own_word.roster.ids.iter().cloned().collect(),
        }
    }

    /// The same for its record: nothing before it has told anything.
    pub(super) fn players_told(&self) -> Option<Players> {
        let roster = &self.own_word.roster;
        (roster.capacity.is_some() || !roster.ids.is_empty()).then(|| self.players_now())
    }
}
