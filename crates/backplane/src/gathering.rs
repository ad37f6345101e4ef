//! A History that its backplane has lost, on its way back out of what the nodes still hold.
//! Never glues together what does not fit: then the log begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::backplane::{Command, Logged, Position};

use crate::Log;
use crate::board::{Published, weight};

/// Commands that wait for a History; more are dropped, and their node gives them again on its next way here.
const QUEUED_MAX: usize = 100_000;

pub(crate) struct Gathering {
    until: Timestamp,
    retained: Duration,
    attached: BTreeSet<String>,
    /// Nodes that were asked and have not told all.
    waiting: BTreeSet<String>,
    /// All that was told so far; `Err` once two nodes told of different logs.
    epoch: Result<Option<u64>, ()>,
    head: u64,
    events: BTreeMap<u64, Logged>,
    queued: Vec<(String, Command)>,
}

pub(crate) struct Gathered {
    pub(crate) log: Log<Published>,
    pub(crate) retained: Duration,
    pub(crate) attached: BTreeSet<String>,
    /// Numbers of nodes that are in the log.
    pub(crate) seen: Vec<(String, u64)>,
    pub(crate) queued: Vec<(String, Command)>,
}

impl Gathering {
    pub(crate) fn new(until: Timestamp, retained: Duration) -> Self {
        Self {
            until,
            retained,
            attached: BTreeSet::new(),
            waiting: BTreeSet::new(),
            epoch: Ok(None),
            head: 0,
            events: BTreeMap::new(),
            queued: Vec::new(),
        }
    }

    pub(crate) fn retained(&self) -> Duration {
        self.retained
    }

    /// A node is here. The answer says whether it must tell what it holds.
    pub(crate) fn attach(&mut self, node: &str, known: Option<Position>, retained: Duration) -> bool {
        self.retained = self.retained.max(retained);
        self.attached.insert(node.to_owned());
        known.is_some() && self.waiting.insert(node.to_owned())
    }

    pub(crate) fn forget(&mut self, node: &str) {
        self.attached.remove(node);
        self.waiting.remove(node);
        self.queued.retain(|(from, _)| from != node);
    }

    pub(crate) fn queue(&mut self, node: &str, command: Command) {
        if self.queued.len() < QUEUED_MAX {
            self.queued.push((node.to_owned(), command));
        }
    }

    /// Takes in what a node holds.
    pub(crate) fn take_in(&mut self, node: &str, epoch: u64, head: u64, events: Vec<Logged>, is_last: bool) {
        match self.epoch {
            Ok(None) => self.epoch = Ok(Some(epoch)),
            Ok(Some(known)) if known == epoch => {}
            Ok(Some(_)) | Err(()) => self.epoch = Err(()),
        }
        self.head = self.head.max(head);
        for event in events {
            // The same number twice is the same event: a board gave it.
            self.events.entry(event.offset).or_insert(event);
        }
        if is_last {
            self.waiting.remove(node);
        }
    }

    /// Whether nobody is waited for any more.
    pub(crate) fn is_over(&self, now: Timestamp, expected: &BTreeSet<String>) -> bool {
        self.until <= now || (self.waiting.is_empty() && expected.is_empty())
    }

    /// The log out of all that was told; with `fresh` as its epoch where that is not the whole of one log.
    /// `has_missed`: somebody who may have held more did not come.
    pub(crate) fn finish(self, fresh: u64, has_missed: bool) -> Gathered {
        let log = self.whole_log().filter(|_| !has_missed).unwrap_or_else(|| Log::new(fresh, 0));
        let seen = self.events.into_values().map(|event| (event.origin, event.seq)).collect();
        Gathered { log, retained: self.retained, attached: self.attached, seen, queued: self.queued }
    }

    fn whole_log(&self) -> Option<Log<Published>> {
        let epoch = self.epoch.ok()??;
        // Whoever is still asked may know of later events.
        if !self.waiting.is_empty() {
            return None;
        }
        let mut first = self.head + 1;
        while first > 1 && self.events.contains_key(&(first - 1)) {
            first -= 1;
        }
        // A later event than all that is held: some are lost.
        if first == self.head + 1 && self.head > 0 && !self.events.is_empty() {
            return None;
        }
        let mut log = Log::new(epoch, first - 1);
        for event in self.events.range(first..).map(|(_, event)| event) {
            let published =
                Published { origin: event.origin.clone(), seq: event.seq, relay: event.relay.clone() };
            log.append(Timestamp::from_unix_ms(event.at_ms), weight(&event.relay), published);
        }
        Some(log)
    }
}
