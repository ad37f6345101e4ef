//! One cluster of this node with Node.js servers: what the mesh says and asks, in the words of their adapter, and back.
//! Never waits for a server that does not listen, and never looks at how words travel: `greenroom_backplane::adapter` does.
//!
//! A question goes in two steps. Who listens is asked of the Redis first ([`Said::Who`]), by the channels that only one
//! server each listens to; those are waited for by name, and then the question is published. A server that dies stops
//! listening, so that the next question does not wait for it. How many listen is what the others count this node by: it
//! listens for each of its namespaces, and answers every question that it hears there.

mod answering;
mod asking;
#[cfg(all(test, feature = "redis"))]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenroom_backplane::adapter::{Heard, Mouth, Said, SaidWords};
use greenroom_socketio::adapter::{Entry, Names, Says, Word, WordError};
use greenroom_socketio::emitter::{Emitted, Target};
use greenroom_socketio::packet::{EncodeError, Packet, Prepared};
use greenroom_wire::link::{MeshMessage, MeshScope, MeshSend};

use crate::link::read_packet;
use crate::orders::{Rarely, carry_out};
use crate::session::Urgency;
use crate::state::{NodeState, random_u64};
use asking::Asking;

/// Why a word cannot be taken in or said. It is left out.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Word(#[from] WordError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The way to the other servers of a cluster.
pub(crate) struct Cluster {
    /// This node among them, for as long as it runs.
    server: String,
    names: Names,
    mouth: Mouth,
    words: RefCell<Option<SaidWords>>,
    is_up: Cell<bool>,
    /// The namespaces whose channels are heard, or asked to be.
    heard: RefCell<BTreeSet<String>>,
    asking: RefCell<BTreeMap<u64, Asking>>,
    rarely: Rarely,
}

impl Cluster {
    /// A way on which so many bytes may wait. It is closed until [`Self::handle`] hears otherwise.
    pub(crate) fn new(names: Names, bytes_max: usize) -> Self {
        let (mouth, words) = Mouth::new(bytes_max);
        Self {
            // As the npm package makes its own.
            server: format!("{:016x}", random_u64()),
            names,
            mouth,
            words: RefCell::new(Some(words)),
            is_up: Cell::new(false),
            heard: RefCell::default(),
            asking: RefCell::default(),
            rarely: Rarely::default(),
        }
    }

    /// The other end of the way, for whoever serves it; once.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a Redis serves it"))]
    pub(crate) fn take_words(&self) -> Option<SaidWords> {
        self.words.take()
    }

    /// Whether the others can be reached.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.get()
    }

    /// Somebody comes to this namespace: the others are to count this node there. A repeated call does nothing.
    pub(crate) fn entered(&self, namespace: &str) {
        if self.is_up.get() && !self.heard.borrow().contains(namespace) {
            self.heard.borrow_mut().insert(namespace.to_owned());
            self.say(Said::Subscribe { channels: self.channels(namespace).to_vec() });
        }
    }

    /// A namespace has ended.
    pub(crate) fn left(&self, namespace: &str) {
        if self.heard.borrow_mut().remove(namespace) {
            self.say(Said::Unsubscribe { channels: self.channels(namespace).to_vec() });
        }
    }

    fn channels(&self, namespace: &str) -> [String; 2] {
        [self.names.channel(namespace), self.names.channel_of(namespace, &self.server)]
    }

    fn say(&self, said: Said) -> bool {
        self.is_up.get() && self.mouth.say(said)
    }

    /// Says something to all others. The answer says whether it is on its way.
    pub(crate) fn publish(
        &self,
        namespace: &str,
        groups: &[String],
        except: &[String],
        packet: &Prepared,
        urgency: Urgency,
    ) -> bool {
        let Ok(event) = Packet::of_prepared(packet) else { return false };
        let target =
            Target { namespace: namespace.to_owned(), groups: groups.to_vec(), except: except.to_vec() };
        self.order(Emitted::Event {
            target,
            packet: event,
            is_volatile: urgency == Urgency::Volatile,
            is_compressible: packet.is_compressible(),
        })
    }

    /// Says to the others what the mesh says. The answer says whether it is on its way.
    pub(crate) fn tell(&self, state: &NodeState, send: MeshSend) -> bool {
        let MeshSend { to: _, ask, message } = send;
        match (message, ask) {
            (MeshMessage::Join { scope, group }, _) => {
                self.order(Emitted::Join { target: target(scope), groups: vec![group] })
            }
            (MeshMessage::Leave { scope, group }, _) => {
                self.order(Emitted::Leave { target: target(scope), groups: vec![group] })
            }
            (MeshMessage::Disconnect { scope, is_transport }, _) => {
                self.order(Emitted::Disconnect { target: target(scope), is_transport })
            }
            (MeshMessage::Event { namespace, packet }, None) => {
                let packet = read_packet(state, &packet, &[]);
                packet.is_ok_and(|packet| self.order(Emitted::ServerSide { namespace, packet }))
            }
            (
                message @ (MeshMessage::Event { .. } | MeshMessage::Fetch { .. } | MeshMessage::Ask { .. }),
                Some(ask),
            ) => Asking::of(state, message).is_some_and(|asking| self.ask(ask, asking)),
            // Questions have numbers, and who was asked answers on its own.
            (MeshMessage::Fetch { .. } | MeshMessage::Ask { .. }, None)
            | (MeshMessage::Sockets { .. } | MeshMessage::Answers { .. } | MeshMessage::Reply { .. }, _) => {
                false
            }
        }
    }

    fn order(&self, order: Emitted) -> bool {
        let namespace = match &order {
            Emitted::Event { target, .. }
            | Emitted::Join { target, .. }
            | Emitted::Leave { target, .. }
            | Emitted::Disconnect { target, .. } => target.namespace.clone(),
            Emitted::ServerSide { namespace, .. } => namespace.clone(),
        };
        // What servers say to each other nobody reads later.
        let is_for_stream = !matches!(order, Emitted::ServerSide { .. });
        let word = Word { from: self.server.clone(), namespace, says: Says::Order(order) };
        if is_for_stream {
            self.add(&word)
        } else {
            self.publish_word(&word, self.names.channel(&word.namespace))
        }
    }

    fn add(&self, word: &Word) -> bool {
        match word.to_entry() {
            Ok(entry) => {
                let fields = entry.fields().map(|(field, value)| (field, value.to_owned()));
                self.say(Said::Add { stream: self.names.stream_of(&word.namespace), fields: fields.to_vec() })
            }
            Err(error) => self.unsayable(&error),
        }
    }

    fn publish_word(&self, word: &Word, channel: String) -> bool {
        match word.to_message() {
            Ok(message) => self.say(Said::Publish { channel, message }),
            Err(error) => self.unsayable(&error),
        }
    }

    fn unsayable(&self, error: &WordError) -> bool {
        self.rarely.say(|unsaid| tracing::error!(%error, unsaid, "something cannot be said to the cluster"));
        false
    }

    /// Takes in what the Redis brings.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a Redis brings something"))]
    pub(crate) fn handle(&self, state: &Rc<NodeState>, heard: Heard) {
        // What the program does in its handlers must not end the hearing.
        if catch_unwind(AssertUnwindSafe(|| self.handle_heard(state, heard))).is_err() {
            state.counting.handler_panics_total.one();
            tracing::error!("a handler panicked over a word from another server");
        }
    }

    fn handle_heard(&self, state: &Rc<NodeState>, heard: Heard) {
        match heard {
            Heard::Up => {
                tracing::info!(server = self.server, "the cluster's Redis is reached");
                self.is_up.set(true);
                let namespaces = state.namespaces.names();
                let channels = namespaces.iter().flat_map(|namespace| self.channels(namespace)).collect();
                self.heard.replace(namespaces.into_iter().collect());
                self.say(Said::Subscribe { channels });
            }
            Heard::Down { why } => {
                tracing::warn!(why, "the cluster's Redis cannot be reached");
                self.is_up.set(false);
                // Their time ends by itself; nobody will tell who is there.
                self.asking.borrow_mut().retain(|_, asking| asking.is_published());
            }
            Heard::Lost { messages } => {
                state.counting.adapter_lost_total.add(messages);
                tracing::warn!(messages, "messages of other servers were left out, because too many waited");
            }
            Heard::Channels { ask, channels } => self.handle_channels(state, ask, &channels),
            Heard::Entry { fields } => {
                let mut entry = Entry::default();
                fields.into_iter().for_each(|(field, value)| entry.set(&field, value));
                // Its own entries come back, and a cluster's cost is reading: they are not looked into.
                if entry.uid != self.server {
                    self.take_in(state, Word::read_entry(&entry, &state.config.limits));
                }
            }
            Heard::Message { message } => {
                self.take_in(state, Word::read_message(&message, &state.config.limits));
            }
        }
    }

    fn take_in(&self, state: &Rc<NodeState>, word: Result<Option<Word>, WordError>) {
        let handled = match word {
            Ok(Some(word)) if word.from == self.server => return,
            Ok(Some(word)) => self.handle_word(state, word),
            Ok(None) => return,
            Err(fault) => Err(fault.into()),
        };
        match handled {
            Ok(()) => state.counting.delivered_total.one(),
            Err(error) => {
                state.counting.adapter_faults_total.one();
                self.rarely.say(|unsaid| {
                    tracing::warn!(%error, unsaid, "a word of the cluster cannot be read, and is left out");
                });
            }
        }
    }

    fn handle_word(&self, state: &Rc<NodeState>, word: Word) -> Result<(), Fault> {
        let Word { from, namespace, says } = word;
        match says {
            Says::Order(order) => carry_out(state, &from, order)?,
            Says::Question { request, asks } => self.answer(state, from, namespace, request, asks)?,
            Says::Answer { request, tells } => self.handle_answer(state, &from, &request, tells),
        }
        Ok(())
    }
}

fn target(scope: MeshScope) -> Target {
    let MeshScope { namespace, groups, except } = scope;
    Target { namespace, groups, except }
}

/// Serves the way to the others, for ever.
#[cfg(feature = "redis")]
pub(crate) async fn run(state: Rc<NodeState>, config: greenroom_backplane::adapter::AdapterConfig) {
    let Some(cluster) = &state.peers.cluster else { return };
    let Some(words) = cluster.take_words() else { return };
    greenroom_backplane::adapter::speak(config, words, |heard| cluster.handle(&state, heard)).await;
}
