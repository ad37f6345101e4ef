//! A namespace: its handlers, its sockets and their groups.
//! Never a dynamic one: all are named before the node starts.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use greenroom_socketio::SocketId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::Prepared;
use slab::Slab;

use crate::event::Event;
use crate::groups::Groups;
use crate::handshake::{ConnectRequest, Refusal};
use crate::session::Urgency;
use crate::socket::Socket;

type Middleware = Box<dyn Fn(&Socket, &ConnectRequest<'_>) -> Result<(), Refusal>>;
type OnConnect = Box<dyn Fn(&Socket)>;
type OnEvent = Box<dyn Fn(&Socket, Event)>;
type OnAny = Box<dyn Fn(&Socket, &Event)>;
type OnDisconnect = Box<dyn Fn(&Socket, DisconnectReason)>;

/// What a program does in one namespace: registered once for all its sockets, before the node starts. Handlers run on
/// the node's thread and must not block; those of one socket run in the order of its events.
#[derive(Default)]
pub struct Handlers {
    pub(crate) middlewares: Vec<Middleware>,
    pub(crate) on_connect: Option<OnConnect>,
    pub(crate) events: HashMap<String, OnEvent>,
    pub(crate) on_any: Vec<OnAny>,
    pub(crate) on_disconnect: Option<OnDisconnect>,
}

impl Handlers {
    /// Judges who connects, before the socket exists for others: a refusal reaches the client as `connect_error`.
    /// Several run in the order of their registration. Data set on the socket here stays.
    pub fn middleware(
        &mut self,
        judge: impl Fn(&Socket, &ConnectRequest<'_>) -> Result<(), Refusal> + 'static,
    ) -> &mut Self {
        self.middlewares.push(Box::new(judge));
        self
    }

    /// Called for each socket once it is connected; what it emits arrives after the client's `connect`.
    /// A second registration replaces the first.
    pub fn on_connect(&mut self, handler: impl Fn(&Socket) + 'static) -> &mut Self {
        self.on_connect = Some(Box::new(handler));
        self
    }

    /// Called for each event of this name. A second registration of the name replaces the first.
    pub fn on(&mut self, event: &str, handler: impl Fn(&Socket, Event) + 'static) -> &mut Self {
        self.events.insert(event.to_owned(), Box::new(handler));
        self
    }

    /// Called for every event, before its own handler. All registrations count.
    pub fn on_any(&mut self, handler: impl Fn(&Socket, &Event) + 'static) -> &mut Self {
        self.on_any.push(Box::new(handler));
        self
    }

    /// Called once for each socket that was connected. It is still in its groups, but emits to it go nowhere.
    /// A second registration replaces the first.
    pub fn on_disconnect(&mut self, handler: impl Fn(&Socket, DisconnectReason) + 'static) -> &mut Self {
        self.on_disconnect = Some(Box::new(handler));
        self
    }
}

pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) handlers: Handlers,
    sockets: RefCell<Slab<Socket>>,
    by_id: RefCell<HashMap<SocketId, u32>>,
    groups: RefCell<Groups>,
}

impl Namespace {
    pub(crate) fn new(name: String, handlers: Handlers) -> Self {
        Self {
            name,
            handlers,
            sockets: RefCell::default(),
            by_id: RefCell::default(),
            groups: RefCell::default(),
        }
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
        let mut groups = self.groups.borrow_mut();
        for group in socket.take_groups() {
            groups.leave(&group, slot);
        }
    }

    pub(crate) fn join(&self, group: &str, slot: u32) -> Option<std::rc::Rc<str>> {
        self.groups.borrow_mut().join(group, slot)
    }

    pub(crate) fn leave(&self, group: &str, slot: u32) {
        self.groups.borrow_mut().leave(group, slot);
    }

    /// Queues a packet for everybody in `groups` (all, where it is empty) but not in `except`; each once.
    pub(crate) fn deliver(&self, packet: &Prepared, groups: &[String], except: &[String], urgency: Urgency) {
        self.visit(groups, except, |socket| socket.send_prepared(packet, urgency));
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
