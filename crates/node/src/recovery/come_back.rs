//! A client that comes back: its session, what it has missed, and whether it may.
//! Never a part of what it missed: all of it, or a new session and the reason.

use greenroom_backplane::Missing;
use greenroom_socketio::SocketId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{Draft, Prepared};
use greenroom_wire::backplane::{Command, NotRestored, Own, Pid, Position, SessionRecord};
use serde::Deserialize;
use serde_json::{Value, json};

use super::held::Held;
use super::tail::Tail;
use super::{Recovery, with_place};
use crate::handshake::ConnectRequest;
use crate::link::read_draft;
use crate::session::Urgency;
use crate::socket::{Socket, WeakSocket};
use crate::state::NodeState;

/// What the stock client adds to `auth` when it comes back, and our own question beside it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    pid: Value,
    offset: Value,
    greenroom: Asked,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    recovery: bool,
}

/// A client's wish to go on.
#[derive(Default)]
pub(crate) struct Returning {
    pub(crate) pid: Option<Pid>,
    pub(crate) offset: Option<Position>,
    /// It sent an offset that is no place.
    pub(crate) is_lost: bool,
    /// It wants to be told how its recovery went.
    pub(crate) wants_word: bool,
}

impl Returning {
    pub(crate) fn read(request: &ConnectRequest) -> Self {
        let auth = request.auth::<Auth>().unwrap_or_default();
        let offset = auth.offset.as_str().and_then(|offset| offset.parse().ok());
        Self {
            is_lost: offset.is_none() && !auth.offset.is_null(),
            pid: auth.pid.as_str().map(Pid::new),
            // Any other text is an argument of an event that carried no place.
            offset,
            wants_word: auth.greenroom.recovery,
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.pid.is_some()
    }
}

/// How a socket begins.
pub(crate) enum Arrival {
    /// Anew; with the reason where it wanted to go on.
    Fresh(Option<NotRestored>),
    /// Where it was.
    Restored(Box<Restored>),
    /// Without a session: its namespace keeps none.
    Unkept,
}

/// A session that goes on.
pub(crate) struct Restored {
    pub(crate) pid: Pid,
    record: SessionRecord,
    missed: Vec<Prepared>,
    held: Box<Held>,
}

impl Recovery {
    /// Whether a namespace's positions are known now, so that a client can begin without waiting.
    pub(crate) fn is_ready(&self, state: &NodeState, namespace: &str) -> bool {
        self.is_attached(state, namespace)
    }

    /// Waits for what a client needs to begin or to go on. Takes at most the backplane's patience twice.
    pub(crate) async fn receive(&self, state: &NodeState, socket: &Socket, returning: &Returning) -> Arrival {
        let namespace = socket.namespace_name();
        if !self.is_attached(state, namespace) && !self.wait_for(namespace, 0).await {
            return Arrival::Fresh(returning.is_wanted().then_some(NotRestored::Unavailable));
        }
        let Some(pid) = &returning.pid else { return Arrival::Fresh(None) };
        match self.come_back(state, socket, pid, returning.offset).await {
            Ok(restored) => Arrival::Restored(restored),
            Err(why) => Arrival::Fresh(Some(why)),
        }
    }

    async fn wait_for(&self, namespace: &str, head: u64) -> bool {
        let waiting = self.tails.borrow_mut().get_mut(namespace).map(|tail| tail.wait_for(head));
        let Some(waiting) = waiting else { return false };
        matches!(tokio::time::timeout(self.config.patience, waiting).await, Ok(Ok(())))
    }

    async fn come_back(
        &self,
        state: &NodeState,
        socket: &Socket,
        pid: &Pid,
        offset: Option<Position>,
    ) -> Result<Box<Restored>, NotRestored> {
        let namespace = socket.namespace_name();
        // The connection before may not have been missed yet.
        let before = self.sessions.borrow().get(pid).and_then(WeakSocket::upgrade);
        if let Some(before) = before.filter(|before| before.namespace_name() == namespace) {
            before.hang_up(DisconnectReason::TransportClose);
        }
        let taken = self.ask(state, namespace, pid.clone()).await;
        let (session, head) = taken.ok_or(NotRestored::Unavailable)?;
        let record = *session?;
        if !self.wait_for(namespace, head).await {
            return Err(NotRestored::Unavailable);
        }
        let restored = self.rebuild(state, record, offset);
        if let Err((record, _)) = &restored {
            let (pid, generation) = (record.pid.clone(), record.generation);
            self.send(state, Command::Close { pid, generation });
        }
        restored.map_err(|(_, why)| why)
    }

    /// Puts together what a client has missed since `offset`, or since it was surely there.
    fn rebuild(
        &self,
        state: &NodeState,
        record: SessionRecord,
        offset: Option<Position>,
    ) -> Result<Box<Restored>, (Box<SessionRecord>, NotRestored)> {
        let tails = self.tails.borrow();
        let found = tails.get(&record.namespace).ok_or(NotRestored::Unavailable);
        let missed = found.and_then(|tail| missed(state, tail, &record, offset));
        let missed = match missed {
            Ok(missed) => missed,
            Err(why) => return Err((Box::new(record), why)),
        };
        let mut held = Held::new(record.pid.clone(), record.generation, record.safe.0);
        for own in &record.own {
            if let Some(packet) = read_own(state, &record.namespace, own) {
                held.delivered(own.position.0, own.seq, packet);
            }
        }
        Ok(Box::new(Restored { pid: record.pid.clone(), record, missed, held }))
    }

    /// What is due once a client has its connect reply: the word on its recovery, then its session.
    pub(crate) fn settle(
        &self,
        state: &NodeState,
        socket: &Socket,
        pid: &str,
        arrival: Arrival,
        wants_word: bool,
    ) {
        let why = match &arrival {
            Arrival::Fresh(why) => *why,
            Arrival::Restored(_) | Arrival::Unkept => None,
        };
        if wants_word {
            tell_word(socket, matches!(arrival, Arrival::Restored(_)), why);
        }
        match arrival {
            Arrival::Restored(restored) => {
                tracing::debug!(socket = %socket.id(), missed = restored.missed.len(), "session restored");
                state.counting.sessions_restored_total.one();
                self.resume(socket, *restored);
            }
            Arrival::Fresh(why) => {
                if let Some(why) = why {
                    tracing::debug!(socket = %socket.id(), why = why.as_str(), "session not restored");
                    state.counting.sessions_not_restored_total.one();
                }
                self.begin(state, socket, pid);
            }
            Arrival::Unkept => {}
        }
    }

    /// Makes a socket go on where its session was.
    fn resume(&self, socket: &Socket, restored: Restored) {
        let Restored { pid, record, missed, held } = restored;
        self.sessions.borrow_mut().insert(pid, socket.downgrade());
        if let (Some(own), Some(tail)) =
            (record.own.last(), self.tails.borrow_mut().get_mut(&record.namespace))
        {
            tail.pass_own(own.position.0);
        }
        for group in &record.groups {
            socket.join(group);
        }
        socket.set_held(Some(held));
        socket.set_recovered();
        socket.send_missed(&missed);
    }

    /// The program does not want a session back.
    pub(crate) fn give_up(&self, state: &NodeState, restored: &Restored) {
        let (pid, generation) = (restored.pid.clone(), restored.record.generation);
        self.send(state, Command::Close { pid, generation });
    }

    /// The client of a restored session went before it had its reply; it may come again.
    pub(crate) fn put_back(&self, state: &NodeState, restored: &Restored) {
        let (pid, generation) = (restored.pid.clone(), restored.record.generation);
        self.send(state, Command::Away { pid, generation });
    }
}

impl Restored {
    /// Gives a socket the id and the data of the session; its groups come with [`Recovery::resume`].
    pub(crate) fn dress(&self, socket: &Socket) {
        if let Ok(id) = self.record.socket.parse::<SocketId>() {
            socket.set_id(id);
        }
        socket.set_data(self.record.data.clone());
    }
}

/// Tells a client that asked how its recovery went. The word is no event of the History.
pub(crate) fn tell_word(socket: &Socket, recovered: bool, why: Option<NotRestored>) {
    let word = match why {
        Some(why) => json!({ "recovered": recovered, "reason": why.as_str() }),
        None => json!({ "recovered": recovered }),
    };
    let draft = Draft::event("greenroom:recovery").and_then(|draft| draft.arg(&word));
    if let Ok(packet) = draft.and_then(|draft| draft.prepare(socket.namespace_name(), None)) {
        socket.send_event(&packet, Urgency::Reliable);
    }
}

fn missed(
    state: &NodeState,
    tail: &Tail,
    record: &SessionRecord,
    offset: Option<Position>,
) -> Result<Vec<Prepared>, NotRestored> {
    let safe = record.safe.0;
    // A place of another session, which the stock client remembers too, lies before this one's beginning or in another
    // epoch.
    let start = offset.filter(|offset| offset.is_after(&safe)).unwrap_or(safe);
    if start.epoch != tail.place().epoch {
        return Err(NotRestored::Rewound);
    }
    if record.own_lost.as_ref().is_some_and(|lost| lost.is_after(&start)) {
        return Err(NotRestored::HistoryFull);
    }
    let for_many =
        tail.missed(start.offset, &record.socket, &record.groups).map_err(|missing| match missing {
            Missing::TooOld => NotRestored::WindowOver,
            Missing::Evicted => NotRestored::HistoryFull,
            Missing::Ahead => NotRestored::Rewound,
        })?;
    let own = record.own.iter().filter(|own| own.position.is_after(&start)).filter_map(|own| {
        let packet = with_place(&read_own(state, &record.namespace, own)?, own.position.0)?;
        Some(((own.position.offset, own.position.n), packet))
    });
    let mut all: Vec<((u64, u32), Prepared)> =
        for_many.into_iter().map(|(offset, packet)| ((offset, 0), packet)).chain(own).collect();
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, packet)| packet).collect())
}

fn read_own(state: &NodeState, namespace: &str, own: &Own) -> Option<Prepared> {
    let packet = read_draft(state, &own.packet, &own.attachments)
        .and_then(|draft| Ok(draft.prepare(namespace, None)?));
    packet.map_err(|error| tracing::warn!(%error, "an event of a session cannot be read")).ok()
}
