//! The node's connections beneath the runtime: one epoll that holds them all, so that a connection at rest has no
//! task, no waker and no buffer, and whole batches are handled before anything is written.
//! Never knows what bytes mean: a fresh connection's go to `http`, a WebSocket's to `websocket`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::http::Fresh;
use crate::state::NodeState;
use crate::websocket;
use crate::wire::Wire;

/// Connections handled in one batch, before the rest of the node has its turn.
const BATCH: usize = 256;

/// What is waited for, of every connection.
const READABLE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP);

/// What tells that a connection ended, or half of it.
const ENDED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What stands behind a descriptor.
#[derive(Clone)]
enum Place {
    /// It has not sent its first request.
    Fresh(Rc<Fresh>),
    WebSocket(Rc<Wire>),
    /// Its request is being answered.
    Vacant,
}

/// Every connection that no runtime knows of, by its place.
pub(crate) struct Reactor {
    epoll: Rc<OwnedFd>,
    places: RefCell<Slab<Place>>,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        Ok(Self { epoll, places: RefCell::default() })
    }

    /// Waits for the first bytes of a connection. A kernel that cannot watch it drops it.
    pub(crate) fn add_fresh(&self, fresh: &Rc<Fresh>) -> io::Result<()> {
        let place = self.places.borrow_mut().insert(Place::Fresh(Rc::clone(fresh)));
        fresh.place.set(Some(place));
        self.add(fresh.channel.as_fd(), place)
    }

    /// Reads a WebSocket from now on: in the place that was reserved for it, which costs no system call, or in a new one.
    pub(crate) fn add_websocket(&self, wire: &Rc<Wire>, reserved: Option<usize>) -> io::Result<()> {
        let websocket = Place::WebSocket(Rc::clone(wire));
        if let Some(place) = reserved {
            self.places.borrow_mut()[place] = websocket;
            wire.place.set(Some(place));
            return Ok(());
        }
        let place = self.places.borrow_mut().insert(websocket);
        wire.place.set(Some(place));
        self.add(wire.as_fd(), place)
    }

    fn add(&self, descriptor: impl AsFd, place: usize) -> io::Result<()> {
        let added = epoll::add(&*self.epoll, descriptor, data(place), READABLE);
        if added.is_err() {
            self.places.borrow_mut().remove(place);
        }
        Ok(added?)
    }

    /// Lets go of what is in a place, and keeps the place.
    pub(crate) fn vacate(&self, place: usize) {
        self.places.borrow_mut()[place] = Place::Vacant;
    }

    /// Gives a vacant place up; its descriptor is no longer watched.
    pub(crate) fn release(&self, place: usize, descriptor: impl AsFd) {
        self.remove(descriptor, Some(place));
    }

    /// Forgets a fresh connection. Repeated calls do nothing.
    pub(crate) fn remove_fresh(&self, fresh: &Fresh) {
        self.remove(fresh.channel.as_fd(), fresh.place.take());
    }

    /// Forgets a WebSocket. Repeated calls do nothing.
    pub(crate) fn remove_websocket(&self, wire: &Wire) {
        self.remove(wire.as_fd(), wire.place.take());
    }

    fn remove(&self, descriptor: impl AsFd, place: Option<usize>) {
        let Some(place) = place else { return };
        // It fails for a descriptor that is not watched, which is what is wanted.
        let _unwatched = epoll::delete(&*self.epoll, descriptor);
        self.places.borrow_mut().remove(place);
    }

    /// Tells, or stops telling, when the kernel takes more of this connection's bytes.
    pub(crate) fn watch_writable(&self, wire: &Wire, is_watched: bool) -> io::Result<()> {
        let Some(place) = wire.place.get() else { return Ok(()) };
        let out = if is_watched { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&*self.epoll, wire.as_fd(), data(place), READABLE | out)?)
    }

    fn place(&self, event: &epoll::Event) -> Option<Place> {
        let place = usize::try_from(event.data.u64()).ok()?;
        self.places.borrow().get(place).cloned()
    }
}

/// Lets the runtime tell when a descriptor is ready.
#[expect(
    deprecated,
    reason = "the newer form is unsafe for types that may change their descriptor; those given here own theirs for life"
)]
pub(crate) fn watched<T: AsFd + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

fn data(place: usize) -> epoll::EventData {
    epoll::EventData::new_u64(place as u64)
}

/// Lets go of all connections with the node: each holds its session, which holds the node.
struct Emptying(Rc<NodeState>);

impl Drop for Emptying {
    fn drop(&mut self) {
        let places = self.0.reactor.places.take();
        for (_, place) in places {
            if let Place::WebSocket(wire) = place {
                wire.session.take();
            }
        }
    }
}

/// Handles what is ready, for ever.
pub(crate) async fn run(state: Rc<NodeState>) {
    let emptying = Emptying(state);
    let state = &emptying.0;
    let epoll = match watched(Rc::clone(&state.reactor.epoll), Interest::READABLE) {
        Ok(epoll) => epoll,
        Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
    };
    let mut events: Vec<epoll::Event> = Vec::with_capacity(BATCH);
    loop {
        let mut ready = match epoll.readable().await {
            Ok(ready) => ready,
            Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
        };
        events.clear();
        match epoll::wait(&*state.reactor.epoll, spare_capacity(&mut events), Some(&AT_ONCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
        }
        let has_more = state.in_batch(|| handle(state, &events));
        if has_more {
            tokio::task::yield_now().await;
        } else {
            // Whatever became ready since the wait wakes the runtime's own epoll again.
            ready.clear_ready();
        }
    }
}

/// The answer says whether more may be ready than was looked at.
fn handle(state: &Rc<NodeState>, events: &[epoll::Event]) -> bool {
    let mut has_more = events.len() == BATCH;
    for event in events {
        let flags = event.flags;
        match state.reactor.place(event) {
            None | Some(Place::Vacant) => {}
            Some(Place::Fresh(fresh)) => {
                // Under TLS a first read may leave something behind.
                has_more |= fresh.channel.is_secure() || flags.intersects(ENDED);
                fresh.handle_readable(state);
            }
            Some(Place::WebSocket(wire)) => {
                if flags.contains(epoll::EventFlags::OUT) {
                    websocket::handle_writable(state, &wire);
                }
                if flags.intersects(READABLE | ENDED) {
                    // The end stands behind the last bytes, and nothing wakes us for it once those were read.
                    has_more |= websocket::handle_readable(state, &wire) || flags.intersects(ENDED);
                }
            }
        }
    }
    has_more
}
