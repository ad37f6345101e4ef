//! Carries what nodes and Node.js servers of one cluster say to each other in a Redis: entries of streams, and messages on
//! channels. What a stream still has is read on after a break; what is published meanwhile is gone.
//!
//! Never looks into what it carries. A node speaks by a [`Mouth`], whose waiting bytes have a bound; whoever serves the
//! other end ([`Said`]) is `speak`, with the feature `redis`.

#[cfg(feature = "redis")]
mod speaking;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "redis")]
pub use speaking::{AdapterConfig, speak};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a word costs besides its own bytes, about.
const WORD_BYTES: usize = 64;

/// What a node wants of the Redis. Handled in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// An entry for a stream.
    Add {
        /// Which.
        stream: String,
        /// Its fields.
        fields: Vec<(&'static str, String)>,
    },
    /// A message on a channel.
    Publish {
        /// Which.
        channel: String,
        /// The message.
        message: Vec<u8>,
    },
    /// To hear these channels. All are forgotten when the connection breaks.
    Subscribe {
        /// Which.
        channels: Vec<String>,
    },
    /// Not to hear them any more.
    Unsubscribe {
        /// Which.
        channels: Vec<String>,
    },
    /// Which channels somebody listens to: told by [`Heard::Channels`].
    Who {
        /// Whose question it is.
        ask: u64,
        /// A pattern of their names.
        pattern: String,
    },
}

/// What the Redis brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The Redis is reached, for the first time or again. No channel is heard yet.
    Up,
    /// It is not any more, or not yet. What is said until the next [`Self::Up`] is dropped.
    Down {
        /// For people.
        why: String,
    },
    /// An entry of a stream; also of those added while the Redis was not reached, as far as it has them still.
    Entry {
        /// Its fields.
        fields: Vec<(String, String)>,
    },
    /// A message on a channel that is heard.
    Message {
        /// The message.
        message: Vec<u8>,
    },
    /// Answers [`Said::Who`].
    Channels {
        /// Whose question it was.
        ask: u64,
        /// The channels.
        channels: Vec<String>,
    },
    /// So many messages were left out, because others waited.
    Lost {
        /// How many since it was last told.
        messages: u64,
    },
}

impl Said {
    fn bytes(&self) -> usize {
        let own = match self {
            Self::Add { fields, .. } => fields.iter().map(|(_, value)| value.len()).sum(),
            Self::Publish { message, .. } => message.len(),
            Self::Subscribe { .. } | Self::Unsubscribe { .. } | Self::Who { .. } => 0,
        };
        own + WORD_BYTES
    }

    /// Whether it is said to others. The rest is needed for hearing them, and as much as there are namespaces and
    /// questions, which have bounds of their own.
    fn is_for_others(&self) -> bool {
        matches!(self, Self::Add { .. } | Self::Publish { .. })
    }
}

/// Where a node says what it wants.
#[derive(Debug, Clone)]
pub struct Mouth {
    to: UnboundedSender<Said>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The other end of a [`Mouth`].
#[derive(Debug)]
pub struct SaidWords {
    from: UnboundedReceiver<Said>,
    bytes: Arc<AtomicUsize>,
}

impl Mouth {
    /// Both ends. So many bytes for others may wait, and one word more.
    #[must_use]
    pub fn new(bytes_max: usize) -> (Self, SaidWords) {
        let (to, from) = unbounded_channel();
        let bytes = Arc::new(AtomicUsize::new(0));
        (Self { to, bytes: Arc::clone(&bytes), bytes_max }, SaidWords { from, bytes })
    }

    /// Says something. The answer says whether it is on its way.
    #[must_use]
    pub fn say(&self, said: Said) -> bool {
        if said.is_for_others() && self.bytes.load(Ordering::Relaxed) >= self.bytes_max {
            return false;
        }
        self.bytes.fetch_add(said.bytes(), Ordering::Relaxed);
        self.to.send(said).is_ok()
    }
}

impl SaidWords {
    /// The next word; `None` once the mouth is gone.
    pub async fn recv(&mut self) -> Option<Said> {
        let said = self.from.recv().await?;
        self.bytes.fetch_sub(said.bytes(), Ordering::Relaxed);
        Some(said)
    }

    /// The next word, where one waits.
    pub fn try_recv(&mut self) -> Option<Said> {
        let said = self.from.try_recv().ok()?;
        self.bytes.fetch_sub(said.bytes(), Ordering::Relaxed);
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_others_has_a_bound_and_what_is_needed_to_hear_them_passes() {
        let (mouth, mut words) = Mouth::new(1000);
        let message = |bytes| Said::Publish { channel: "c".to_owned(), message: vec![0; bytes] };
        let entry = || Said::Add { stream: "s".to_owned(), fields: vec![("data", "x".repeat(500))] };
        assert!(mouth.say(message(500)));
        assert!(mouth.say(entry()), "one word more than fits");
        assert!(!mouth.say(message(1)));
        assert!(!mouth.say(entry()));
        assert!(mouth.say(Said::Who { ask: 1, pattern: "p".to_owned() }));
        assert_eq!(words.try_recv(), Some(message(500)));
        assert!(mouth.say(message(1)), "there is room again");
        while words.try_recv().is_some() {}
        assert_eq!(mouth.bytes.load(Ordering::Relaxed), 0);
    }
}
