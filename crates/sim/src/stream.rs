//! The stream between an agent and control: in order, late by a random time, lost whole.
//!
//! Never drops or reorders a message within a stream; TCP does not either.

use std::collections::VecDeque;

use greenroom_control::world::StreamId;
use greenroom_wire::agent::{FromAgent, ToAgent};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Messages under way in one direction.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    messages: VecDeque<(u64, T)>,
    last_ms: u64,
}

impl<T> Pipe<T> {
    const fn new() -> Self {
        Self { messages: VecDeque::new(), last_ms: 0 }
    }

    /// Sends one message. One of twenty takes up to 1.5 s, and those behind it wait: less than the 2 s for which
    /// control keeps a seat beyond its reservation.
    pub(crate) fn send(&mut self, now_ms: u64, message: T, rng: &mut ChaCha8Rng) {
        let most = if rng.random_bool(0.05) { 1_500 } else { 60 };
        let at = (now_ms + rng.random_range(1..=most)).max(self.last_ms);
        self.last_ms = at;
        self.messages.push_back((at, message));
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next message that has arrived.
    pub(crate) fn receive(&mut self, now_ms: u64) -> Option<T> {
        let (at, _) = self.messages.front()?;
        if *at <= now_ms { self.messages.pop_front().map(|(_, message)| message) } else { None }
    }
}

/// One stream, from dialling to its end.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) to_control: Pipe<FromAgent>,
    pub(crate) to_agent: Pipe<ToAgent>,
}

impl Stream {
    pub(crate) const fn new(id: StreamId) -> Self {
        Self { id, to_control: Pipe::new(), to_agent: Pipe::new() }
    }
}
