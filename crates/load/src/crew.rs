//! Owns the making of players: name, role, arrival and choices of each follow from the seed and their number alone.
//! Never depends on how players are shared out over processes.

use std::ops::Range;

use crate::{
    draws::Draws,
    player::Player,
    scenario::{Role, Scenario, player_name},
};

/// The players of these numbers: name, role, arrival and choices follow from the seed alone.
pub(crate) fn players(scenario: &Scenario, numbers: Range<u32>) -> Vec<Player> {
    let size = u32::from(scenario.group_players);
    let each = if scenario.together { size } else { 1 };
    let moments = scenario.arrival.moments(scenario.seed, numbers.end.div_ceil(each));
    numbers
        .map(|index| {
            let peer = scenario.peers.pick(Draws::new(scenario.seed, (1 << 40) | u64::from(index)).share());
            let role = Role { index, group: index / size, seed: scenario.seed, peer };
            let at = moments[usize::try_from(index / each).expect("a u32 fits an index")];
            let mut draws = Draws::new(scenario.seed, u64::from(index));
            // The first draw may have been the arrival.
            draws.bits();
            Player::new(&player_name(scenario.seed, index), role, at, draws)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SwarmConfig;

    #[test]
    fn the_seed_settles_names_and_arrivals_however_the_players_are_shared_out() {
        let config = SwarmConfig { seed: 3, ..SwarmConfig::default() };
        let arrivals = |seed, numbers: Range<u32>| -> Vec<_> {
            let scenario = SwarmConfig { seed, ..config.clone() }.scenario();
            players(&scenario, numbers)
                .iter()
                .map(|player| (player.name().to_owned(), player.wake_at()))
                .collect()
        };
        let whole = arrivals(3, 0..200);
        assert_eq!(whole, arrivals(3, 0..200));
        assert_eq!(whole, [arrivals(3, 0..80), arrivals(3, 80..200)].concat());
        assert_ne!(whole, arrivals(4, 0..200));
        assert!(whole.iter().all(|(_, at)| at.is_some_and(|at| at < config.ramp)));
        assert_eq!(whole[7].0, "swarm-3-7");
    }

    #[test]
    fn players_of_a_group_may_come_at_one_moment() {
        let scenario = Scenario { together: true, ..SwarmConfig::default().scenario() };
        let arrivals: Vec<_> = players(&scenario, 0..8).iter().map(Player::wake_at).collect();
        assert!(arrivals[..4].iter().all(|at| *at == arrivals[0]), "{arrivals:?}");
        assert_ne!(arrivals[0], arrivals[4]);
    }
}
