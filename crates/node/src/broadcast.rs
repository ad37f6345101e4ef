//! Whom an event goes to, put together step by step, and the sending of it.
//! Never encodes an event twice: all receivers share its bytes.

use std::rc::Rc;

use greenroom_socketio::packet::{Draft, EncodeError};
use serde::Serialize;

use crate::namespace::Namespace;
use crate::session::Urgency;
use crate::socket::Socket;
use crate::state::NodeState;

/// An event for many in the making. Without [`Self::to`] it reaches the whole namespace. On a mesh node it reaches the
/// other nodes of the fleet on this host too, unless it is [`Self::local`].
#[derive(Clone)]
#[must_use]
pub struct Broadcast {
    state: Rc<NodeState>,
    namespace: Rc<Namespace>,
    groups: Vec<String>,
    except: Vec<String>,
    urgency: Urgency,
    is_local: bool,
}

impl Broadcast {
    pub(crate) fn new(state: &Rc<NodeState>, namespace: &Rc<Namespace>) -> Self {
        Self {
            state: Rc::clone(state),
            namespace: Rc::clone(namespace),
            groups: Vec::new(),
            except: Vec::new(),
            urgency: Urgency::Reliable,
            is_local: false,
        }
    }

    /// Reaches this group too; a socket in several gets the event once. A socket's id is a group.
    pub fn to(mut self, group: impl Into<String>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// The same as [`Self::to`].
    pub fn within(self, group: impl Into<String>) -> Self {
        self.to(group)
    }

    /// Leaves this group out. A socket's id is a group.
    pub fn except(mut self, group: impl Into<String>) -> Self {
        self.except.push(group.into());
        self
    }

    /// Leaves out those whose connection cannot take more right now.
    pub fn volatile(mut self) -> Self {
        self.urgency = Urgency::Volatile;
        self
    }

    /// Reaches the sockets of this node alone.
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Sends an event with one argument. An argument that has no JSON form is a fault of the program: it is logged
    /// and counted, nothing is sent.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.send(Draft::event(event).and_then(|draft| draft.arg(argument)));
    }

    /// Sends what a draft holds: no argument or several, raw JSON, bytes; [`crate::Event::forward`] gives one too.
    pub fn emit_draft(&self, draft: &Draft) {
        self.send(Ok(draft.clone()));
    }

    /// Sends the arguments of a client's event on as they came, without looking into them.
    pub fn forward(&self, name: &str, event: &crate::Event) {
        self.send(event.forward(name));
    }

    /// The sockets of this node that it would reach.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        self.namespace.select(&self.groups, &self.except)
    }

    /// Puts the sockets of this node that it would reach into a group.
    pub fn join(&self, group: &str) {
        self.sockets().iter().for_each(|socket| socket.join(group));
    }

    /// Takes the sockets of this node that it would reach out of a group.
    pub fn leave(&self, group: &str) {
        self.sockets().iter().for_each(|socket| socket.leave(group));
    }

    /// Disconnects the sockets of this node that it would reach.
    pub fn disconnect(&self) {
        self.sockets().iter().for_each(Socket::disconnect);
    }

    fn send(&self, draft: Result<Draft, EncodeError>) {
        let prepared = match draft.and_then(|draft| draft.prepare(&self.namespace.name, None)) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.state.counting.emit_faults_total.one();
                tracing::error!(%error, "an event cannot be sent");
                return;
            }
        };
        self.namespace.deliver(&prepared, &self.groups, &self.except, self.urgency);
        if !self.is_local
            && self.state.rooms.is_none()
            && let Some(link) = &self.state.link
        {
            link.publish(&self.state, &self.namespace.name, &self.groups, &self.except, &prepared);
        }
    }
}
