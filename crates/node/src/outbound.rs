//! The bytes that wait for one WebSocket: shared frames, in order, without an allocation for the first, and in steady
//! state for none. Never bounds itself: the session asks for the size first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Frames in one write. The kernel takes up to 1,024; more than this does not pay.
pub(crate) const SLICES_MAX: usize = 64;

/// Queues kept for reuse, and the longest one kept: together at most 2 MiB, for all connections of a thread.
const SPARES_MAX: usize = 1024;
const SPARE_FRAMES_MAX: usize = 64;

thread_local! {
    /// Empty queues with room in them. A connection has one only while more than one frame waits.
    static SPARES: RefCell<Vec<VecDeque<Bytes>>> = const { RefCell::new(Vec::new()) };
}

/// Frames in order; the first may be partly written.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    first: Bytes,
    rest: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbound {
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else {
            if self.rest.capacity() == 0 {
                self.rest = SPARES.with_borrow_mut(Vec::pop).unwrap_or_default();
            }
            self.rest.push_back(frame);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Everything in one piece, if there are several frames and they fit into `space`.
    pub(crate) fn gather<'a>(&'a self, space: &'a mut [u8]) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return Some(&self.first);
        }
        let space = space.get_mut(..self.bytes)?;
        let mut at = 0;
        for frame in std::iter::once(&self.first).chain(&self.rest) {
            space[at..at + frame.len()].copy_from_slice(frame);
            at += frame.len();
        }
        Some(space)
    }

    /// The next slices to write.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let frames = std::iter::once(&self.first).chain(&self.rest).filter(|frame| !frame.is_empty());
        let mut count = 0;
        for (slot, frame) in into.iter_mut().zip(frames) {
            *slot = IoSlice::new(frame);
            count += 1;
        }
        count
    }

    /// Forgets what was written. Holds no heap memory once empty.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written >= self.first.len() {
            written -= self.first.len();
            match self.rest.pop_front() {
                Some(next) => self.first = next,
                None => {
                    self.rest_at_ease();
                    return;
                }
            }
        }
        self.first.advance(written);
    }

    /// Gives the queue's memory back.
    fn rest_at_ease(&mut self) {
        let rest = std::mem::take(self).rest;
        if (1..=SPARE_FRAMES_MAX).contains(&rest.capacity()) {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARES_MAX {
                    spares.push(rest);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_any_pieces_is_what_was_pushed() {
        for step in [1, 2, 3, 7, 100] {
            let mut outbound = Outbound::default();
            for frame in ["ab", "c", "defg", "h"] {
                outbound.push(Bytes::from_static(frame.as_bytes()));
            }
            assert_eq!(outbound.bytes(), 8);
            let mut written = Vec::new();
            while !outbound.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = outbound.slices(&mut slices);
                let next: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(outbound.gather(&mut [0; 16]), Some(next.as_slice()));
                assert!(next.len() < 2 || outbound.rest.is_empty() || outbound.gather(&mut [0; 1]).is_none());
                let taken = next.len().min(step);
                written.extend_from_slice(&next[..taken]);
                outbound.advance(taken);
            }
            assert_eq!(written, b"abcdefgh", "{step}");
            assert_eq!(outbound.rest.capacity(), 0);
        }
    }
}
