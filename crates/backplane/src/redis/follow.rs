//! What a node has read of one History, and the order in which it is told.
//! Never tells an event before the answers that came about ahead of it, nor an answer before its events.

use std::collections::VecDeque;

use greenroom_wire::backplane::{Logged, Told};

use crate::board::weight;

/// The last event that was read, as the store has it. Where the store has another one under its number, it is not the
/// same log any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) header: String,
}

/// What an entry that was read does not go together with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the history began anew")]
    Anew,
    #[error("events of the history are gone that were not read yet")]
    Gap,
}

#[derive(Debug)]
pub(super) struct Follow {
    pub(super) epoch: u64,
    /// Reads that began before this count were of another state.
    pub(super) since_read: u64,
    /// The last event that was read.
    pub(super) read: u64,
    /// The last event that the node was told of.
    told: u64,
    held: VecDeque<Logged>,
    /// Bytes of those.
    pub(super) held_bytes: usize,
    /// Answers, each with the head at its moment.
    answers: VecDeque<(u64, Told)>,
    /// The store is asked for answers. Which events they come between is known only then.
    pub(super) is_asked: bool,
}

impl Follow {
    pub(super) fn new(epoch: u64, from: u64, since_read: u64) -> Self {
        Self {
            epoch,
            since_read,
            read: from,
            told: from,
            held: VecDeque::new(),
            held_bytes: 0,
            answers: VecDeque::new(),
            is_asked: false,
        }
    }

    /// Takes in the next event; `false` for one that was read before.
    pub(super) fn take_in(&mut self, epoch: u64, event: Logged) -> Result<bool, Unfit> {
        if epoch != self.epoch {
            return Err(Unfit::Anew);
        }
        if event.offset <= self.read {
            return Ok(false);
        }
        if event.offset > self.read + 1 {
            return Err(Unfit::Gap);
        }
        self.read = event.offset;
        self.held_bytes += weight(&event.relay);
        self.held.push_back(event);
        Ok(true)
    }

    /// Takes in an answer that the store gave when `head` was the last event.
    pub(super) fn answer(&mut self, head: u64, told: Told) {
        self.answers.push_back((head, told));
    }

    /// Tells all whose turn it is.
    pub(super) fn release(&mut self, mut tell: impl FnMut(Told)) {
        loop {
            if self.answers.front().is_some_and(|(head, _)| *head <= self.told) {
                self.answers.pop_front().into_iter().for_each(|(_, told)| tell(told));
            } else if !self.is_asked
                && let Some(event) = self.held.pop_front()
            {
                self.told = event.offset;
                self.held_bytes -= weight(&event.relay);
                tell(Told::Event { epoch: self.epoch, event });
            } else {
                return;
            }
        }
    }

    /// Tells all answers, because the events between them are void.
    pub(super) fn end(self, mut tell: impl FnMut(Told)) {
        self.answers.into_iter().for_each(|(_, told)| tell(told));
    }
}

#[cfg(test)]
mod tests {
    use greenroom_wire::Text;
    use greenroom_wire::backplane::Position;
    use greenroom_wire::link::Relay;

    use super::*;

    fn event(offset: u64) -> Logged {
        let relay = Relay {
            namespace: "/".into(),
            groups: vec![],
            except: vec![],
            packet: "2[]".into(),
            attachments: vec![],
        };
        Logged { offset, at_ms: 1, origin: "a".into(), seq: offset, relay }
    }

    fn owned(seq: u64, offset: u64, n: u32) -> Told {
        Told::Owned { seq, position: Text(Position { epoch: 7, offset, n }) }
    }

    fn released(follow: &mut Follow) -> Vec<String> {
        let mut told = Vec::new();
        follow.release(|each| {
            if let Told::Event { event, .. } = &each {
                told.push(event.offset.to_string());
            } else if let Told::Owned { position, .. } = &each {
                told.push(position.to_string());
            } else {
                panic!("{each:?}");
            }
        });
        told
    }

    #[test]
    fn own_events_come_between_the_events_that_they_were_kept_between() {
        let mut follow = Follow::new(7, 4, 0);
        follow.is_asked = true;
        // Read before the answer has come: whether an own event comes first is not known.
        for offset in [5, 6] {
            assert_eq!(follow.take_in(7, event(offset)), Ok(true));
        }
        assert_eq!(released(&mut follow), [""; 0]);
        follow.answer(5, owned(9, 5, 1));
        follow.answer(7, owned(10, 7, 1));
        follow.is_asked = false;
        assert_eq!(released(&mut follow), ["5", "7-5-1", "6"]);
        // Kept behind an event that is not read yet.
        assert_eq!(follow.take_in(7, event(7)), Ok(true));
        assert_eq!(released(&mut follow), ["7", "7-7-1"]);
    }

    #[test]
    fn nothing_is_taken_twice_and_no_gap_is_passed_over() {
        let mut follow = Follow::new(7, 4, 0);
        assert_eq!(follow.take_in(7, event(4)), Ok(false));
        assert_eq!(follow.take_in(7, event(6)), Err(Unfit::Gap));
        assert_eq!(follow.take_in(8, event(5)), Err(Unfit::Anew));
        assert_eq!(follow.take_in(7, event(5)), Ok(true));
        assert_eq!(follow.take_in(7, event(5)), Ok(false));
    }
}
