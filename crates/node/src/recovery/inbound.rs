//! What the backplane says: events for sockets and tail, in order, and who holds which session.
//! Never hands on what came early: a gap is read first.

use std::rc::Rc;

use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::{Command, Logged, Position, Told};

use super::tail::{Tail, TailEvent};
use super::{Pending, Recovery, with_place};
use crate::link::read_draft;
use crate::session::Urgency;
use crate::socket::WeakSocket;
use crate::state::NodeState;

/// Bytes of events in one message to a backplane that has lost a History.
const RESTORE_BYTES: usize = 256 * 1024;

impl Recovery {
    /// Takes in what the backplane says.
    pub(crate) fn handle(&self, state: &Rc<NodeState>, told: Told) {
        match told {
            Told::Room(told) => {
                if let Some(rooms) = &state.rooms {
                    rooms.handle_told(state, told);
                }
            }
            Told::Attached { namespace, epoch, head, floor } => {
                self.handle_attached(state, namespace, epoch, head, floor);
            }
            Told::Page { namespace, epoch, floor, events } => {
                self.handle_page(state, namespace, epoch, floor, events);
            }
            Told::Wanted { namespace } => self.restore(state, &namespace),
            Told::Event { epoch, event } => self.handle_event(state, epoch, event),
            Told::Owned { seq, position } => self.handle_owned(seq, position.0),
            Told::Disowned { seq } => {
                if let Some(Pending::ForOne { socket, generation, packet, .. }) = self.take_pending(seq) {
                    self.fence(&socket, generation + 1);
                    self.send_unkept(&socket, &packet);
                }
            }
            Told::NotKept { pid } => {
                let socket = self.sessions.borrow_mut().remove(&pid).and_then(|socket| socket.upgrade());
                if let Some(socket) = socket {
                    state.counting.sessions_not_kept_total.one();
                    socket.set_held(None);
                }
            }
            Told::Taken { ask, session, head } => {
                if let Some(asking) = self.asks.borrow_mut().remove(&ask) {
                    // Whoever asked may have given up; the session stays with this node until its window is over.
                    let _gone = asking.send((session, head));
                }
            }
            Told::Fenced { pid, generation } => {
                let socket = self.sessions.borrow().get(&pid).cloned();
                if let Some(socket) = socket {
                    self.fence(&socket, generation);
                }
            }
        }
    }

    fn handle_attached(&self, state: &NodeState, namespace: String, epoch: u64, head: u64, floor: u64) {
        let (is_first, is_behind, has_missed, next) = {
            let mut tails = self.tails.borrow_mut();
            let Some(tail) = tails.get_mut(&namespace) else { return };
            let is_first = tail.known().is_none();
            let is_behind = tail.handle_attached(epoch, head, floor);
            (is_first, is_behind, tail.skip_to(floor), tail.next())
        };
        // Whoever was let in before anything was known of the History may have missed some of it.
        self.forsake(state, &namespace, has_missed || is_first);
        if is_behind {
            self.send(state, Command::Read { namespace, after: next - 1 });
        }
    }

    /// Ends a connection whose session goes on elsewhere.
    fn fence(&self, socket: &WeakSocket, generation: u64) {
        if let Some(socket) = socket.upgrade()
            && socket.with_held(|held| held.generation < generation) == Some(true)
        {
            socket.hang_up(DisconnectReason::ForcedServerClose);
        }
    }

    /// An event that was to be kept, to a socket whose session is not: it arrives, or it is lost with the connection.
    fn send_unkept(&self, socket: &WeakSocket, packet: &Prepared) {
        if let Some(socket) = socket.upgrade()
            && socket.with_held(|_| ()).is_none()
        {
            socket.send_event(&self.unmistakable(packet, socket.namespace_name()), Urgency::Reliable);
        }
    }

    /// Sockets that have missed what nobody can tell any more begin anew, instead of going on with a gap.
    fn forsake(&self, state: &NodeState, namespace: &str, has_missed: bool) {
        let Some(namespace) = has_missed.then(|| state.namespaces.get(namespace)).flatten() else { return };
        for socket in namespace.select(&[], &[]) {
            if let Some(held) = socket.set_held(None) {
                self.sessions.borrow_mut().remove(&held.pid);
                self.send(state, Command::Close { pid: held.pid.clone(), generation: held.generation });
            }
            socket.close_transport();
        }
    }

    fn handle_page(&self, state: &NodeState, namespace: String, epoch: u64, floor: u64, events: Vec<Logged>) {
        let is_last = events.is_empty();
        let has_missed = {
            let mut tails = self.tails.borrow_mut();
            let Some(tail) = tails.get_mut(&namespace).filter(|tail| tail.is_of(epoch)) else { return };
            tail.is_reading = !is_last;
            tail.skip_to(floor)
        };
        self.forsake(state, &namespace, has_missed);
        for event in events {
            self.accept(state, epoch, event);
        }
        self.drain_early(state, epoch, &namespace);
        if !is_last {
            let after = self.tails.borrow().get(&namespace).map_or(0, |tail| tail.next() - 1);
            self.send(state, Command::Read { namespace, after });
        }
    }

    fn handle_event(&self, state: &NodeState, epoch: u64, event: Logged) {
        let namespace = event.relay.namespace.clone();
        let read_after = {
            let mut tails = self.tails.borrow_mut();
            let Some(tail) = tails.get_mut(&namespace).filter(|tail| tail.is_of(epoch)) else { return };
            if event.offset <= tail.next() {
                None
            } else {
                let after = (!std::mem::replace(&mut tail.is_reading, true)).then(|| tail.next() - 1);
                tail.keep_early(event.clone());
                Some(after)
            }
        };
        match read_after {
            None => {
                self.accept(state, epoch, event);
                self.drain_early(state, epoch, &namespace);
            }
            Some(Some(after)) => self.send(state, Command::Read { namespace, after }),
            Some(None) => {}
        }
    }

    fn drain_early(&self, state: &NodeState, epoch: u64, namespace: &str) {
        loop {
            let next = self.tails.borrow_mut().get_mut(namespace).and_then(Tail::take_early);
            match next {
                Some(event) => self.accept(state, epoch, event),
                None => return,
            }
        }
    }

    /// Takes in the next event: to the sockets, then into the tail.
    fn accept(&self, state: &NodeState, epoch: u64, event: Logged) {
        let relay = &event.relay;
        let is_new = match self.tails.borrow().get(&relay.namespace) {
            Some(tail) if tail.next() == event.offset => tail.is_new(&event),
            Some(_) | None => return,
        };
        let ours = (event.origin == self.node).then(|| self.take_pending(event.seq)).flatten();
        let packet = match ours {
            Some(Pending::ForMany { packet, .. }) => Some(packet),
            Some(Pending::ForOne { .. }) | None => read_draft(state, &relay.packet, &relay.attachments)
                .and_then(|draft| Ok(draft.prepare(&relay.namespace, None)?))
                .map_err(|error| tracing::warn!(%error, "an event of the backplane cannot be read"))
                .ok(),
        };
        let position = Position { epoch, offset: event.offset, n: 0 };
        let Some(packet) = packet.and_then(|packet| with_place(&packet, position)) else { return };
        if is_new && let Some(namespace) = state.namespaces.get(&relay.namespace) {
            state.counting.delivered_total.one();
            namespace.deliver(&packet, &relay.groups, &relay.except, Urgency::Reliable);
        }
        let due = {
            let mut tails = self.tails.borrow_mut();
            let Some(tail) = tails.get_mut(&event.relay.namespace) else { return };
            tail.append(TailEvent::new(event, packet));
            tail.take_early_own()
        };
        due.into_iter().for_each(|(position, seq)| self.handle_owned(seq, position));
    }

    /// Whether an event for one socket has its place behind others that its client must get first.
    fn is_early(&self, seq: u64, position: Position) -> bool {
        let namespace = match self.pending.borrow().get(&seq) {
            Some(Pending::ForOne { socket, .. }) => {
                socket.upgrade().map(|socket| socket.namespace_name().to_owned())
            }
            Some(Pending::ForMany { .. }) | None => None,
        };
        let mut tails = self.tails.borrow_mut();
        let tail = namespace.and_then(|namespace| tails.get_mut(&namespace));
        tail.is_some_and(|tail| tail.keep_early_own(position, seq))
    }

    fn handle_owned(&self, seq: u64, position: Position) {
        if self.is_early(seq, position) {
            return;
        }
        let Some(Pending::ForOne { socket, generation, packet, .. }) = self.take_pending(seq) else { return };
        let Some(socket) = socket.upgrade() else { return };
        if socket.with_held(|held| held.generation) != Some(generation) {
            return;
        }
        let Some(placed) = with_place(&packet, position) else { return };
        if let Some(tail) = self.tails.borrow_mut().get_mut(socket.namespace_name()) {
            tail.pass_own(position);
        }
        socket.with_held(|held| held.delivered(position, seq, packet));
        socket.send_event(&placed, Urgency::Reliable);
    }

    /// Tells the backplane all that this node holds of a History.
    fn restore(&self, state: &NodeState, namespace: &str) {
        let mut messages = Vec::new();
        if let Some(tail) = self.tails.borrow().get(namespace)
            && let Some(known) = tail.known()
        {
            let Position { epoch, offset: head, .. } = known;
            let mut events = Vec::new();
            let mut bytes = 0;
            let message = |events, is_last| Command::Restore {
                namespace: namespace.to_owned(),
                epoch,
                head,
                events,
                is_last,
            };
            for event in tail.events() {
                bytes += event.relay.packet.len();
                events.push(event.clone());
                if bytes > RESTORE_BYTES {
                    messages.push(message(std::mem::take(&mut events), false));
                    bytes = 0;
                }
            }
            messages.push(message(events, true));
        }
        messages.into_iter().for_each(|message| self.send(state, message));
    }
}
