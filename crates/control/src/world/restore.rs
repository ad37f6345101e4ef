//! Start: from the records to a world that keeps every promise and waits for the agents it knows.
//!
//! Never guesses what runs: that comes with the reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use greenroom_core::Timestamp;
use greenroom_wire::Text;
use greenroom_wire::record::{AnswerRecord, HostRecord, RoomRecord};

use super::state::{Counted, FleetState, HostState, RoomState, SeatState};
use super::{Effect, IdSource, Records, World, WorldConfig};

impl World {
    /// The world that these records promise, and what is to be done at once: results to deliver again.
    ///
    /// Records of fleets that are no longer configured are kept: their rooms run on until they end.
    #[must_use]
    pub fn restore(
        records: Records,
        config: WorldConfig,
        ids: IdSource,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let fleets = config
            .fleets
            .iter()
            .map(|spec| (spec.name.clone(), FleetState::new(spec.clone(), now)))
            .collect();
        let mut world = Self {
            term_begun: config.term,
            config,
            ids,
            now,
            started_at: now,
            fleets,
            hosts: BTreeMap::new(),
            streams: BTreeMap::new(),
            drains: BTreeMap::new(),
            servers: BTreeMap::new(),
            in_flight: VecDeque::new(),
            rooms: BTreeMap::new(),
            rooms_of: BTreeMap::new(),
            orphans: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_order: VecDeque::new(),
            answers: BTreeMap::new(),
            answers_order: VecDeque::new(),
            waiting: BTreeMap::new(),
            waiting_next: 0,
            logs: BTreeMap::new(),
            gone: VecDeque::new(),
            tickets: BTreeMap::new(),
            ticket_of: BTreeMap::new(),
            plays: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            owners: super::owners::Owners::default(),
            polls: BTreeMap::new(),
            results: BTreeSet::new(),
            events: VecDeque::new(),
            audit: VecDeque::new(),
            told_to_stop: BTreeSet::new(),
            news: super::news::Newsroom::default(),
            triggers: super::triggers::Triggers::default(),
            slos: super::slo::Slos::default(),
            dirty: BTreeSet::new(),
            out: Vec::new(),
        };
        if let Some(time) = world.config.without_leader {
            world.slos.took_over(time);
        }
        world.restore_news(records.news);
        world.restore_drains(records.drains);
        for host in records.hosts {
            world.await_host(host);
        }
        for room in records.rooms {
            world.restore_room(room);
        }
        world.restore_audit(records.audit);
        world.restore_triggers(records.triggers);
        world.restore_scaling(records.scale_orders, records.decisions);
        world.restore_answers(records.answers);
        for record in records.results {
            world.results.insert(super::results::result_key(&record.body));
            if world.config.results == super::Results::Deliver {
                world.out.push(Effect::Deliver(Box::new(record)));
            }
        }
        let effects = std::mem::take(&mut world.out);
        (world, effects)
    }

    fn await_host(&mut self, record: HostRecord) {
        let mut host = HostState::unheard(self.now);
        host.awaited = true;
        self.hosts.insert(record.host.0, host);
    }

    fn restore_room(&mut self, record: RoomRecord) {
        // A promise names a host; without its record it is awaited all the same.
        if !self.hosts.contains_key(&record.host.0) {
            self.await_host(HostRecord { version: 1, host: record.host.clone() });
        }
        if let Some(host) = self.hosts.get_mut(&record.host.0) {
            host.servers.insert(record.server.0.clone());
        }
        let mut seats = vec![None; usize::from(record.seats_max)];
        for seat in record.seats {
            let place = usize::from(seat.seat);
            if place < seats.len() {
                seats[place] = Some(SeatState {
                    player: seat.player.0,
                    token_id: seat.token_id,
                    expires_at: Timestamp::from_unix_ms(seat.expires_at_ms),
                    outstanding: true,
                    phase: None,
                });
            }
        }
        let room = RoomState {
            fleet: record.fleet.0,
            key: record.key.map(|key| key.0),
            epoch: record.epoch,
            open: record.open,
            server: record.server.0,
            instance: record.instance.0,
            host: record.host.0,
            endpoint: record.endpoint,
            tls: record.tls,
            created_at: Timestamp::from_unix_ms(record.created_at_ms),
            seats,
            played: record.played.into_iter().map(|Text(player)| player).collect(),
            init: record.init,
            reported: false,
            restored: true,
            kept: record.kept,
            vacant_since: None,
            counted: Counted::default(),
        };
        self.index_room(&record.room.0, room);
    }

    fn restore_answers(&mut self, mut answers: Vec<(String, AnswerRecord)>) {
        answers.sort_by_key(|(_, record)| record.answered_at_ms);
        for (key, record) in answers {
            if let Some(Text(ticket)) = &record.ticket {
                if let Some(owner) = record.owner.clone() {
                    self.unread(&owner, ticket);
                }
                let lives = self.rooms.contains_key(&record.room.0);
                for seat in record.seats.iter().filter(|_| lives) {
                    self.plays.insert(seat.player.0.clone(), record.room.0.clone());
                }
            }
            self.answers_order.push_back((Timestamp::from_unix_ms(record.answered_at_ms), key.clone()));
            self.answers.insert(key, record);
        }
    }
}
