//! The answers of many to one event: who gave which, and who gave none.
//! Never waits longer than the timeout of the event.

use std::cell::RefCell;
use std::rc::Rc;

use greenroom_socketio::SocketId;

use crate::event::Reply;
use crate::socket::AckError;

/// What came back from an event to many, when all have answered or the time was over.
#[derive(Debug, Default)]
pub struct Answers {
    /// One answer of each socket that gave one, in the order in which they came.
    pub replies: Vec<(SocketId, Reply)>,
    /// The sockets that gave none, and why.
    pub missing: Vec<(SocketId, AckError)>,
    /// One answer of each socket of a Node.js server that gave one: such a server does not say which of its sockets gave
    /// which. Empty but in a cluster with some ([`crate::config::Adapter`]).
    pub replies_unnamed: Vec<Reply>,
    /// How many of their sockets gave none.
    pub missing_unnamed: u64,
    /// The nodes of the mesh that did not tell what their sockets answered, by instance; `agent` where the way to them
    /// is down.
    pub nodes_missing: Vec<String>,
}

impl Answers {
    /// Every answer, whether or not it is known whose it is.
    pub fn all(&self) -> impl Iterator<Item = &Reply> {
        self.replies.iter().map(|(_, reply)| reply).chain(&self.replies_unnamed)
    }

    /// Whether everybody answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.missing_unnamed == 0 && self.nodes_missing.is_empty()
    }
}

type Then = Box<dyn FnOnce(Answers)>;

/// Counts answers in until the last one.
pub(crate) struct Collector(RefCell<Collecting>);

struct Collecting {
    answers: Answers,
    waiting: usize,
    then: Option<Then>,
}

impl Collector {
    pub(crate) fn new(waiting: usize, then: Then) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Collecting { answers: Answers::default(), waiting, then: Some(then) })))
    }

    pub(crate) fn handle(&self, id: SocketId, reply: Result<Reply, AckError>) {
        self.add(|answers| match reply {
            Ok(reply) => answers.replies.push((id, reply)),
            Err(error) => answers.missing.push((id, error)),
        });
    }

    /// Takes in one of the answers that it waits for, which may hold those of many.
    pub(crate) fn add(&self, put: impl FnOnce(&mut Answers)) {
        let mut collecting = self.0.borrow_mut();
        put(&mut collecting.answers);
        collecting.waiting -= 1;
        if collecting.waiting > 0 {
            return;
        }
        let answers = std::mem::take(&mut collecting.answers);
        let then = collecting.then.take();
        drop(collecting);
        if let Some(then) = then {
            then(answers);
        }
    }
}
