//! One live namespace: its sockets and their groups.
//! Never decides who may enter.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use greenroom_socketio::SocketId;
use greenroom_socketio::packet::{AckId, Prepared};
use slab::Slab;

use crate::groups::Groups;
use crate::handlers::{GroupChange, GroupStep, Handlers};
use crate::namespaces::Parent;
use crate::session::Urgency;
use crate::socket::Socket;

pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) handlers: Rc<Handlers>,
    /// The rule that made it; none for one that was named before the start.
    pub(crate) parent: Option<Rc<Parent>>,
    /// Sockets that wait for the verdict of a middleware.
    pub(crate) asking: Cell<usize>,
    next_ack: Cell<u64>,
    sockets: RefCell<Slab<Socket>>,
    by_id: RefCell<HashMap<SocketId, u32>>,
    groups: RefCell<Groups>,
}

impl Namespace {
    pub(crate) fn new(name: String, handlers: Rc<Handlers>, parent: Option<Rc<Parent>>) -> Self {
        Self {
            name,
            handlers,
            parent,
            asking: Cell::new(0),
            next_ack: Cell::new(0),
            sockets: RefCell::default(),
            by_id: RefCell::default(),
            groups: RefCell::default(),
        }
    }

    /// An ack id that no other event of this namespace has.
    pub(crate) fn next_ack_id(&self) -> AckId {
        let number = self.next_ack.get();
        self.next_ack.set(number + 1);
        AckId::new(number).expect("nobody counts to 2^53 in the life of a process")
    }

    /// Whether nobody is in it and nobody asks for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.asking.get() == 0 && self.sockets.borrow().is_empty()
    }

    pub(crate) fn add(&self, socket: &Socket) {
        let slot = self.sockets.borrow_mut().insert(socket.clone());
        let slot = u32::try_from(slot).expect("a process has fewer sockets than descriptors");
        socket.set_slot(Some(slot));
        self.by_id.borrow_mut().insert(socket.id(), slot);
    }

    pub(crate) fn remove(&self, socket: &Socket) {
        let Some(slot) = socket.set_slot(None) else { return };
        self.sockets.borrow_mut().remove(slot as usize);
        self.by_id.borrow_mut().remove(&socket.id());
        for group in socket.take_groups() {
            self.leave(&group, slot, socket.id());
        }
    }

    pub(crate) fn join(&self, group: &str, slot: u32) -> Option<Rc<str>> {
        self.groups.borrow_mut().join(group, slot)
    }

    pub(crate) fn leave(&self, group: &str, slot: u32, id: SocketId) {
        let has_ended = self.groups.borrow_mut().leave(group, slot);
        self.tell_group(group, GroupStep::Left(id));
        if has_ended {
            self.tell_group(group, GroupStep::Ended);
        }
    }

    /// The socket knows of its group by now.
    pub(crate) fn tell_joined(&self, group: &str, id: SocketId) {
        if self.handlers.on_group.is_some() {
            let is_first = self.groups.borrow().members(group).is_some_and(|members| members.len() == 1);
            if is_first {
                self.tell_group(group, GroupStep::Began);
            }
            self.tell_group(group, GroupStep::Joined(id));
        }
    }

    fn tell_group(&self, group: &str, step: GroupStep) {
        if let Some(on_group) = &self.handlers.on_group {
            on_group(&GroupChange { namespace: &self.name, group, step });
        }
    }

    /// Queues a packet for everybody in `groups` (all, where it is empty) but not in `except`; each once.
    pub(crate) fn deliver(&self, packet: &Prepared, groups: &[String], except: &[String], urgency: Urgency) {
        if self.handlers.on_any_outgoing.is_empty() && !self.handlers.is_watched {
            self.visit(groups, except, |socket| socket.send_prepared(packet, urgency));
        } else {
            // A listener may come back to this namespace.
            self.select(groups, except).iter().for_each(|socket| socket.send_event(packet, urgency));
        }
    }

    /// The sockets that a broadcast would reach.
    pub(crate) fn select(&self, groups: &[String], except: &[String]) -> Vec<Socket> {
        let mut selected = Vec::new();
        self.visit(groups, except, |socket| selected.push(socket.clone()));
        selected
    }

    /// Calls `visit` with each socket of a broadcast. It must not come back to this namespace.
    fn visit(&self, to: &[String], except: &[String], mut visit: impl FnMut(&Socket)) {
        let (sockets, groups) = (self.sockets.borrow(), self.groups.borrow());
        let left_out = self.slots_of(&groups, except);
        let mut pass = |slot: u32| {
            if (left_out.is_empty() || !left_out.contains(&slot))
                && let Some(socket) = sockets.get(slot as usize)
            {
                visit(socket);
            }
        };
        match to {
            [] => sockets.iter().for_each(|(slot, _)| pass(u32::try_from(slot).unwrap_or(u32::MAX))),
            [only] => match groups.members(only) {
                Some(members) => members.iter().for_each(|slot| pass(*slot)),
                None => self.slot_of_id(only).into_iter().for_each(pass),
            },
            several => self.slots_of(&groups, several).into_iter().for_each(pass),
        }
    }

    fn slots_of(&self, groups: &Groups, names: &[String]) -> BTreeSet<u32> {
        let mut slots = BTreeSet::new();
        for name in names {
            match groups.members(name) {
                Some(members) => slots.extend(members),
                None => slots.extend(self.slot_of_id(name)),
            }
        }
        slots
    }

    /// Every socket is alone in the group of its own id, which costs no entry in the index.
    fn slot_of_id(&self, name: &str) -> Option<u32> {
        self.by_id.borrow().get(&name.parse().ok()?).copied()
    }
}
