//! A node as its backplane sees it, without sockets: attaches, gives, gives again, and writes down what it is told.
//! Never forgives: what a real node could not bear is a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Logged, NotRestored, Own, Pid, Position, SessionRecord, Told};
use greenroom_wire::kept::RoomTold;
use greenroom_wire::link::Relay;
use serde_json::json;
use tokio::time::timeout;

use crate::way::{FromBackplane, ToBackplane, Way};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node in one namespace.
#[derive(Debug)]
pub struct Peer {
    /// Its name.
    pub name: InstanceId,
    /// Its way, which a test may replace: the node is told so by the next [`FromBackplane::Up`].
    pub way: Way,
    namespace: String,
    window_ms: u64,
    seq: u64,
    asks: u64,
    /// What it was not told of, by its number.
    pub unanswered: BTreeMap<u64, Command>,
    /// The sessions it holds, as it would open them again.
    pub sessions: BTreeMap<Pid, SessionRecord>,
    /// The epoch and the last event that it knows.
    pub at: Option<(u64, u64)>,
    /// All events in the order that it knows, with their epochs.
    pub events: Vec<(u64, Logged)>,
    /// Own events as told: the number, the place, and the last event before, or the place's own while it catches up.
    pub owned: Vec<(u64, Position, u64)>,
    /// While it reads what it has missed: up to where.
    catching_up_to: u64,
    /// Own events that were not kept.
    pub disowned: Vec<u64>,
    /// Questions for sessions that were answered.
    pub taken: BTreeMap<u64, (Result<Box<SessionRecord>, NotRestored>, u64)>,
    /// Sessions lost to others.
    pub fenced: Vec<(Pid, u64)>,
    /// Sessions that there was no room for.
    pub not_kept: Vec<Pid>,
    /// What it was told of rooms, in order.
    pub rooms: Vec<RoomTold>,
    /// Everything else, in order.
    pub others: Vec<FromBackplane>,
    /// How often the way was opened.
    pub ups: u32,
    /// Why the way is closed.
    pub down: Option<String>,
    /// How often it was told to be attached.
    pub attached: u32,
    /// The last page.
    pub page: Option<(u64, Vec<Logged>)>,
}

impl Peer {
    /// A node that will attach as soon as its way is open.
    #[must_use]
    pub fn new(name: InstanceId, way: Way, namespace: &str, window_ms: u64) -> Self {
        Self {
            name,
            way,
            namespace: namespace.to_owned(),
            window_ms,
            seq: 0,
            asks: 0,
            unanswered: BTreeMap::new(),
            sessions: BTreeMap::new(),
            at: None,
            events: Vec::new(),
            owned: Vec::new(),
            catching_up_to: 0,
            disowned: Vec::new(),
            taken: BTreeMap::new(),
            fenced: vec![],
            not_kept: vec![],
            rooms: Vec::new(),
            others: Vec::new(),
            ups: 0,
            down: None,
            attached: 0,
            page: None,
        }
    }

    /// Says something.
    pub fn say(&self, command: Command) {
        let _is_there = self.way.to.send(ToBackplane::Command(command));
    }

    fn give(&mut self, command: impl FnOnce(u64) -> Command) -> u64 {
        self.seq += 1;
        let command = command(self.seq);
        self.unanswered.insert(self.seq, command.clone());
        self.say(command);
        self.seq
    }

    /// Publishes an event for many.
    pub fn publish(&mut self, text: &str) -> u64 {
        let relay = relay(&self.namespace, text);
        self.give(|seq| Command::Publish { seq, relay })
    }

    /// Gives an event for one socket alone.
    pub fn own(&mut self, pid: &Pid, generation: u64, text: &str) -> u64 {
        let (pid, packet) = (pid.clone(), format!("2[\"{text}\"]"));
        self.give(|seq| Command::Own { seq, pid, generation, packet, attachments: vec!["AAE=".into()] })
    }

    /// How many numbers it has given out.
    #[must_use]
    pub fn given(&self) -> usize {
        usize::try_from(self.seq).unwrap_or(usize::MAX)
    }

    /// A session as it begins here.
    #[must_use]
    pub fn session(&self, name: &str) -> SessionRecord {
        let (epoch, offset) = self.at.expect("a session begins after the node has attached");
        SessionRecord {
            pid: Pid::new(name),
            namespace: self.namespace.clone(),
            socket: format!("socket-of-{name}"),
            node: self.name.to_string(),
            generation: 1,
            groups: vec!["red".into()],
            data: json!({"color": "blue"}),
            window_ms: self.window_ms,
            safe: Text(Position { epoch, offset, n: 0 }),
            own: vec![],
            own_lost: None,
        }
    }

    /// Begins a session.
    pub fn open(&mut self, name: &str) -> Pid {
        let session = self.session(name);
        let pid = session.pid.clone();
        self.say(Command::Open { session: Box::new(session.clone()) });
        self.sessions.insert(pid.clone(), session);
        pid
    }

    /// Asks for a session and waits for the answer.
    pub async fn take(&mut self, pid: &Pid) -> Result<Box<SessionRecord>, NotRestored> {
        self.asks += 1;
        let ask = self.asks;
        self.say(Command::Take { ask, namespace: self.namespace.clone(), pid: pid.clone() });
        self.until("an answer to take", |peer| peer.taken.contains_key(&ask)).await;
        self.taken[&ask].0.clone()
    }

    /// Asks for a page and waits for it: what is gone, and the events.
    pub async fn read(&mut self, after: u64) -> (u64, Vec<Logged>) {
        self.page = None;
        self.say(Command::Read { namespace: self.namespace.clone(), after });
        self.until("a page", |peer| peer.page.is_some()).await;
        self.page.clone().expect("just waited for")
    }

    /// Listens until something is so.
    ///
    /// # Panics
    /// If it does not come to be so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let listening = async {
            while !is_so(self) {
                let told = self.way.from.recv().await.expect("the way ends with its node only");
                self.handle(told);
            }
        };
        if timeout(PATIENCE, listening).await.is_err() {
            panic!(
                "{}: waited in vain for {what}; at {:?}, {} unanswered, down {:?}",
                self.name,
                self.at,
                self.unanswered.len(),
                self.down
            );
        }
    }

    /// Takes in what has been told already.
    pub fn catch_up(&mut self) {
        while let Some(told) = self.way.from.try_recv() {
            self.handle(told);
        }
    }

    fn handle(&mut self, told: FromBackplane) {
        match told {
            FromBackplane::Up => {
                self.down = None;
                self.ups += 1;
                self.begin();
            }
            FromBackplane::Down { why } => self.down = Some(why),
            FromBackplane::Told(told) => self.told(told),
            FromBackplane::Mesh(_)
            | FromBackplane::Asked { .. }
            | FromBackplane::Deliver(_)
            | FromBackplane::Dropped { .. } => self.others.push(told),
        }
    }

    /// What a node does on every way anew.
    fn begin(&self) {
        let known = self.at.map(|(epoch, offset)| Text(Position { epoch, offset, n: 0 }));
        self.say(Command::Attach { namespace: self.namespace.clone(), known, window_ms: self.window_ms });
        for session in self.sessions.values() {
            self.say(Command::Open { session: Box::new(session.clone()) });
        }
        for command in self.unanswered.values() {
            self.say(command.clone());
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Attached { epoch, head, .. } => {
                self.attached += 1;
                match self.at {
                    Some((known, offset)) if known == epoch => {
                        if head > offset {
                            self.catching_up_to = head;
                            self.say(Command::Read { namespace: self.namespace.clone(), after: offset });
                        }
                    }
                    _ => self.at = Some((epoch, head)),
                }
            }
            Told::Event { epoch, event } => self.event(epoch, event),
            Told::Page { epoch, floor, events, .. } => {
                let asks_again = self.at.is_some_and(|(_, offset)| {
                    events.first().is_some_and(|first| first.offset <= offset + 1)
                        && events.last().is_some_and(|last| last.offset > offset)
                });
                self.page = Some((floor, events.clone()));
                if asks_again {
                    for event in events {
                        self.event(epoch, event);
                    }
                    let after = self.at.map_or(0, |(_, offset)| offset);
                    self.say(Command::Read { namespace: self.namespace.clone(), after });
                }
            }
            Told::Owned { seq, position } => self.kept(seq, position),
            Told::Disowned { seq } => {
                self.unanswered.remove(&seq);
                self.disowned.push(seq);
            }
            Told::Taken { ask, session, head } => {
                if let Ok(session) = &session {
                    self.sessions.insert(session.pid.clone(), (**session).clone());
                }
                self.taken.insert(ask, (session, head));
            }
            Told::Fenced { pid, generation } => {
                self.sessions.remove(&pid);
                self.fenced.push((pid, generation));
            }
            Told::NotKept { pid } => {
                self.sessions.remove(&pid);
                self.not_kept.push(pid);
            }
            Told::Room(told) => self.rooms.push(told),
            Told::Wanted { namespace } => {
                let (epoch, head) = self.at.expect("only who knows something is asked for it");
                let of_epoch = self.events.iter().filter(|(of, _)| *of == epoch);
                let events = of_epoch.map(|(_, event)| event.clone()).collect();
                self.say(Command::Restore { namespace, epoch, head, events, is_last: true });
            }
        }
    }

    fn event(&mut self, epoch: u64, event: Logged) {
        let (of, offset) = self.at.expect("events come after the node was attached");
        assert_eq!(of, epoch, "{}: an event of another epoch", self.name);
        if event.offset <= offset {
            // Of a page that overlaps.
            let known = self.events.iter().find(|(of, known)| *of == epoch && known.offset == event.offset);
            assert!(
                known.is_none_or(|(_, known)| *known == event),
                "{}: two events of one number",
                self.name
            );
            return;
        }
        // While pages are read, later events wait for them; here the pages bring them as well.
        if event.offset > offset + 1 {
            return;
        }
        self.at = Some((epoch, event.offset));
        if event.origin == self.name.as_str() {
            self.unanswered.remove(&event.seq);
        }
        self.events.push((epoch, event));
    }

    fn kept(&mut self, seq: u64, position: Text<Position>) {
        let (_, last) = self.at.expect("own events come after the node was attached");
        // A node that still reads pages puts own events where they belong.
        let last = if last < self.catching_up_to { position.offset } else { last };
        self.owned.push((seq, position.0, last));
        if let Some(Command::Own { pid, packet, attachments, .. }) = self.unanswered.remove(&seq)
            && let Some(session) = self.sessions.get_mut(&pid)
        {
            session.own.push(Own { position, seq, packet, attachments });
        }
    }
}

/// An event for everybody in a namespace.
#[must_use]
pub fn relay(namespace: &str, text: &str) -> Relay {
    Relay {
        namespace: namespace.to_owned(),
        groups: vec!["red".into()],
        except: vec![],
        packet: format!("2[\"{text}\"]"),
        attachments: vec![],
    }
}
