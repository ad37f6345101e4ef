//! The sessions that clients may come back to, each held by one node in one generation.
//! Never lets an older generation write.

use std::collections::HashMap;
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::Text;
use greenroom_wire::backplane::{NotRestored, Own, Pid, Position, SessionRecord, Told};
use serde_json::Value;

struct Held {
    record: SessionRecord,
    /// Since when its client is gone, as far as known.
    away_at: Option<Timestamp>,
    own_bytes: usize,
}

impl Held {
    fn window(&self) -> Duration {
        Duration::from_millis(self.record.window_ms)
    }

    fn recount(&mut self) {
        self.own_bytes = self.record.own.iter().map(own_bytes).sum();
    }
}

fn own_bytes(own: &Own) -> usize {
    own.packet.len() + own.attachments.iter().map(String::len).sum::<usize>() + size_of::<Own>()
}

/// What became of a question for a session.
pub(crate) struct Taking {
    pub(crate) session: Result<Box<SessionRecord>, NotRestored>,
    /// Whoever held it until now, with the generation that it has lost it to.
    pub(crate) fenced: Option<(String, u64)>,
}

#[derive(Default)]
pub(crate) struct Sessions {
    by_pid: HashMap<Pid, Held>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_pid.len()
    }

    pub(crate) fn namespace_of(&self, pid: &Pid) -> Option<&str> {
        self.by_pid.get(pid).map(|held| held.record.namespace.as_str())
    }

    fn of(&mut self, pid: &Pid, generation: u64) -> Option<&mut Held> {
        self.by_pid.get_mut(pid).filter(|held| held.record.generation == generation)
    }

    /// Keeps a session. Gives the word for its node where it is not to be kept.
    pub(crate) fn open(
        &mut self,
        node: &str,
        mut session: SessionRecord,
        sessions_max: usize,
    ) -> Option<Told> {
        node.clone_into(&mut session.node);
        let pid = session.pid.clone();
        match self.by_pid.get(&pid) {
            Some(held) if held.record.generation > session.generation => {
                return Some(Told::Fenced { pid, generation: held.record.generation });
            }
            Some(_) => {}
            None if self.by_pid.len() >= sessions_max => return Some(Told::NotKept { pid }),
            None => {}
        }
        let mut held = Held { record: session, away_at: None, own_bytes: 0 };
        held.recount();
        self.by_pid.insert(pid, held);
        None
    }

    pub(crate) fn update(&mut self, pid: &Pid, generation: u64, groups: Vec<String>, data: Value) {
        if let Some(held) = self.of(pid, generation) {
            held.record.groups = groups;
            held.record.data = data;
        }
    }

    /// The client is there and has read up to `safe`.
    pub(crate) fn touch(&mut self, pid: &Pid, generation: u64, safe: Position) {
        let Some(held) = self.of(pid, generation) else { return };
        held.away_at = None;
        if safe.is_after(&held.record.safe) || safe.epoch != held.record.safe.epoch {
            held.record.safe = Text(safe);
            held.record.own.retain(|own| own.position.is_after(&safe));
            held.recount();
        }
    }

    pub(crate) fn leave(&mut self, now: Timestamp, pid: &Pid, generation: u64) {
        if let Some(held) = self.of(pid, generation) {
            held.away_at.get_or_insert(now);
        }
    }

    pub(crate) fn close(&mut self, pid: &Pid, generation: u64) {
        if self.of(pid, generation).is_some() {
            self.by_pid.remove(pid);
        }
    }

    pub(crate) fn handle_gone(&mut self, now: Timestamp, node: &str) {
        for held in self.by_pid.values_mut().filter(|held| held.record.node == node) {
            held.away_at.get_or_insert(now);
        }
    }

    /// Forgets who was away for two windows. In the second one the answer is at least that the window is over.
    pub(crate) fn purge(&mut self, now: Timestamp) {
        self.by_pid
            .retain(|_, held| held.away_at.is_none_or(|away_at| now.since(away_at) <= held.window() * 2));
    }

    /// Keeps an event for one socket. `None`: the session is not this generation's. An event that was kept before has
    /// the same place again. `next` is the place that the History has for it.
    pub(crate) fn keep_own(
        &mut self,
        pid: &Pid,
        generation: u64,
        own: (u64, String, Vec<String>),
        next: Position,
        bytes_max: usize,
    ) -> Option<Position> {
        let held = self.of(pid, generation)?;
        let (seq, packet, attachments) = own;
        if let Some(before) = held.record.own.iter().find(|own| own.seq == seq) {
            return Some(before.position.0);
        }
        // A board that began anew counts anew: a session's places go up all the same.
        let last = held.record.own.last().map_or(held.record.safe.0, |own| own.position.0);
        let is_same = (last.epoch, last.offset) == (next.epoch, next.offset);
        let position = Position { n: if is_same { next.n.max(last.n + 1) } else { next.n }, ..next };
        let own = Own { position: Text(position), seq, packet, attachments };
        held.own_bytes += own_bytes(&own);
        held.record.own.push(own);
        while held.own_bytes > bytes_max && !held.record.own.is_empty() {
            let lost = held.record.own.remove(0);
            held.own_bytes -= own_bytes(&lost);
            held.record.own_lost = Some(lost.position);
        }
        Some(position)
    }

    /// Hands a session to a node.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        node: &str,
        namespace: &str,
        pid: &Pid,
        epoch: u64,
    ) -> Taking {
        let refused = |why| Taking { session: Err(why), fenced: None };
        let Some(held) = self.by_pid.get_mut(pid).filter(|held| held.record.namespace == namespace) else {
            return refused(NotRestored::UnknownSession);
        };
        if held.away_at.is_some_and(|away_at| now.since(away_at) > held.window()) {
            return refused(NotRestored::WindowOver);
        }
        if held.record.safe.epoch != epoch {
            return refused(NotRestored::Rewound);
        }
        held.record.generation += 1;
        held.away_at = None;
        let before = std::mem::replace(&mut held.record.node, node.to_owned());
        // The numbers of another node say nothing to this one.
        held.record.own.iter_mut().for_each(|own| own.seq = 0);
        let fenced = (before != node).then_some((before, held.record.generation));
        Taking { session: Ok(Box::new(held.record.clone())), fenced }
    }
}
