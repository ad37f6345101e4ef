//! Calls that take only some servers: what they are short of, and where a start would help them.
//!
//! Never starts a server: that is `fleets`.

use std::collections::BTreeSet;

use greenroom_core::FleetName;
use greenroom_core::allocate::Selector;
use greenroom_core::fleet::FleetKind;
use greenroom_core::gameserver::{GameServer, State};
use greenroom_core::placement::{self, Host, Placed, Spread};
use greenroom_wire::revision::sizes;

use super::World;
use super::state::{Ask, FleetState, Waiting};

/// So many kinds of selective calls are looked at in one step; the others have their turn when these are served.
const KINDS_MAX: usize = 16;

/// So many servers are started for them in one step; the next step starts more.
const STARTS_MAX: u32 = 64;

/// Calls that find too few places among all servers that are here or on their way.
struct Unserved<'a> {
    takes: &'a Selector,
    /// Servers that would do for them, besides those.
    servers: u32,
}

impl World {
    /// Rooms that calls and matches wait for, of those that a new server would help.
    pub(super) fn places_asked(&self, fleet: &FleetState) -> u32 {
        let helped = |waiting: &&Waiting| self.could_come(fleet, waiting.ask.selector());
        places(fleet, fleet.waiting.values().filter(helped)).saturating_add(fleet.matches_waiting)
    }

    /// How many servers a fleet is short of for calls that take only some, where a start would help them; `None` while none of
    /// them waits.
    pub(super) fn selective_missing(&self, name: &FleetName, fleet: &FleetState) -> Option<u32> {
        self.selectors(fleet).next()?;
        let Some(unserved) = self.unserved(fleet) else { return Some(0) };
        let hosts = self.places(name, fleet.spec.spread, fleet.spec.template.agones);
        let mut hosts = self.aimed(unserved.takes, hosts);
        let startable = (0..unserved.servers.min(STARTS_MAX)).take_while(|_| {
            let placed = placement::choose(&hosts, fleet.spec.spread).ok();
            let host = placed.and_then(|placed| hosts.iter_mut().find(|host| host.name == placed.host));
            host.is_some_and(|host| {
                host.servers += 1;
                host.of_fleet += 1;
                true
            })
        });
        u32::try_from(startable.count()).ok()
    }

    /// The host for one more server where calls could use it that nothing else would do for. `None` where there are none, or no
    /// place for it.
    pub(super) fn place_for_selective(
        &self,
        name: &FleetName,
        hosts: &[Host],
        spread: Spread,
    ) -> Option<Placed> {
        let unserved = self.unserved(self.fleets.get(name)?)?;
        placement::choose(&self.aimed(unserved.takes, hosts.to_vec()), spread).ok()
    }

    /// Only those of them accept a server that calls could use there.
    fn aimed(&self, takes: &Selector, mut hosts: Vec<Host>) -> Vec<Host> {
        for host in &mut hosts {
            let state = self.hosts.get(&host.name);
            host.accepts &= state.is_some_and(|state| takes.matches_labels(&state.labels));
        }
        hosts
    }

    /// The first of them, in the order in which they came.
    fn unserved<'a>(&self, fleet: &'a FleetState) -> Option<Unserved<'a>> {
        self.selectors(fleet).find_map(|takes| {
            let asked = places(fleet, fleet.waiting.values().filter(|other| other.ask.selector() == takes));
            let servers = short(fleet, takes, asked);
            (servers > 0).then_some(Unserved { takes, servers })
        })
    }

    /// What calls select that a new server could do for, each once.
    fn selectors<'a>(&self, fleet: &'a FleetState) -> impl Iterator<Item = &'a Selector> {
        let mut seen = BTreeSet::new();
        let selectors = fleet.waiting.values().map(|waiting| waiting.ask.selector());
        let kinds = selectors.filter(move |selector| !selector.is_any() && seen.insert(*selector));
        kinds.take(KINDS_MAX).filter(|selector| self.could_come(fleet, selector))
    }

    /// Whether a server that is started now may be one that will do.
    fn could_come(&self, fleet: &FleetState, selector: &Selector) -> bool {
        let current = selector.revision.as_ref().is_none_or(|revision| *revision == fleet.spec.revision);
        let on_a_host = || {
            let mut open = self
                .hosts
                .iter()
                .filter(|(name, host)| host.connected && self.drain_of(name, host).is_none());
            open.any(|(_, host)| selector.matches_labels(&host.labels))
        };
        selector.is_any() || (current && on_a_host())
    }
}

/// Rooms that calls and matches wait for which any server would do for.
pub(super) fn places_asked_anywhere(fleet: &FleetState) -> u32 {
    let anywhere = fleet.waiting.values().filter(|waiting| waiting.ask.selector().is_any());
    places(fleet, anywhere).saturating_add(fleet.matches_waiting)
}

/// One per key and one per call without, those that fill by their seats; of a mesh, the calls.
fn places<'a>(fleet: &FleetState, waiting: impl Iterator<Item = &'a Waiting>) -> u32 {
    let mut keys = BTreeSet::new();
    let (mut places, mut fill_seats) = (0_usize, 0_usize);
    for waiting in waiting {
        match &waiting.ask {
            Ask::Endpoint(_) => places += usize::from(fleet.is_mesh()),
            Ask::Room(ask) if ask.body.fill => fill_seats += ask.body.players.len(),
            Ask::Room(ask) => {
                places += usize::from(ask.body.key.as_ref().is_none_or(|key| keys.insert(key)));
            }
        }
    }
    // Those that fill share rooms.
    places += fill_seats.div_ceil(usize::from(fleet.seats_per_room()).max(1));
    u32::try_from(places).unwrap_or(u32::MAX)
}

/// How many servers it takes for `asked` places besides those that servers have, or will have once they answer.
fn short(fleet: &FleetState, takes: &Selector, asked: u32) -> u32 {
    let (rooms_per_server, _) = sizes(fleet.spec.kind);
    let helps = |server: &&GameServer| {
        takes.matches(server) && (server.state == State::Starting || server.takes_players())
    };
    let free = |server: &GameServer| u32::from(rooms_per_server.saturating_sub(server.rooms));
    let mut helping = fleet.view.iter().filter(helps);
    match fleet.spec.kind {
        // One takes them all.
        FleetKind::Mesh => u32::from(asked > 0 && helping.next().is_none()),
        FleetKind::Room { .. } => {
            let free = helping.map(free).fold(0, u32::saturating_add);
            asked.saturating_sub(free).div_ceil(u32::from(rooms_per_server.max(1)))
        }
    }
}
