//! New names: random from a seed that the caller brings, so that a simulation can repeat them.
//!
//! Never looks whether a name is taken; servers' names are short, so their caller draws again.

use greenroom_core::{FleetName, RoomId, ServerName};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Letters and digits without those that are mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

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

    fn text(&mut self, prefix: &str, chars: usize) -> String {
        let mut text = String::with_capacity(prefix.len() + chars);
        text.push_str(prefix);
        for _ in 0..chars {
            let index = (self.rng.next_u32() % 32) as usize;
            text.push(char::from(ALPHABET[index]));
        }
        text
    }

    /// A room id, unique for ever: 100 random bits.
    pub(super) fn room(&mut self) -> RoomId {
        self.text("r-", 20).parse().expect("letters, digits and a dash make a room id")
    }

    /// A token id, unique for ever: 100 random bits.
    pub(super) fn token(&mut self) -> String {
        self.text("", 20)
    }

    /// Two numbers for a choice that is left to chance.
    pub(super) fn draws(&mut self) -> [u64; 2] {
        [self.rng.next_u64(), self.rng.next_u64()]
    }

    /// `<fleet>-<5 characters>`; may be taken already.
    pub(super) fn server(&mut self, fleet: &FleetName) -> ServerName {
        self.text(&format!("{fleet}-"), 5).parse().expect("a fleet name and 6 characters make a server name")
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
        let (room, server) = (one.room(), one.server(&fleet));
        assert_eq!((same.room(), same.server(&fleet)), (room.clone(), server));
        assert_ne!(other.room(), room);
    }
}
