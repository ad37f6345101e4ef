//! The bytes that wait for one WebSocket: shared frames, in order, without an allocation for the first.
//! Never bounds itself: the session asks for the size first.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Frames in one write. The kernel takes up to 1,024; more than this does not pay.
pub(crate) const SLICES_MAX: usize = 64;

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
            self.rest.push_back(frame);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
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
                    *self = Self::default();
                    return;
                }
            }
        }
        self.first.advance(written);
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
                let taken = next.len().min(step);
                written.extend_from_slice(&next[..taken]);
                outbound.advance(taken);
            }
            assert_eq!(written, b"abcdefgh", "{step}");
            assert_eq!(outbound.rest.capacity(), 0);
        }
    }
}
