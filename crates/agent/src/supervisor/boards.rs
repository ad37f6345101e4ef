//! The boards of this host's fleets: histories and sessions that outlive any of their servers.
//!
//! Never in the journal: after this agent's own crash the servers tell again what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_backplane::{Board, Limits};
use greenroom_core::{FleetName, InstanceId, Timestamp};
use greenroom_wire::backplane::{Command, Told};
use greenroom_wire::link::ToServer;

use super::{Effect, LinkId, Supervisor};

/// How often boards let go of what is over.
const TICK_EVERY: Duration = Duration::from_millis(250);

/// How long after its start this agent believes that servers found then may hold more than it knows.
const ADOPTED_FOR: Duration = Duration::from_secs(10);

/// One board for each fleet that uses one.
#[derive(Default)]
pub(super) struct Boards {
    by_fleet: BTreeMap<FleetName, Board>,
    links: BTreeMap<String, LinkId>,
    /// Processes that ran before this agent did.
    adopted: BTreeSet<(FleetName, String)>,
    limits: Limits,
    started_at: Timestamp,
    tick_at: Timestamp,
}

impl Boards {
    pub(super) fn new(limits: Limits, now: Timestamp) -> Self {
        Self { limits, started_at: now, tick_at: now, ..Self::default() }
    }

    pub(super) fn adopt(&mut self, fleet: FleetName, instance: &InstanceId) {
        self.adopted.insert((fleet, instance.to_string()));
    }

    pub(super) fn linked(&mut self, instance: &InstanceId, link: LinkId) {
        self.links.insert(instance.to_string(), link);
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        (!self.by_fleet.is_empty()).then_some(self.tick_at)
    }

    fn told(&self, told: Vec<(String, Told)>) -> impl Iterator<Item = Effect> {
        told.into_iter().filter_map(|(node, told)| {
            let link = *self.links.get(&node)?;
            Some(Effect::TellServer { link, message: ToServer::Backplane(told) })
        })
    }

    fn of(&mut self, fleet: &FleetName, now: Timestamp, seed: impl FnOnce() -> u64) -> &mut Board {
        if !self.by_fleet.contains_key(fleet) {
            let is_early = now.since(self.started_at) < ADOPTED_FOR;
            let adopted = self.adopted.iter().filter(|(of, _)| is_early && of == fleet);
            let expected = adopted.map(|(_, instance)| instance.clone()).collect();
            let board = Board::new(self.limits, seed(), expected, now);
            self.by_fleet.insert(fleet.clone(), board);
        }
        self.by_fleet.get_mut(fleet).expect("it was just put there")
    }
}

impl Supervisor {
    /// A server's word to the board of its fleet.
    pub(super) fn handle_backplane(
        &mut self,
        now: Timestamp,
        fleet: &FleetName,
        instance: &InstanceId,
        command: Command,
    ) {
        let Self { boards, secrets, .. } = self;
        // Secrets are true randomness.
        let seed = || secrets().bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
        let told = boards.of(fleet, now, seed).handle(now, &instance.to_string(), command);
        self.out.effects.extend(self.boards.told(told));
    }

    /// The way to a server is gone.
    pub(super) fn handle_backplane_lost(&mut self, now: Timestamp, instance: &InstanceId, link: LinkId) {
        let node = instance.to_string();
        if self.boards.links.get(&node) != Some(&link) {
            return;
        }
        self.boards.links.remove(&node);
        let told: Vec<_> =
            self.boards.by_fleet.values_mut().flat_map(|board| board.handle_gone(now, &node)).collect();
        self.out.effects.extend(self.boards.told(told));
    }

    pub(super) fn tick_boards(&mut self, now: Timestamp) {
        if self.boards.tick_at > now {
            return;
        }
        self.boards.tick_at = now + TICK_EVERY;
        let told: Vec<_> = self.boards.by_fleet.values_mut().flat_map(|board| board.tick(now)).collect();
        self.out.effects.extend(self.boards.told(told));
    }
}
