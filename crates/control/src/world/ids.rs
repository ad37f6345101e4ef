//! New names: random from a seed that the caller brings, so that a simulation can repeat them.
//!
//! Never looks whether a name is taken; servers' names are short, so their caller draws again.

use greenroom_core::{FleetName, RoomId, ServerName, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use smol_str::SmolStr;

/// Letters and digits without those that are mistaken for each other, in the order of their bytes: what is written with them sorts as
/// its number does.
const ALPHABET: &[u8; 32] = b"023456789abcdefghjkmnpqrstuvwxyz";
/// Characters of a room id that say when it was made: enough milliseconds for a thousand years.
const TIME_CHARS: u32 = 9;

/// Random bits that one character takes, and characters that one draw of 64 gives.
const CHAR_BITS: u32 = 5;
const CHARS_PER_DRAW: u32 = u64::BITS / CHAR_BITS;

/// The character of the lowest bits.
const fn letter(bits: u64) -> char {
    ALPHABET[(bits % 32) as usize] as char
}

/// A source of names.
#[derive(Debug, Clone)]
pub struct IdSource {
    rng: ChaCha12Rng,
}

impl IdSource {
    /// A source of the names that follow from `seed`. A process seeds it from the system, a simulation from a number.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { rng: ChaCha12Rng::from_seed(seed) }
    }

    /// Random characters behind a prefix; up to 23 bytes in all cost no allocation.
    fn text(&mut self, prefix: impl IntoIterator<Item = char>, chars: u32) -> SmolStr {
        let mut bits = 0;
        let random = (0..chars).map(|nth| {
            bits = if nth % CHARS_PER_DRAW == 0 { self.rng.next_u64() } else { bits >> CHAR_BITS };
            letter(bits)
        });
        prefix.into_iter().chain(random).collect()
    }

    /// A room id, unique for ever: the millisecond and 55 random bits. Rooms that are made together lie together in every tree that
    /// has them by id, in memory and on the disk, so that a new one costs one page and not one each.
    pub(super) fn room(&mut self, now: Timestamp) -> RoomId {
        let time = (0..TIME_CHARS).rev().map(|nth| letter(now.unix_ms() >> (CHAR_BITS * nth)));
        self.text("r-".chars().chain(time), 11).parse().expect("letters, digits and a dash make a room id")
    }

    /// A token id, unique for ever: 100 random bits.
    pub(super) fn token(&mut self) -> SmolStr {
        self.text([], 20)
    }

    /// Two numbers for a choice that is left to chance.
    pub(super) fn draws(&mut self) -> [u64; 2] {
        [self.rng.next_u64(), self.rng.next_u64()]
    }

    /// `<fleet>-<5 characters>`; may be taken already.
    pub(super) fn server(&mut self, fleet: &FleetName) -> ServerName {
        self.text(fleet.as_str().chars().chain(['-']), 5)
            .parse()
            .expect("a fleet name and 6 characters make a server name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_names_and_another_seed_others() {
        let fleet: FleetName = "arena".parse().unwrap();
        let mut one = IdSource::new([1; 32]);
        let mut same = IdSource::new([1; 32]);
        let mut other = IdSource::new([2; 32]);
        let now = Timestamp::from_unix_ms(1_700_000_000_000);
        let (room, server) = (one.room(now), one.server(&fleet));
        assert_eq!((same.room(now), same.server(&fleet)), (room.clone(), server));
        assert_ne!(other.room(now), room);
    }

    #[test]
    fn a_room_of_a_later_millisecond_sorts_behind() {
        let mut ids = IdSource::new([1; 32]);
        let moments = [0, 1, 31, 32, 1_023, 1_024, 1_700_000_000_000, 1_700_000_000_001, 4_000_000_000_000];
        let rooms = moments.map(|ms| ids.room(Timestamp::from_unix_ms(ms)));
        assert!(rooms.is_sorted(), "{rooms:?}");
        assert!(rooms.iter().all(|room| room.as_str().len() == 22), "{rooms:?}");
    }
}
