//! The player counts that a choice of tickets can add up to.
//!
//! Never knows which tickets.

/// One bit for each sum up to the most that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    words: Vec<u64>,
    most: u16,
}

impl Sums {
    /// Nothing chosen: the sum is 0.
    pub(super) fn up_to(most: u16) -> Self {
        let mut words = vec![0; usize::from(most) / 64 + 1];
        words[0] = 1;
        Self { words, most }
    }

    pub(super) fn has(&self, sum: u16) -> bool {
        self.words[usize::from(sum) / 64] >> (sum % 64) & 1 == 1
    }

    /// The same sums as `other`, which goes up to as much.
    pub(super) fn copy(&mut self, other: &Self) {
        self.words.copy_from_slice(&other.words);
    }

    /// Lets up to `count` tickets of `size` be chosen: in lots of 1, 2, 4, .. so that a long queue costs no more.
    pub(super) fn add(&mut self, size: u16, count: usize) {
        let mut left = count.min(usize::from(self.most / size));
        let mut lot = 1;
        while left > 0 {
            let taken = lot.min(left);
            self.add_once(usize::from(size) * taken);
            left -= taken;
            lot *= 2;
        }
    }

    /// Lets one more ticket, or lot, of so many players be chosen.
    pub(super) fn add_once(&mut self, players: usize) {
        let (words, bits) = (players / 64, players % 64);
        for at in (words..self.words.len()).rev() {
            let mut shifted = self.words[at - words] << bits;
            if bits > 0 && at > words {
                shifted |= self.words[at - words - 1] >> (64 - bits);
            }
            self.words[at] |= shifted;
        }
    }
}
