//! Hears emitters outside of the servers, and has carried out on this node's sockets what they want.
//! Never tells other nodes: each of them hears the emitters itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenroom_backplane::emitters::{EmittersConfig, Heard, listen};
use greenroom_backplane::redis::RedisAddress;
use greenroom_socketio::emitter::{Emitted, EmittedError, patterns};
use greenroom_socketio::packet::EncodeError;

use crate::config::Emitters;
use crate::orders::{Rarely, carry_out};
use crate::state::NodeState;

/// Who speaks, for handlers of server events.
const EMITTER: &str = "emitter";

/// Hears emitters, for ever.
pub(crate) async fn run(state: Rc<NodeState>, config: Emitters, at: RedisAddress) {
    let ear = EmittersConfig {
        waiting_bytes_max: config.waiting_bytes_max,
        ..EmittersConfig::new(at, patterns(&config.key).to_vec())
    };
    let hearing = Hearing { state, key: config.key, rarely: Rarely::default() };
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
    rarely: Rarely,
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
        self.rarely.say(|unsaid| {
            tracing::warn!(channel, error = %fault, unsaid, "a message on an emitters' channel is none of them");
        });
    }

    /// The answer says whether an emitter spoke.
    fn act(&self, channel: &str, message: &[u8]) -> Result<bool, Fault> {
        let Some(emitted) = Emitted::read(&self.key, channel, message, &self.state.config.limits)? else {
            return Ok(false);
        };
        carry_out(&self.state, EMITTER, emitted)?;
        Ok(true)
    }
}
