//! Who decides, as all parts of this process know it: this replica, another one, or nobody; and the agents' streams, which
//! outlive any leadership of others, with what was last seen on each.
//!
//! Never decides who leads: `replica` says so, from the lease.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use greenroom_wire::agent::Hello;
use greenroom_wire::token::{PublicKeys, Signer};
use tokio::sync::{mpsc, watch};

use crate::pens::Pens;
use crate::run::{Input, StreamOrder};
use crate::sight::Word;
use crate::world::StreamId;

/// Who leads.
#[derive(Clone)]
pub(crate) enum Leading {
    /// Nobody that this replica knows of, and why.
    Nobody(&'static str),
    /// Another replica.
    Another(Leader),
    /// This one.
    Ourselves(Arc<Desk>),
}

/// The leader among the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) term: u64,
}

/// Where the one who decides is asked.
pub(crate) struct Desk {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) signer: Signer,
    pub(crate) pens: Pens,
    pub(crate) keys: PublicKeys,
    pub(crate) term: u64,
}

struct Attending {
    hello: Hello,
    orders: mpsc::Sender<StreamOrder>,
    /// Its last report while this process did not decide.
    word: Option<Arc<Word>>,
}

/// One for each process, shared.
pub(crate) struct Office {
    leading: watch::Sender<Leading>,
    streams: Mutex<BTreeMap<StreamId, Attending>>,
    /// Most streams whose last report is kept.
    words_max: usize,
    /// The highest term that a lease or an agent has told of.
    term_known: AtomicU64,
    /// Calls that wait until somebody leads.
    awaited: AtomicUsize,
}

/// A call that waits until somebody leads, for as long as this lives.
pub(crate) struct Awaiting<'a>(&'a AtomicUsize);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Office {
    pub(crate) fn new(words_max: usize) -> Self {
        let (leading, _) = watch::channel(Leading::Nobody("it has just started"));
        Self {
            leading,
            streams: Mutex::default(),
            words_max,
            term_known: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
        }
    }

    pub(crate) fn leading(&self) -> watch::Receiver<Leading> {
        self.leading.subscribe()
    }

    /// A call waits. A leader that lives for a moment only must be found within it, so the lease is looked at more often.
    pub(crate) fn awaits_leader(&self) -> Awaiting<'_> {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        Awaiting(&self.awaited)
    }

    pub(crate) fn is_leader_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }

    /// Where to ask, if this process decides.
    pub(crate) fn desk(&self) -> Option<Arc<Desk>> {
        match &*self.leading.borrow() {
            Leading::Ourselves(desk) => Some(Arc::clone(desk)),
            Leading::Another(_) | Leading::Nobody(_) => None,
        }
    }

    pub(crate) fn know_term(&self, term: u64) {
        self.term_known.fetch_max(term, Ordering::Relaxed);
    }

    pub(crate) fn term_known(&self) -> u64 {
        self.term_known.load(Ordering::Relaxed)
    }

    /// This process decides from now on. Gives the agents that are here already: the new world hears of them first.
    pub(crate) fn take(&self, desk: Arc<Desk>) -> Vec<Input> {
        let streams = self.streams();
        let opened = streams.iter().map(|(stream, attending)| Input::StreamOpened {
            stream: *stream,
            hello: attending.hello.clone(),
            orders: attending.orders.clone(),
        });
        let opened = opened.collect();
        self.leading.send_replace(Leading::Ourselves(desk));
        opened
    }

    /// This process does not decide any more. Its agents are hung up on: what they said to it was said to a leader, and none
    /// of it may reach a later one.
    pub(crate) fn leave(&self) {
        let mut streams = self.streams();
        self.leading.send_replace(Leading::Nobody("nobody has taken over yet"));
        streams.clear();
    }

    /// What the lease says while this process does not decide.
    pub(crate) fn see(&self, leader: Result<Leader, &'static str>) {
        self.leading.send_if_modified(|leading| match (&*leading, leader) {
            (Leading::Ourselves(_), _) => false,
            (Leading::Another(known), Ok(leader)) if *known == leader => false,
            (Leading::Nobody(known), Err(why)) if *known == why => false,
            (_, Ok(leader)) => {
                *leading = Leading::Another(leader);
                true
            }
            (_, Err(why)) => {
                *leading = Leading::Nobody(why);
                true
            }
        });
    }

    /// An agent is here. Gives whom to tell at once; a later leader is told by [`Office::take`].
    pub(crate) fn attend(
        &self,
        stream: StreamId,
        hello: &Hello,
        orders: &mpsc::Sender<StreamOrder>,
    ) -> Option<Arc<Desk>> {
        self.know_term(hello.term_seen);
        let mut streams = self.streams();
        streams.insert(stream, Attending { hello: hello.clone(), orders: orders.clone(), word: None });
        self.desk()
    }

    /// An agent has said this while another replica decides, or nobody. Only a report is kept, until the next one.
    pub(crate) fn saw(&self, stream: StreamId, text: &str, now: Instant) {
        let mut streams = self.streams();
        let is_new = streams.get(&stream).is_some_and(|attending| attending.word.is_none());
        if is_new && streams.values().filter(|attending| attending.word.is_some()).count() >= self.words_max {
            return;
        }
        let Some(attending) = streams.get_mut(&stream) else { return };
        if let Some(word) = Word::of(&attending.hello, text, now) {
            attending.word = Some(Arc::new(word));
        }
    }

    /// The last report on each stream that is open.
    pub(crate) fn seen(&self) -> Vec<Arc<Word>> {
        self.streams().values().filter_map(|attending| attending.word.clone()).collect()
    }

    /// A stream is over.
    pub(crate) fn gone(&self, stream: StreamId) {
        self.streams().remove(&stream);
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StreamId, Attending>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
