//! What the node and the store want of each other: commands on their way, logs that are read, sessions that are held.
//! Never waits and never touches a socket; see [`super::attend`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Pipeline, Value, cmd};
use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Pid, RETAINED_BESIDES, SessionRecord, Shout, Told};
use greenroom_wire::kept::RoomCommand;
use greenroom_wire::link::{MeshSend, MeshTold};

use super::RedisConfig;
use super::batch::{Adding, Batch, Expected, Heading};
use super::connections::Connections;
use super::follow::{Follow, Mark};
use super::names::Names;
use super::replies::{self, Odd};
use super::rooms::RoomKeys;
use crate::way::{FromBackplane, Teller, ToBackplane};

/// How often a session that nobody writes to is kept from running out, which it would after 10 min and two windows.
const RENEWED_EVERY: Duration = Duration::from_secs(180);

/// Events of one History in one read, where they are small.
const READ_MAX: usize = 512;

/// Bytes of one History in one read, roughly: as those of the read before weighed.
const READ_BYTES: usize = 4 << 20;

/// A session of this node.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) namespace: String,
    pub(super) generation: u64,
    window: Duration,
    away_at: Option<Instant>,
    renewed_at: Instant,
}

impl Held {
    pub(super) fn of(session: &SessionRecord, now: Instant) -> Self {
        Self {
            namespace: session.namespace.clone(),
            generation: session.generation,
            window: Duration::from_millis(session.window_ms),
            away_at: None,
            renewed_at: now,
        }
    }
}

pub(super) struct Exchange {
    pub(super) names: Names,
    pub(super) node: InstanceId,
    heading: Heading,
    nodes_script: String,
    reader_id: u64,
    pub(super) from: Teller,
    inbox_bytes_max: usize,
    sessions_max: usize,
    pub(super) rooms_max: usize,
    pub(super) rooms: RoomKeys,
    /// Words that were dropped since the node was told.
    dropped: u64,
    /// Events of one History in the next read.
    pub(super) read_max: usize,
    pub(super) batch: Batch,
    pub(super) follows: HashMap<String, Follow>,
    /// The namespace of each log that is read, by its key.
    pub(super) by_log: HashMap<String, String>,
    /// How far each log was read, also over connections that are gone.
    pub(super) marks: HashMap<String, Mark>,
    pub(super) held: HashMap<Pid, Held>,
    /// The node has begun anew on this connection. What it said before that is said again.
    has_attached: bool,
    /// Connections so far.
    ups: u64,
    /// Reads so far.
    pub(super) reads: u64,
    /// The read that waits does not know of all logs.
    pub(super) has_news: bool,
    pub(super) is_unblocked: bool,
}

impl Exchange {
    pub(super) fn new(config: &RedisConfig, names: Names, from: Teller) -> Self {
        let heading = Heading {
            script: String::new(),
            node: config.node.to_string(),
            dead_ms: config.dead_ms(),
            history_bytes_max: config.limits.history_bytes_max,
            own_bytes_max: config.limits.own_bytes_max,
        };
        Self {
            names,
            node: config.node.clone(),
            heading,
            nodes_script: String::new(),
            reader_id: 0,
            from,
            inbox_bytes_max: config.inbox_bytes_max,
            sessions_max: config.limits.sessions_max,
            rooms_max: config.limits.rooms_max,
            rooms: RoomKeys::default(),
            dropped: 0,
            read_max: READ_MAX,
            batch: Batch::default(),
            follows: HashMap::new(),
            by_log: HashMap::new(),
            marks: HashMap::new(),
            held: HashMap::new(),
            has_attached: false,
            ups: 0,
            reads: 0,
            has_news: false,
            is_unblocked: false,
        }
    }

    /// Everything is as on a first connection, but for what the node holds.
    pub(super) fn begin(&mut self, connections: &Connections) {
        self.heading.script.clone_from(&connections.history);
        self.nodes_script.clone_from(&connections.nodes);
        self.rooms.begin(&connections.rooms);
        self.reader_id = connections.reader_id;
        self.batch = Batch::default();
        self.follows.clear();
        self.by_log.clear();
        (self.has_attached, self.has_news, self.is_unblocked) = (false, false, false);
        self.ups += 1;
        self.tell(FromBackplane::Up);
    }

    pub(super) fn tell(&self, told: FromBackplane) {
        self.from.tell(told);
    }

    /// Whether the node keeps up with what is read for it.
    pub(super) fn has_room(&self) -> bool {
        let held: usize = self.follows.values().map(|follow| follow.held_bytes).sum();
        self.from.waiting_bytes() + held < self.inbox_bytes_max
    }

    /// Tells a word of another node that nobody keeps, where the node keeps up.
    fn pass_on(&mut self, word: FromBackplane, bytes: usize) {
        if self.from.waiting_bytes() + bytes > self.inbox_bytes_max {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let words = std::mem::take(&mut self.dropped);
            self.tell(FromBackplane::Dropped { words });
        }
        self.from.tell_weighing(word, bytes);
    }

    /// Takes in what the node says.
    pub(super) fn queue(&mut self, now: Instant, said: ToBackplane) {
        match said {
            ToBackplane::Command(command) => self.command(now, command),
            ToBackplane::Publish(relay) => {
                self.shout(None, &Shout::Deliver { from: Text(self.node.clone()), relay });
            }
            ToBackplane::Mesh(send) => match (&send.to, send.ask) {
                (None, Some(ask)) => {
                    let list = self.nodes_call("list");
                    self.batch.push(list, Expected::Peers { ask, send: Box::new(send) });
                }
                _ => self.mesh(send),
            },
        }
    }

    pub(super) fn mesh(&mut self, send: MeshSend) {
        let told = MeshTold { from: Text(self.node.clone()), ask: send.ask, message: send.message };
        self.shout(send.to.as_ref().map(|to| to.0.as_str()), &Shout::Mesh(told));
    }

    pub(super) fn shout(&mut self, to: Option<&str>, shout: &Shout) {
        let channel = to.map_or_else(|| self.names.shout(), |to| self.names.shout_to(to));
        let mut publish = cmd("PUBLISH");
        publish.arg(channel).arg(serde_json::to_vec(shout).expect("shouts are JSON"));
        self.batch.push(publish, Expected::Nothing);
    }

    fn adding(&mut self, namespace: &str) -> Adding<'_> {
        self.batch.script(namespace, &self.names.base(namespace), &self.heading)
    }

    /// The script call for a session of this node; `None`: it has none such.
    fn adding_to(&mut self, pid: &Pid) -> Option<Adding<'_>> {
        let held = self.held.get(pid)?;
        let base = self.names.base(&held.namespace);
        Some(self.batch.script(&held.namespace, &base, &self.heading))
    }

    fn command(&mut self, now: Instant, command: Command) {
        self.has_attached |=
            matches!(command, Command::Attach { .. } | Command::Room(RoomCommand::Hold { .. }));
        if !self.has_attached {
            return;
        }
        match command {
            Command::Attach { namespace, known, window_ms } => {
                let retained_ms = window_ms.saturating_add(ms(RETAINED_BESIDES));
                let mark = self.marks.get(&namespace).cloned();
                let was_there = self.ups > 1;
                let known = known.map(|known| known.0);
                self.adding(&namespace).attach(known, mark.as_ref(), retained_ms, fresh_epoch(), was_there);
            }
            Command::Read { namespace, after } => self.adding(&namespace).read(after),
            // This store is never built up again out of what nodes hold.
            Command::Restore { .. } => {}
            Command::Publish { seq, relay } => self.adding(&relay.namespace).publish(seq, &relay),
            Command::Own { seq, pid, generation, packet, attachments } => match self.adding_to(&pid) {
                Some(adding) => adding.own(&pid, generation, seq, &packet, &attachments),
                None => self.tell(FromBackplane::Told(Told::Disowned { seq })),
            },
            Command::Open { session }
                if self.held.len() >= self.sessions_max && !self.held.contains_key(&session.pid) =>
            {
                self.tell(FromBackplane::Told(Told::NotKept { pid: session.pid }));
            }
            Command::Open { session } => {
                self.held.insert(session.pid.clone(), Held::of(&session, now));
                self.adding(&session.namespace).open(&session);
            }
            Command::Update { pid, generation, groups, data } => {
                if let Some(adding) = self.adding_to(&pid) {
                    adding.update(pid, generation, &groups, &data);
                }
            }
            Command::Touch { sessions } => {
                for (pid, generation, safe) in sessions {
                    if let Some(held) = self.held.get_mut(&pid).filter(|held| held.generation == generation) {
                        (held.away_at, held.renewed_at) = (None, now);
                    }
                    if let Some(adding) = self.adding_to(&pid) {
                        adding.touch(pid, generation, &safe);
                    }
                }
            }
            Command::Away { pid, generation } => {
                if let Some(held) = self.held.get_mut(&pid).filter(|held| held.generation == generation) {
                    held.away_at.get_or_insert(now);
                }
                if let Some(adding) = self.adding_to(&pid) {
                    adding.away(pid, generation);
                }
            }
            Command::Close { pid, generation } => self.close(&pid, generation),
            Command::Take { ask, namespace, pid } => self.adding(&namespace).take(ask, pid),
            Command::Room(command) => self.room_command(now, command),
        }
    }

    fn close(&mut self, pid: &Pid, generation: u64) {
        let is_held = self.held.get(pid).is_some_and(|held| held.generation == generation);
        if let Some(adding) = self.adding_to(pid) {
            adding.close(pid.clone(), generation);
        }
        if is_held {
            self.held.remove(pid);
        }
    }

    fn nodes_call(&self, what: &str) -> Cmd {
        super::nodes_call(&self.names, &self.nodes_script, what, &self.heading.node, self.heading.dead_ms)
    }

    /// Says that this node is there, and keeps what it holds from running out.
    pub(super) fn beat(&mut self, now: Instant) {
        let was_there = self.ups > 1;
        let namespaces: Vec<String> = self.follows.keys().cloned().collect();
        for namespace in namespaces {
            self.adding(&namespace).beat(was_there);
        }
        self.beat_rooms(now);
        let beat = self.nodes_call("beat");
        self.batch.push(beat, Expected::Nothing);
        self.held.retain(|_, held| {
            held.away_at.is_none_or(|away_at| now.duration_since(away_at) <= held.window * 2)
        });
        let mut renewed = Vec::new();
        for (pid, held) in &mut self.held {
            if held.away_at.is_none() && now.duration_since(held.renewed_at) > RENEWED_EVERY {
                held.renewed_at = now;
                renewed.push((pid.clone(), held.generation));
            }
        }
        for (pid, generation) in renewed {
            if let Some(adding) = self.adding_to(&pid) {
                adding.renew(pid, generation);
            }
        }
    }

    /// All that is to be sent now.
    pub(super) fn take_batch(&mut self, is_reading: bool) -> Option<(Pipeline, Vec<Expected>)> {
        if is_reading && self.has_news && !self.is_unblocked {
            let mut unblock = cmd("CLIENT");
            unblock.arg("UNBLOCK").arg(self.reader_id);
            self.batch.push(unblock, Expected::Unblocked);
        }
        if self.batch.is_empty() {
            return None;
        }
        let (pipeline, expected) = self.batch.take();
        for each in &expected {
            if let Expected::Script { namespace, answers } = each
                && let Some(follow) = self.follows.get_mut(namespace)
            {
                follow.is_asked = answers.iter().any(super::batch::Expect::has_a_place);
            }
        }
        Some((pipeline, expected))
    }

    /// The logs to read, each after an offset; none: there is nothing to read.
    pub(super) fn begin_read(&mut self) -> Vec<(String, u64)> {
        if self.follows.is_empty() {
            return Vec::new();
        }
        self.reads += 1;
        (self.has_news, self.is_unblocked) = (false, false);
        self.follows.iter().map(|(namespace, follow)| (self.names.log(namespace), follow.read)).collect()
    }

    /// Takes in what a read has brought.
    pub(super) fn handle_read(&mut self, read: Value) -> Result<(), String> {
        if matches!(read, Value::Nil) {
            return Ok(());
        }
        let odd = |odd: Odd| odd.to_string();
        for log in replies::array(read, "what was read").map_err(odd)? {
            let [key, entries] = <[Value; 2]>::try_from(replies::array(log, "a log").map_err(odd)?)
                .map_err(|_| odd(Odd::Shape("a log")))?;
            let key = replies::text(key, "a log's key").map_err(odd)?;
            let Some(namespace) = self.by_log.get(&key) else { continue };
            let Some(follow) = self.follows.get_mut(namespace) else { continue };
            if follow.since_read > self.reads {
                continue;
            }
            let (mut count, before) = (0, follow.held_bytes);
            for each in replies::array(entries, "events").map_err(odd)? {
                let (epoch, header, event) = replies::entry(each).map_err(odd)?;
                let offset = event.offset;
                count += 1;
                let is_new = follow.take_in(epoch, event).map_err(|unfit| format!("{unfit}: {namespace}"))?;
                if is_new {
                    self.marks.insert(namespace.clone(), Mark { epoch, offset, header });
                }
            }
            let bytes = follow.held_bytes - before;
            if let Some(count) = (READ_BYTES * count).checked_div(bytes) {
                self.read_max = count.clamp(1, READ_MAX);
            }
            let from = &self.from;
            follow.release(|told| from.tell(FromBackplane::Told(told)));
        }
        Ok(())
    }

    /// Hears what another node shouts.
    pub(super) fn handle_shout(&mut self, bytes: &[u8]) -> Result<(), String> {
        // What a later version may shout is none of this one's concern.
        let Ok(shout) = serde_json::from_slice(bytes) else { return Ok(()) };
        match shout {
            Shout::Mesh(told) if told.from.0 != self.node => {
                self.pass_on(FromBackplane::Mesh(told), bytes.len());
            }
            Shout::Deliver { from, relay } if from.0 != self.node => {
                self.pass_on(FromBackplane::Deliver(relay), bytes.len());
            }
            Shout::Mesh(_) | Shout::Deliver { .. } => {}
            Shout::Fenced { pid, generation } => self.fence(pid, generation),
            Shout::Anew { namespace, epoch } => {
                let is_behind = self.follows.get(&namespace).is_some_and(|follow| {
                    u64::from_str_radix(&epoch, 16).is_ok_and(|epoch| epoch != follow.epoch)
                });
                if is_behind {
                    return Err(format!("the history of {namespace} began anew"));
                }
            }
        }
        Ok(())
    }

    /// Tells the node that a session is another's now, where it does not know.
    pub(super) fn fence(&mut self, pid: Pid, generation: u64) {
        if self.held.get(&pid).is_some_and(|held| held.generation < generation) {
            self.held.remove(&pid);
            self.tell(FromBackplane::Told(Told::Fenced { pid, generation }));
        }
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no log had before. 0 is no log's.
fn fresh_epoch() -> u64 {
    getrandom::u64().expect("the system has random bytes once it has booted").max(1)
}
