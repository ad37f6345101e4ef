//! Owns who waits at a barrier for the rest of the room or group.
//! Never knows what comes after it.

use std::collections::HashMap;

use crate::player::PlayerIndex;

/// The barriers at which somebody waits, by room or group.
#[derive(Debug, Default)]
pub(crate) struct Barriers(HashMap<String, Vec<PlayerIndex>>);

impl Barriers {
    /// A player has come to the barrier of `key`. Gives all of them once there are `size`, else nobody.
    pub(crate) fn come(&mut self, key: String, player: PlayerIndex, size: u16) -> Vec<PlayerIndex> {
        let mut here = self.0.remove(&key).unwrap_or_default();
        here.push(player);
        if here.len() < usize::from(size) {
            self.0.insert(key, here);
            return Vec::new();
        }
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_come_lets_all_go_and_the_barrier_stands_again() {
        let [one, two, three] = [1, 2, 3].map(PlayerIndex);
        let mut barriers = Barriers::default();
        for _round in 0..2 {
            assert_eq!(barriers.come("a".into(), one, 2), []);
            assert_eq!(barriers.come("b".into(), two, 2), []);
            assert_eq!(barriers.come("a".into(), three, 2), [one, three]);
            assert_eq!(barriers.come("b".into(), one, 2), [two, one]);
        }
    }
}
