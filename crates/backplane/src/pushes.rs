//! What a Redis pushes and nobody has taken yet, counted in bytes.
//! Never grows without a bound: what does not fit is left out and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ::redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a message costs besides its own bytes, about.
pub(crate) const MESSAGE_BYTES: usize = 256;

/// The queue between a connection and whoever tells what it brings.
pub(crate) struct Queue {
    to: UnboundedSender<PushInfo>,
    bytes: AtomicUsize,
    bytes_max: usize,
    lost: AtomicU64,
}

impl Queue {
    /// An empty queue, and the end where it is taken from.
    pub(crate) fn new(bytes_max: usize) -> (Arc<Self>, UnboundedReceiver<PushInfo>) {
        let (to, from) = unbounded_channel();
        (Arc::new(Self { to, bytes: AtomicUsize::new(0), bytes_max, lost: AtomicU64::new(0) }), from)
    }

    /// Takes in what the connection brings. The error says that nobody hears any more.
    pub(crate) fn push(&self, info: PushInfo) -> Result<(), ()> {
        if is_message(&info) {
            let bytes = bytes_of(&info);
            if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.bytes_max {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        self.to.send(info).map_err(|_| ())
    }

    /// Somebody has taken this out.
    pub(crate) fn took(&self, info: &PushInfo) {
        if is_message(info) {
            self.bytes.fetch_sub(bytes_of(info), Ordering::Relaxed);
        }
    }

    /// How many messages were left out since this was asked last.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn is_message(info: &PushInfo) -> bool {
    info.kind == PushKind::Message || info.kind == PushKind::PMessage
}

fn bytes_of(info: &PushInfo) -> usize {
    let each =
        info.data.iter().map(|value| if let Value::BulkString(bytes) = value { bytes.len() } else { 0 });
    each.sum::<usize>() + MESSAGE_BYTES
}
