//! What a node counts, for metrics and tests.
//! Never a label and never a decision.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened since the start. Each field only grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counting {
            $(pub(crate) $name: Count,)*
        }

        impl Counting {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.get(),)* }
            }
        }
    };
}

counters! {
    /// Sessions opened.
    sessions_opened_total,
    /// Sessions that moved from polling to WebSocket.
    sessions_upgraded_total,
    /// Polling requests that asked for packets.
    polls_total,
    /// Polling requests that handed packets in.
    posts_total,
    /// Connections refused because the node is full.
    connections_refused_total,
    /// Requests refused for their origin.
    origins_refused_total,
    /// Requests refused with an Engine.IO error.
    requests_refused_total,
    /// TLS connections that failed before their first request.
    tls_faults_total,
    /// Times the certificate was read again.
    tls_reloads_total,
    /// Times it could not be, and the old one stayed.
    tls_reload_faults_total,
    /// Namespaces refused by a middleware or the token check.
    connects_refused_total,
    /// Events of clients that a packet middleware refused.
    events_refused_total,
    /// Volatile events dropped because the connection could not take them.
    volatile_dropped_total,
    /// Sessions closed because a reliable event did not fit the outbound queue.
    slow_closed_total,
    /// Sessions closed for bytes that are no packets.
    faulty_closed_total,
    /// Sessions closed because no pong came.
    ping_timeouts_total,
    /// Sessions closed because no namespace was connected in time.
    connect_timeouts_total,
    /// Handlers that panicked; their session was closed.
    handler_panics_total,
    /// Events that could not be encoded, a fault of this program.
    emit_faults_total,
    /// Room ticks run.
    ticks_total,
    /// Room ticks skipped because the node was too far behind.
    ticks_skipped_total,
    /// How late room ticks were, in microseconds, all together.
    tick_late_us_total,
    /// Room inputs refused: unknown event or wrong argument.
    inputs_refused_total,
    /// Rooms opened.
    rooms_opened_total,
    /// Rooms that were taken up from the process before this one.
    rooms_taken_up_total,
    /// Rooms that ended by a panic, or whose state could not be written or read.
    rooms_crashed_total,
    /// Sessions that clients came back to.
    sessions_restored_total,
    /// Clients that wanted to come back and began anew.
    sessions_not_restored_total,
    /// Sessions that the backplane had no room for.
    sessions_not_kept_total,
    /// Mesh broadcasts given to the agent.
    published_total,
    /// Mesh broadcasts that did not fit the queue to the agent, or met no agent.
    publish_dropped_total,
    /// Mesh broadcasts of other nodes that were delivered here.
    delivered_total,
    /// Messages of emitters outside of the servers that were acted on.
    emitter_messages_total,
    /// Messages on their channels that are none.
    emitter_faults_total,
    /// Messages of emitters that were left out, because too many waited.
    emitter_lost_total,
    /// Words of a cluster with Node.js servers that cannot be read.
    adapter_faults_total,
    /// Messages of its channels that were left out, because too many waited.
    adapter_lost_total,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.set(self.0.get() + by);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }
}
