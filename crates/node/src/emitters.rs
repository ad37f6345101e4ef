//! Carries out on this node's sockets what emitters outside of the servers want.
//! Never tells other nodes: each of them hears the emitters itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenroom_backplane::emitters::{EmittersConfig, Heard, listen};
use greenroom_backplane::redis::RedisAddress;
use greenroom_socketio::emitter::{Emitted, EmittedError, Target, patterns};
use greenroom_socketio::packet::{Draft, EncodeError, Packet};
use tokio::time::Instant;

use crate::broadcast::Broadcast;
use crate::config::Emitters;
use crate::mesh::hand_to_servers;
use crate::node::NodeHandle;
use crate::socket::Socket;
use crate::state::NodeState;

/// Who speaks, for handlers of server events.
const EMITTER: &str = "emitter";

/// Time between two words about messages that cannot be read: whoever publishes one, publishes many.
const WORD_EVERY: Duration = Duration::from_secs(10);

/// Hears emitters, for ever.
pub(crate) async fn run(state: Rc<NodeState>, config: Emitters, at: RedisAddress) {
    let ear = EmittersConfig {
        waiting_bytes_max: config.waiting_bytes_max,
        ..EmittersConfig::new(at, patterns(&config.key).to_vec())
    };
    let hearing = Hearing { state, key: config.key, word_at: Cell::new(None), unsaid: Cell::new(0) };
    listen(ear, |heard| hearing.handle(heard)).await;
}

/// Why a message is not carried out.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Read(#[from] EmittedError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

struct Hearing {
    state: Rc<NodeState>,
    key: String,
    /// When a fault was last told.
    word_at: Cell<Option<Instant>>,
    /// Faults since then.
    unsaid: Cell<u64>,
}

impl Hearing {
    fn handle(&self, heard: Heard) {
        match heard {
            Heard::Up => tracing::info!(key = self.key, "emitters are heard"),
            Heard::Down { why } => tracing::warn!(why, "emitters cannot be heard"),
            Heard::Lost { messages } => {
                self.state.counting.emitter_lost_total.add(messages);
                tracing::warn!(messages, "messages of emitters were left out, because too many waited");
            }
            Heard::Message { channel, message } => {
                // What the program does in its handlers must not end the hearing.
                let acting = AssertUnwindSafe(|| self.act(&channel, &message));
                match catch_unwind(acting) {
                    Ok(Ok(true)) => self.state.counting.emitter_messages_total.one(),
                    Ok(Ok(false)) => {}
                    Ok(Err(fault)) => self.tell_fault(&channel, &fault),
                    Err(_) => {
                        self.state.counting.handler_panics_total.one();
                        tracing::error!("a handler panicked over a word of an emitter");
                    }
                }
            }
        }
    }

    /// Counts every fault and tells few.
    fn tell_fault(&self, channel: &str, fault: &Fault) {
        self.state.counting.emitter_faults_total.one();
        let now = Instant::now();
        if self.word_at.get().is_some_and(|at| now - at < WORD_EVERY) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.word_at.set(Some(now));
        let unsaid = self.unsaid.take();
        tracing::warn!(channel, error = %fault, unsaid, "a message on an emitters' channel is none of them");
    }

    /// The answer says whether an emitter spoke.
    fn act(&self, channel: &str, message: &[u8]) -> Result<bool, Fault> {
        let Some(emitted) = Emitted::read(&self.key, channel, message, &self.state.config.limits)? else {
            return Ok(false);
        };
        match emitted {
            Emitted::Event { target, packet, is_volatile, is_compressible } => {
                let draft = draft(&packet)?.compress(is_compressible);
                if let Some(reached) = self.reach(&target) {
                    let reached = if is_volatile { reached.volatile() } else { reached };
                    reached.emit_draft(&draft);
                }
            }
            Emitted::Join { target, groups } => {
                self.each(&target, &groups, Socket::join);
            }
            Emitted::Leave { target, groups } => {
                self.each(&target, &groups, Socket::leave);
            }
            Emitted::Disconnect { target, is_transport } => match self.reach(&target) {
                Some(reached) if is_transport => reached.close_transports(),
                Some(reached) => reached.disconnect(),
                None => {}
            },
            Emitted::ServerSide { namespace, packet } => {
                let node = NodeHandle(Rc::clone(&self.state));
                hand_to_servers(&self.state, &node, EMITTER, &namespace, packet, None);
            }
        }
        Ok(true)
    }

    /// The sockets of this node that are meant; `None` where the namespace is not here.
    fn reach(&self, target: &Target) -> Option<Broadcast> {
        let everybody = NodeHandle(Rc::clone(&self.state)).namespace(&target.namespace)?;
        Some(everybody.local().narrowed(&target.groups, &target.except))
    }

    /// Who is meant is settled first: one group may decide about the next.
    fn each(&self, target: &Target, groups: &[String], act: impl Fn(&Socket, &str)) {
        let sockets = self.reach(target).map_or_else(Vec::new, |reached| reached.sockets());
        for socket in sockets {
            groups.iter().for_each(|group| act(&socket, group));
        }
    }
}

/// The event, to be sent on.
fn draft(packet: &Packet) -> Result<Draft, EncodeError> {
    Draft::event(packet.event().unwrap_or_default())?.args_of(packet)
}
