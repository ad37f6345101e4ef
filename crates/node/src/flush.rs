//! When the events of a namespace leave, and those that wait for their time.
//! Never holds an ack, a connect or a control packet: those leave at once, and take along what waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::NodeHandle;
use crate::session::Session;
use crate::state::NodeState;

/// When events without an ack leave. Fewer writes cost the node and its clients less: with 20 players in a room a few
/// milliseconds halve the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flush {
    /// At the end of the loop's turn.
    #[default]
    AtOnce,
    /// At most so long after the first that waits, by a timer of whole milliseconds.
    Every(Duration),
    /// When the program says [`NodeHandle::flush`], at the end of its game tick.
    OnTick,
}

/// Sessions whose events wait.
#[derive(Default)]
pub(crate) struct Held {
    until: Cell<Option<Instant>>,
    /// What `until` was set for.
    span: Cell<Duration>,
    timed: RefCell<Vec<Rc<Session>>>,
    ticked: RefCell<Vec<Rc<Session>>>,
    changed: Notify,
}

impl Held {
    /// Lets a session with something to write wait, unless it is about to be flushed or waits already.
    pub(crate) fn hold(&self, session: &Rc<Session>, flush: Flush) {
        match flush {
            Flush::AtOnce => session.state.mark_dirty(session),
            Flush::OnTick => hold_in(&self.ticked, session),
            Flush::Every(span) => {
                hold_in(&self.timed, session);
                // A span as long as the one that runs already ends later: no need to look at the clock.
                if self.until.get().is_none() || span < self.span.get() {
                    self.until.set(Some(Instant::now() + span));
                    self.span.set(span);
                    self.changed.notify_one();
                }
            }
        }
    }
}

fn hold_in(held: &RefCell<Vec<Rc<Session>>>, session: &Rc<Session>) {
    if !session.is_dirty.get() && !session.is_held.replace(true) {
        held.borrow_mut().push(Rc::clone(session));
    }
}

fn release(held: &RefCell<Vec<Rc<Session>>>) {
    let mut sessions = held.take();
    for session in sessions.drain(..) {
        session.is_held.set(false);
        session.flush();
    }
    let mut fresh = held.borrow_mut();
    if fresh.is_empty() {
        // Its room is kept for the next time.
        *fresh = sessions;
    }
}

/// Writes what waited long enough, for ever.
pub(crate) async fn run(state: Rc<NodeState>) {
    loop {
        let changed = state.held.changed.notified();
        let Some(until) = state.held.until.get() else {
            changed.await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {
                state.held.until.set(None);
                release(&state.held.timed);
            }
            () = changed => {}
        }
    }
}

impl NodeHandle {
    /// Writes what waits in namespaces that flush [`Flush::OnTick`]. To be called at the end of each game tick; where
    /// nothing waits it does nothing.
    pub fn flush(&self) {
        release(&self.0.held.ticked);
    }
}
