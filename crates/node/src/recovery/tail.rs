//! This node's copy of one namespace's History, with an index of its groups.
//! Never sends: it says what is to be sent, to whom.

use std::collections::{BTreeSet, HashMap, VecDeque};

use greenroom_backplane::{Kept, Log, Missing};
use greenroom_core::Timestamp;
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::{Logged, Position};
use tokio::sync::oneshot;

/// One event for many, ready to be sent again.
pub(super) struct TailEvent {
    groups: Vec<String>,
    except: Vec<String>,
    /// With its offset.
    packet: Prepared,
    pub(super) logged: Logged,
}

impl TailEvent {
    pub(super) fn new(logged: Logged, packet: Prepared) -> Self {
        let relay = &logged.relay;
        Self { groups: relay.groups.clone(), except: relay.except.clone(), packet, logged }
    }

    fn bytes(&self) -> usize {
        let names = self.groups.iter().chain(&self.except).map(String::len).sum::<usize>();
        self.packet.frames_bytes() + self.logged.relay.packet.len() + names + size_of::<Self>()
    }
}

/// How far a node is with a History.
pub(super) struct Tail {
    /// None until the backplane has told it.
    attached: Option<u64>,
    log: Log<TailEvent>,
    /// Events up to here were handed to the sockets that were there.
    dispatched: u64,
    /// The last event for one socket after that one, of those that this node has handed on.
    own_n: u32,
    /// Events that came before those between them and the log.
    early: VecDeque<Logged>,
    /// A page was asked for and has not come.
    pub(super) is_reading: bool,
    by_group: HashMap<String, VecDeque<u64>>,
    for_all: VecDeque<u64>,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// Events for one socket that are kept behind events for many which this node has not read yet.
    early_own: Vec<(Position, u64)>,
    /// The last number of each node that was taken in. A store that came back shorter may be given an event again.
    last_seq: HashMap<String, u64>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self {
            attached: None,
            log: Log::new(0, 0),
            dispatched: 0,
            own_n: 0,
            early: VecDeque::new(),
            is_reading: false,
            by_group: HashMap::new(),
            for_all: VecDeque::new(),
            waiting: Vec::new(),
            early_own: Vec::new(),
            last_seq: HashMap::new(),
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// What all sockets of this node have got that it was for.
    pub(super) fn place(&self) -> Position {
        Position { epoch: self.log.epoch(), offset: self.dispatched, n: self.own_n }
    }

    /// Whether an event for one socket must wait for events for many before it; it is kept then.
    pub(super) fn keep_early_own(&mut self, position: Position, seq: u64) -> bool {
        let is_early = position.epoch == self.log.epoch() && position.offset > self.dispatched;
        if is_early {
            self.early_own.push((position, seq));
        }
        is_early
    }

    /// The events for one socket whose turn has come.
    pub(super) fn take_early_own(&mut self) -> Vec<(Position, u64)> {
        let place = self.place();
        let is_due = |(position, _): &mut (Position, u64)| {
            position.epoch != place.epoch || position.offset <= place.offset
        };
        self.early_own.extract_if(.., is_due).collect()
    }

    /// An event for one socket was handed on.
    pub(super) fn pass_own(&mut self, position: Position) {
        if position.is_after(&self.place()) && position.offset == self.dispatched {
            self.own_n = position.n;
        }
    }

    /// What the node can say of this History to a backplane that asks.
    pub(super) fn known(&self) -> Option<Position> {
        (self.log.epoch() != 0).then(|| Position { epoch: self.log.epoch(), offset: self.log.head(), n: 0 })
    }

    /// The way is gone; what was asked for will not come.
    pub(super) fn handle_down(&mut self) {
        self.attached = None;
        self.is_reading = false;
        self.early.clear();
    }

    /// The backplane has told where the History stands. The answer says whether the node has a gap that it must read.
    pub(super) fn handle_attached(&mut self, epoch: u64, head: u64, floor: u64) -> bool {
        if epoch != self.log.epoch() {
            self.log = Log::new(epoch, floor);
            self.by_group.clear();
            self.for_all.clear();
            self.dispatched = head;
            self.own_n = 0;
        }
        self.attached = Some(epoch);
        self.is_reading = self.log.head() < head;
        self.wake();
        self.is_reading
    }

    /// The History lost events before this node had read them. The answer says whether its sockets have missed some.
    pub(super) fn skip_to(&mut self, floor: u64) -> bool {
        if floor <= self.log.head() {
            return false;
        }
        self.log = Log::new(self.log.epoch(), floor);
        self.by_group.clear();
        self.for_all.clear();
        let has_missed = self.dispatched < floor;
        self.dispatched = self.dispatched.max(floor);
        has_missed
    }

    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.attached == Some(epoch)
    }

    /// The number that comes next.
    pub(super) fn next(&self) -> u64 {
        self.log.head() + 1
    }

    /// Keeps an event for later, because others are missing before it.
    pub(super) fn keep_early(&mut self, event: Logged) {
        self.early.push_back(event);
    }

    /// The next event, where it came early.
    pub(super) fn take_early(&mut self) -> Option<Logged> {
        while self.early.front().is_some_and(|event| event.offset < self.next()) {
            self.early.pop_front();
        }
        if self.early.front()?.offset == self.next() { self.early.pop_front() } else { None }
    }

    /// Whether an event, which is the next one, is still to be handed to sockets.
    pub(super) fn is_new(&self, event: &Logged) -> bool {
        let is_again = self.last_seq.get(&event.origin).is_some_and(|last| event.seq <= *last);
        event.offset > self.dispatched && !is_again
    }

    /// Takes in the next event, which was handed to sockets if it was new.
    pub(super) fn append(&mut self, event: TailEvent) {
        let offset = self.next();
        if event.groups.is_empty() {
            self.for_all.push_back(offset);
        }
        for group in &event.groups {
            match self.by_group.get_mut(group) {
                Some(offsets) => offsets.push_back(offset),
                None => {
                    self.by_group.insert(group.clone(), VecDeque::from([offset]));
                }
            }
        }
        if offset > self.dispatched {
            self.dispatched = offset;
            self.own_n = 0;
        }
        let last = self.last_seq.entry(event.logged.origin.clone()).or_default();
        *last = event.logged.seq.max(*last);
        let at = Timestamp::from_unix_ms(event.logged.at_ms);
        self.log.append(at, event.bytes(), event);
        self.wake();
    }

    /// Lets go of what is too old or too much.
    pub(super) fn trim(&mut self, keep_from: Timestamp, bytes_max: usize) {
        let Self { log, by_group, for_all, .. } = self;
        log.trim(keep_from, bytes_max, |gone| {
            if gone.event.groups.is_empty() {
                for_all.pop_front();
            }
            for group in &gone.event.groups {
                if let Some(offsets) = by_group.get_mut(group) {
                    offsets.pop_front();
                    if offsets.is_empty() {
                        by_group.remove(group);
                    }
                }
            }
        });
    }

    /// Tells when all events up to `head` are here.
    pub(super) fn wait_for(&mut self, head: u64) -> oneshot::Receiver<()> {
        let (told, waiting) = oneshot::channel();
        self.waiting.push((head, told));
        self.wake();
        waiting
    }

    fn wake(&mut self) {
        if self.attached.is_none() {
            return;
        }
        let head = self.log.head();
        for (_, waiting) in self.waiting.extract_if(.., |(until, _)| *until <= head) {
            // Whoever waited may have given up.
            let _gone = waiting.send(());
        }
    }

    /// What a socket that was in `groups` has missed after `offset`, in order.
    pub(super) fn missed(
        &self,
        offset: u64,
        socket: &str,
        groups: &[String],
    ) -> Result<Vec<(u64, Prepared)>, Missing> {
        self.log.check(offset)?;
        let own = socket.to_owned();
        let names: BTreeSet<&String> = groups.iter().chain([&own]).collect();
        let lists = names.iter().filter_map(|group| self.by_group.get(*group)).chain([&self.for_all]);
        let mut offsets: Vec<u64> = lists
            .flat_map(|list| list.range(list.partition_point(|other| *other <= offset)..))
            .copied()
            .collect();
        offsets.sort_unstable();
        offsets.dedup();
        let events = offsets.into_iter().filter_map(|offset| self.log.get(offset));
        let is_meant = |kept: &&Kept<TailEvent>| !kept.event.except.iter().any(|group| names.contains(group));
        Ok(events.filter(is_meant).map(|kept| (kept.offset, kept.event.packet.clone())).collect())
    }

    /// All events that are here, for a backplane that has lost them.
    pub(super) fn events(&self) -> impl Iterator<Item = &Logged> {
        self.log.after(self.log.floor()).into_iter().flatten().map(|kept| &kept.event.logged)
    }
}

#[cfg(test)]
mod tests {
    use greenroom_socketio::packet::Draft;
    use greenroom_wire::link::Relay;

    use super::*;

    const EPOCH: u64 = 7;

    fn at(offset: u64, n: u32) -> Position {
        Position { epoch: EPOCH, offset, n }
    }

    fn logged(offset: u64, origin: &str, seq: u64) -> Logged {
        let relay = Relay {
            namespace: "/".to_owned(),
            groups: vec![],
            except: vec![],
            packet: "2[\"x\"]".to_owned(),
            attachments: vec![],
        };
        Logged { offset, at_ms: 1, origin: origin.to_owned(), seq, relay }
    }

    fn take_in(tail: &mut Tail, origin: &str, seq: u64) {
        let packet = Draft::event("x").and_then(|draft| draft.prepare("/", None)).expect("an event");
        tail.append(TailEvent::new(logged(tail.next(), origin, seq), packet));
    }

    fn attached(head: u64) -> Tail {
        let mut tail = Tail::new();
        tail.handle_attached(EPOCH, head, head);
        tail
    }

    #[test]
    fn an_event_for_one_socket_waits_for_those_for_many_before_it() {
        let mut tail = attached(0);
        take_in(&mut tail, "a.0", 1);
        assert!(!tail.keep_early_own(at(1, 1), 5), "all before it are here");
        assert!(tail.keep_early_own(at(3, 1), 6));
        assert!(tail.keep_early_own(at(2, 1), 7));
        assert!(!tail.keep_early_own(Position { epoch: EPOCH + 1, ..at(9, 1) }, 8), "of another history");
        assert_eq!(tail.take_early_own(), []);
        take_in(&mut tail, "a.0", 2);
        assert_eq!(tail.take_early_own(), [(at(2, 1), 7)]);
        take_in(&mut tail, "a.0", 3);
        assert_eq!(tail.take_early_own(), [(at(3, 1), 6)], "once");
        assert_eq!(tail.take_early_own(), []);

        // What waited for a History that has ended waits no longer: its session will say that it is not its own.
        assert!(tail.keep_early_own(at(9, 1), 9));
        tail.handle_attached(EPOCH + 1, 0, 0);
        assert_eq!(tail.take_early_own(), [(at(9, 1), 9)]);
    }

    #[test]
    fn an_event_that_a_shorter_store_was_given_again_is_handed_on_once() {
        let mut tail = attached(0);
        for (origin, seq) in [("a.0", 1), ("b.0", 1), ("a.0", 2)] {
            assert!(tail.is_new(&logged(tail.next(), origin, seq)));
            take_in(&mut tail, origin, seq);
        }
        // The store forgot the last two, and began anew; their node gives them again, and then one more.
        tail.handle_attached(EPOCH + 1, 0, 0);
        for (origin, seq, is_new) in
            [("a.0", 2, false), ("b.0", 1, false), ("a.0", 3, true), ("c.0", 1, true)]
        {
            assert_eq!(tail.is_new(&logged(tail.next(), origin, seq)), is_new, "{origin} {seq}");
            take_in(&mut tail, origin, seq);
        }
        assert_eq!(
            (tail.place().offset, tail.next()),
            (4, 5),
            "those that came again have their numbers too"
        );
    }

    #[test]
    fn an_attach_in_the_middle_of_a_history_hands_on_only_what_comes_after_it() {
        let mut tail = Tail::new();
        assert!(tail.handle_attached(EPOCH, 2, 0), "the two before are read for those who come back");
        for seq in [1, 2] {
            assert!(!tail.is_new(&logged(tail.next(), "a.0", seq)), "nobody here was there");
            take_in(&mut tail, "a.0", seq);
        }
        assert!(tail.is_new(&logged(tail.next(), "a.0", 3)));
        assert_eq!(tail.missed(0, "id", &[]).map(|missed| missed.len()), Ok(2));
    }
}
