//! The other nodes of the mesh, by whichever way there is: the host's agent, a Redis that several hosts share, or a cluster with
//! Node.js servers.
//! Never waits for them: a word that cannot leave now is counted and gone.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenroom_backplane::way::{FromBackplane, Inbox, ToBackplane, Way};
use greenroom_socketio::packet::Prepared;
use greenroom_wire::backplane::Command;
use greenroom_wire::link::MeshSend;
use tokio::sync::mpsc::UnboundedSender;

use crate::cluster::Cluster;
use crate::link::{deliver, relay};
use crate::mesh::{self, Mesh};
use crate::session::Urgency;
use crate::state::NodeState;

/// The way to a store that several hosts share.
struct Store {
    to: UnboundedSender<ToBackplane>,
    from: RefCell<Option<Inbox>>,
    is_up: Cell<bool>,
}

/// What a node has of the others.
pub(crate) struct Peers {
    store: Option<Store>,
    pub(crate) cluster: Option<Cluster>,
    has_link: bool,
    /// The questions that wait for answers.
    pub(crate) mesh: Mesh,
}

impl Peers {
    pub(crate) fn new(store: Option<Way>, cluster: Option<Cluster>, has_link: bool) -> Self {
        let store = store.map(|Way { to, from }| Store {
            to,
            from: RefCell::new(Some(from)),
            is_up: Cell::new(false),
        });
        Self { store, cluster, has_link, mesh: Mesh::default() }
    }

    /// Whether there may be others.
    pub(crate) fn are_there(&self) -> bool {
        self.has_link || self.store.is_some() || self.cluster.is_some()
    }

    /// Whether they are reached by a store.
    pub(crate) fn are_by_store(&self) -> bool {
        self.store.is_some()
    }

    /// Whether the way to the store or the cluster is closed, where there is one.
    pub(crate) fn is_store_down(&self) -> bool {
        self.store.as_ref().is_some_and(|store| !store.is_up.get())
            || self.cluster.as_ref().is_some_and(|cluster| !cluster.is_up())
    }

    /// Somebody comes to this namespace.
    pub(crate) fn entered(&self, namespace: &str) {
        if let Some(cluster) = &self.cluster {
            cluster.entered(namespace);
        }
    }

    /// A namespace has ended.
    pub(crate) fn left(&self, namespace: &str) {
        if let Some(cluster) = &self.cluster {
            cluster.left(namespace);
        }
    }

    /// Gives a command to the store. What the way loses is given again once it is open.
    pub(crate) fn command(&self, command: Command) {
        if let Some(store) = &self.store {
            store.send(ToBackplane::Command(command));
        }
    }

    /// Hands a word on to other nodes. The answer says whether it is on its way.
    pub(crate) fn tell(&self, state: &NodeState, send: MeshSend) -> bool {
        if let Some(cluster) = &self.cluster {
            return count(state, cluster.tell(state, send));
        }
        match (&self.store, &state.link) {
            (Some(store), _) => count(state, store.send(ToBackplane::Mesh(send))),
            (None, Some(link)) => link.tell(state, send),
            (None, None) => false,
        }
    }

    /// Hands a broadcast on, without a History.
    pub(crate) fn publish(
        &self,
        state: &NodeState,
        namespace: &str,
        groups: &[String],
        except: &[String],
        packet: &Prepared,
        urgency: Urgency,
    ) {
        if let Some(cluster) = &self.cluster {
            count(state, cluster.publish(namespace, groups, except, packet, urgency));
            return;
        }
        match (&self.store, &state.link) {
            (Some(store), _) => {
                let relay = relay(namespace, groups, except, packet);
                count(state, store.send(ToBackplane::Publish(relay)));
            }
            (None, Some(link)) => link.publish(state, namespace, groups, except, packet),
            (None, None) => {}
        }
    }
}

impl Store {
    fn send(&self, word: ToBackplane) -> bool {
        self.is_up.get() && self.to.send(word).is_ok()
    }
}

fn count(state: &NodeState, is_sent: bool) -> bool {
    if is_sent {
        state.counting.published_total.one();
    } else {
        state.counting.publish_dropped_total.one();
    }
    is_sent
}

/// Takes in what the store's way brings, for ever.
pub(crate) async fn run(state: Rc<NodeState>) {
    let Some(store) = &state.peers.store else { return };
    let Some(mut from) = store.from.take() else { return };
    while let Some(word) = from.recv().await {
        // What the program does in its handlers must not end the way.
        if catch_unwind(AssertUnwindSafe(|| handle(&state, store, word))).is_err() {
            state.counting.handler_panics_total.one();
            tracing::error!("a handler panicked over a word from another node");
        }
    }
}

fn handle(state: &Rc<NodeState>, store: &Store, word: FromBackplane) {
    match word {
        FromBackplane::Up => {
            tracing::info!("the store can be reached");
            store.is_up.set(true);
            if let Some(recovery) = &state.recovery {
                recovery.handle_up(state);
            }
        }
        FromBackplane::Down { why } => {
            tracing::warn!(why, "the store cannot be reached");
            store.is_up.set(false);
            if let Some(recovery) = &state.recovery {
                recovery.handle_down();
            }
        }
        FromBackplane::Told(told) => {
            if let Some(recovery) = &state.recovery {
                recovery.handle(state, told);
            }
        }
        FromBackplane::Mesh(told) => {
            state.counting.delivered_total.one();
            mesh::handle(state, told);
        }
        FromBackplane::Asked { ask, peers } => {
            state.peers.mesh.handle_asked(ask, peers.iter().map(ToString::to_string));
        }
        FromBackplane::Deliver(relay) => deliver(state, &relay),
        FromBackplane::Dropped { words } => {
            tracing::warn!(words, "words of other nodes were dropped: this node takes them in too slowly");
        }
    }
}
