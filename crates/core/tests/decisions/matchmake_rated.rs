//! Who plays together where ratings, keywords and attributes count: the rules as a table, their promises as laws.
//!
//! A failing law prints the tickets, and proptest the seed that makes them again.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::matchmake::{
    Clock, Explanation, Limits, Match, Plan, RatingRule, Rejection, Resume, Rules, Smaller, Ticket, WaitsFor,
    explain, plan,
};
use greenroom_core::{TicketId, Timestamp};
use proptest::prelude::*;

use super::matchmake::{ticket, words};

const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);
const UNLIMITED: Limits = Limits { matches_max: usize::MAX, work_max: u64::MAX };

/// 100 at first, 50 more every 5 s, at most 300.
const RATING: RatingRule = RatingRule {
    window: 100,
    widens_by: 50,
    every: Duration::from_secs(5),
    window_max: 300,
    clock: Clock::LongestWaiting,
    unrated: None,
};

fn rules(players: u16, clock: Clock) -> Rules {
    Rules { players, smaller: None, by: vec!["mode".into()], rating: Some(RatingRule { clock, ..RATING }) }
}

/// A ticket from `<id><size> <rating> [<seconds waited>] [k=keyword] [mode]`.
fn one(text: &str) -> Ticket {
    let mut words = text.split_whitespace();
    let (id, size) = words.next().unwrap().split_at(1);
    let mut built = ticket(id, size.parse().unwrap(), 0);
    built.rating = words.next().unwrap().parse().unwrap();
    built.enqueued_at = NOW;
    built.values = vec!["duel".into()];
    for word in words {
        match (word.parse::<u64>(), word.strip_prefix("k=")) {
            (Ok(seconds), _) => built.enqueued_at = NOW - Duration::from_secs(seconds),
            (Err(_), Some(keyword)) => built.keyword = Some(keyword.into()),
            (Err(_), None) => built.values = vec![word.into()],
        }
    }
    built
}

/// Tickets from descriptions between commas.
fn tickets(text: &str) -> Vec<Ticket> {
    text.split(',').filter(|text| !text.trim().is_empty()).map(one).collect()
}

fn told(players: u16, clock: Clock, text: &str) -> String {
    words(&plan(&tickets(text), &rules(players, clock), NOW, UNLIMITED, None).matches)
}

#[test]
fn ratings_are_as_close_as_the_longest_wait_asks() {
    let cases = [
        ("two close ones", 2, "a1 1500, b1 1600", "ab"),
        ("two far ones", 2, "a1 1500, b1 1601", ""),
        ("far, and waited for a step", 2, "a1 1500 5, b1 1650", "ab"),
        ("a moment before the step", 2, "a1 1500 4, b1 1650", ""),
        ("never wider than the widest", 2, "a1 1500 900, b1 1801", ""),
        ("as wide as the widest", 2, "a1 1500 900, b1 1800", "ab"),
        ("the closest, not the oldest", 2, "a1 1500 9, b1 1560 8, c1 1510 1", "ac"),
        ("the longest-waiting first", 2, "a1 1500 9, b1 1560 8, c1 1510 7, d1 1600", "ac bd"),
        ("the window is of all", 3, "a1 1500, b1 1600, c1 1700", ""),
        ("around the one who waits", 3, "a1 1600 10, b1 1500, c1 1700", "abc"),
        ("both sides are looked at", 4, "a1 1500 5, b1 1450, c1 1470, d1 1550, e1 1700", "abcd"),
        ("equal ratings: first come", 2, "a1 7 3, b1 7 2, c1 7 1", "ab"),
        ("below zero", 2, "a1 -2147483648 900, b1 2147483647 900, c1 -2147483600", "ac"),
        ("a party counts as one", 4, "a2 1500, b1 1450, c1 1540", "abc"),
        ("a party stays whole", 4, "a3 1500, b2 1500, c1 1560", "ac"),
        ("the sizes that add up closest", 4, "a2 1500, b2 1590, c1 1480, d1 1520", "acd"),
        ("sizes that never add up", 5, "a2 1500, b2 1500, c2 1500", ""),
        ("a full party plays alone", 4, "a4 9999", "a"),
        ("modes do not mix", 2, "a1 1500 duel, b1 1500 team", ""),
        ("and each finds its own", 2, "a1 1 duel, b1 1 team, c1 1 team, d1 1 duel", "ad bc"),
        ("friends play whatever their ratings", 2, "a1 1 k=x, b1 9999 k=x", "ab"),
        ("but not with others", 2, "a1 1500 k=x, b1 1500", ""),
        ("nor with other friends", 2, "a1 1500 k=x, b1 1500 k=y", ""),
        ("nor in another mode", 2, "a1 1500 k=x duel, b1 1500 k=x team", ""),
    ];
    for (name, players, text, expected) in cases {
        assert_eq!(told(players, Clock::LongestWaiting, text), expected, "{name}");
    }
}

#[test]
fn with_the_strictest_clock_nobody_plays_wider_than_the_own_wait_allows() {
    let cases = [
        ("one waited, the other did not", 2, "a1 1500 20, b1 1700", ""),
        ("both waited", 2, "a1 1500 20, b1 1700 10", "ab"),
        ("close ones need no wait", 2, "a1 1500 20, b1 1599", "ab"),
        ("the wide pass is for those who waited", 2, "a1 1500 20, b1 1700 20, c1 1510", "ab"),
        ("a newcomer between two far ones", 3, "a1 1500 20, b1 1700 20, c1 1600", ""),
        ("parties too", 4, "a2 1500 20, b2 1700 20, c2 1500", "ab"),
        ("friends need no window", 2, "a1 1 k=x, b1 900 k=x, c1 1, d1 900", "ab"),
        ("friends alone", 2, "a1 1 k=x, b1 900 k=x", "ab"),
    ];
    for (name, players, text, expected) in cases {
        assert_eq!(told(players, Clock::Strictest, text), expected, "{name}");
    }
}

#[test]
fn who_has_lost_patience_plays_with_fewer_but_only_when_no_full_match_is_there() {
    let smaller = Some(Smaller { players_min: 2, patience: Duration::from_secs(30) });
    let cases = [
        ("patient ones wait", "a1 1500 29, b1 1500 29", ""),
        ("one is enough to lose it", "a1 1500 30, b1 1500", "ab"),
        ("as many as possible", "a1 1500 30, b1 1500, c1 1500", "abc"),
        ("a full one is better", "a1 1500 30, b1 1500, c1 1500, d1 1500", "abcd"),
        ("never below the least", "a1 1500 30", ""),
        ("others are not drawn out of full ones", "a1 1000 30, b1 1300, c1 1310, d1 1320, e1 1330", "bcde"),
        ("friends lose it as well", "a1 1 30 k=x, b1 900 k=x", "ab"),
    ];
    for clock in Clock::ALL {
        let rules = Rules { smaller, ..rules(4, clock) };
        for (name, text, expected) in cases {
            let matches = plan(&tickets(text), &rules, NOW, UNLIMITED, None).matches;
            assert_eq!(words(&matches), expected, "{name}, {}", clock.name());
        }
    }
}

#[test]
fn a_plan_tells_when_time_alone_would_change_it() {
    let wake = |rules: &Rules, text: &str| {
        let at = plan(&tickets(text), rules, NOW, UNLIMITED, None).wake_at;
        at.map(|at| at.since(NOW).as_secs())
    };
    let rated = rules(2, Clock::LongestWaiting);
    assert_eq!(wake(&rated, "a1 1500 3"), Some(2));
    assert_eq!(wake(&rated, "a1 1500 5, b1 3000 13"), Some(2));
    assert_eq!(wake(&rated, "a1 1500 20"), None, "as wide as it gets");
    assert_eq!(wake(&rated, "a1 1500 3 k=x"), None, "ratings do not count");
    assert_eq!(wake(&Rules::first_come(2), "a1 1500 3"), None);
    let smaller = Some(Smaller { players_min: 1, patience: Duration::from_secs(30) });
    assert_eq!(wake(&Rules { smaller, ..Rules::first_come(2) }, "a1 0 3, b1 0 40"), Some(27));
}

fn why(id: &str, players: u16, clock: Clock, text: &str) -> Explanation {
    explain(&tickets(text), &id.parse().unwrap(), &rules(players, clock), NOW, u64::MAX).unwrap()
}

#[test]
fn an_explanation_counts_what_each_rule_keeps_away_and_tells_what_it_waits_for() {
    let text = "a1 1500 7, b1 1500 team, c1 1500 k=x, d2 1500, e1 1640, f1 1660, g1 1800";
    let told = why("a", 2, Clock::LongestWaiting, text);
    let rejected: Vec<(Rejection, u32)> =
        told.rejected.into_iter().map(|one| (one.rule, one.tickets)).collect();
    let mode = Rejection::Attribute("mode".into());
    assert_eq!(rejected, [(Rejection::Keyword, 1), (mode, 1), (Rejection::Size, 1), (Rejection::Rating, 2)]);
    assert_eq!((told.others, told.candidates), (6, 0));
    assert_eq!(told.waits_for, WaitsFor::Place, "e plays with it once there is a place");

    let seconds = |told: &Explanation| told.match_at.map(|at| at.since(NOW).as_secs());
    for (name, clock, text, waits_for, match_at) in [
        ("alone", Clock::LongestWaiting, "a1 1500 7", WaitsFor::Players(2), None),
        ("one in reach", Clock::LongestWaiting, "a1 1500 7, b1 1500", WaitsFor::Players(1), None),
        (
            "in reach later",
            Clock::LongestWaiting,
            "a1 1500 7, b1 1520, c1 1700",
            WaitsFor::Players(1),
            Some(3),
        ),
        ("too far apart", Clock::LongestWaiting, "a1 1500 7, b1 1400, c1 1600", WaitsFor::Spread, Some(3)),
        ("never", Clock::LongestWaiting, "a1 1500 7, b1 1520, c1 2000", WaitsFor::Players(1), None),
        ("sizes", Clock::LongestWaiting, "a2 1500 7, b2 1500, c2 1500", WaitsFor::Players(1), None),
        (
            "the younger's wait",
            Clock::Strictest,
            "a1 1500 7, b1 1520 7, c1 1700",
            WaitsFor::Players(1),
            Some(10),
        ),
        ("friends", Clock::LongestWaiting, "a1 1 7 k=x, b1 1 k=x, c1 1", WaitsFor::Players(1), None),
    ] {
        let told = why("a", 3, clock, text);
        assert_eq!((told.waits_for, seconds(&told)), (waits_for, match_at), "{name}");
    }
    let odd = why("a", 5, Clock::LongestWaiting, "a2 1500 7, b2 1500, c2 1500");
    assert_eq!(odd.waits_for, WaitsFor::Sizes);
    let taken = why("c", 2, Clock::LongestWaiting, "a1 1500 7, b1 1500 5, c1 1500");
    assert_eq!((taken.taken, taken.candidates, taken.waits_for), (2, 0, WaitsFor::Players(1)));
    assert_eq!(explain(&tickets("a1 1"), &"b".parse().unwrap(), &rules(2, Clock::Strictest), NOW, 99), None);
}

fn clocks() -> impl Strategy<Value = Clock> {
    prop::sample::select(Clock::ALL.to_vec())
}

/// Few values, so that they meet.
fn pool(most: usize) -> impl Strategy<Value = Vec<Ticket>> {
    let part = (1usize..5, 0i32..12, 0u64..30, 0u8..8, 0u8..6);
    prop::collection::vec(part, 0..most).prop_map(|parts| {
        let numbered = parts.into_iter().enumerate();
        let build = |(n, (size, rating, waited, keyword, mode)): (usize, (usize, i32, u64, u8, u8))| Ticket {
            rating: rating * 50,
            enqueued_at: NOW - Duration::from_secs(waited),
            keyword: (keyword < 2).then(|| format!("k{keyword}").into()),
            values: vec![if mode == 0 { "team".into() } else { "duel".into() }],
            ..ticket(&format!("t{n:03}"), size, 0)
        };
        numbered.map(build).collect()
    })
}

fn shuffled(tickets: &[Ticket], seed: u64) -> Vec<Ticket> {
    let mut mixed = tickets.to_vec();
    let mut state = seed;
    for at in (1..mixed.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        mixed.swap(at, (state >> 33) as usize % (at + 1));
    }
    mixed
}

/// Whether the rules let these play together, said in another way than the matchmaker does.
fn is_legal(members: &[&Ticket], rules: &Rules) -> bool {
    let players: usize = members.iter().map(|one| one.players.len()).sum();
    let same = members.iter().all(|one| one.keyword == members[0].keyword && one.values == members[0].values);
    let waits = || members.iter().map(|one| NOW.since(one.enqueued_at));
    let full = players == usize::from(rules.players);
    let smaller = rules.smaller.is_some_and(|smaller| {
        let sizes = usize::from(smaller.players_min)..usize::from(rules.players);
        sizes.contains(&players) && waits().max() >= Some(smaller.patience)
    });
    let rating = rules.rating.filter(|_| members[0].keyword.is_none());
    let close = rating.is_none_or(|rule| {
        let wait = match rule.clock {
            Clock::LongestWaiting => waits().max().unwrap(),
            Clock::Strictest => waits().min().unwrap(),
        };
        let highest = members.iter().map(|one| one.rating).max().unwrap();
        let lowest = members.iter().map(|one| one.rating).min().unwrap();
        let window = (100 + 50 * (wait.as_secs() / 5)).min(300);
        i64::from(highest) - i64::from(lowest) <= i64::try_from(window).unwrap()
    });
    same && (full || smaller) && close
}

/// Whether any choice of these, with what is chosen already, may play: by trying all.
fn any_legal<'a>(left: &[&'a Ticket], chosen: &mut Vec<&'a Ticket>, rules: &Rules) -> bool {
    let players: usize = chosen.iter().map(|one| one.players.len()).sum();
    if !chosen.is_empty() && is_legal(chosen, rules) {
        return true;
    }
    if players >= usize::from(rules.players) {
        return false;
    }
    left.iter().enumerate().any(|(at, next)| {
        chosen.push(next);
        let found = any_legal(&left[at + 1..], chosen, rules);
        chosen.pop();
        found
    })
}

fn left<'a>(tickets: &'a [Ticket], matches: &[Match]) -> Vec<&'a Ticket> {
    let plays = |one: &&Ticket| matches.iter().any(|each| each.tickets.contains(&one.id));
    tickets.iter().filter(|one| !plays(one)).collect()
}

/// Calls in turn, each within `limits`, the matched taken away, until a round is through.
fn in_turn(tickets: &[Ticket], rules: &Rules, limits: Limits) -> (Vec<Match>, usize) {
    let (mut waiting, mut matches, mut calls) = (tickets.to_vec(), Vec::new(), 0);
    let mut resume: Option<Resume> = None;
    loop {
        let Plan { matches: found, resume: next, .. } = plan(&waiting, rules, NOW, limits, resume.as_ref());
        assert!(found.len() <= limits.matches_max);
        waiting.retain(|one| !found.iter().any(|each| each.tickets.contains(&one.id)));
        matches.extend(found);
        calls += 1;
        assert!(calls <= 2 * 8 * (tickets.len() + 1), "a round ends");
        if next.is_none() {
            return (matches, calls);
        }
        resume = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_match_is_legal_and_nobody_is_in_two(
        tickets in pool(80), clock in clocks(), size in 1u16..7, patient in any::<bool>(),
    ) {
        let smaller = (!patient).then_some(Smaller { players_min: 1, patience: Duration::from_secs(12) });
        let rules = Rules { smaller: smaller.filter(|_| size > 1), ..rules(size, clock) };
        let matches = plan(&tickets, &rules, NOW, UNLIMITED, None).matches;
        let by_id: BTreeMap<&TicketId, &Ticket> = tickets.iter().map(|one| (&one.id, one)).collect();
        let mut seen = std::collections::BTreeSet::new();
        for each in &matches {
            let members: Vec<&Ticket> = each.tickets.iter().map(|id| by_id[id]).collect();
            prop_assert!(is_legal(&members, &rules), "{members:?}");
            prop_assert!(members.is_sorted_by_key(|one| (one.enqueued_at, one.id.clone())));
            for id in &each.tickets {
                prop_assert!(seen.insert(id.clone()), "{} plays twice", id);
            }
        }
    }

    #[test]
    fn nobody_starves_no_match_is_left_behind(
        tickets in pool(22), clock in clocks(), size in 1u16..6, patient in any::<bool>(),
    ) {
        let smaller = (!patient).then_some(Smaller { players_min: 2, patience: Duration::from_secs(12) });
        let rules = Rules { smaller: smaller.filter(|_| size > 2), ..rules(size, clock) };
        let matches = plan(&tickets, &rules, NOW, UNLIMITED, None).matches;
        let left = left(&tickets, &matches);
        prop_assert!(!any_legal(&left, &mut Vec::new(), &rules), "{:?} have a match among them", left);
    }

    #[test]
    fn the_order_of_tickets_does_not_matter(
        tickets in pool(60), clock in clocks(), size in 1u16..7, seed in any::<u64>(), work_max in 1u64..500,
    ) {
        let (rules, mixed) = (rules(size, clock), shuffled(&tickets, seed));
        for limits in [UNLIMITED, Limits { matches_max: 3, work_max }] {
            prop_assert_eq!(plan(&tickets, &rules, NOW, limits, None), plan(&mixed, &rules, NOW, limits, None));
        }
    }

    #[test]
    fn what_a_limit_leaves_is_matched_by_the_next_calls(
        tickets in pool(22), clock in clocks(), size in 1u16..6, work_max in 1u64..60, matches_max in 1usize..4,
    ) {
        let rules = rules(size, clock);
        let (matches, calls) = in_turn(&tickets, &rules, Limits { matches_max, work_max });
        let left = left(&tickets, &matches);
        prop_assert!(!any_legal(&left, &mut Vec::new(), &rules), "{left:?} have a match among them after {calls}");
    }

    #[test]
    fn the_longest_waiting_with_a_match_plays_first(tickets in pool(22), size in 1u16..6) {
        let rules = rules(size, Clock::LongestWaiting);
        let one = Limits { matches_max: 1, work_max: u64::MAX };
        let matches = plan(&tickets, &rules, NOW, one, None).matches;
        let mut by_age: Vec<&Ticket> = tickets.iter().collect();
        by_age.sort_by_key(|one| (one.enqueued_at, one.id.clone()));
        let first = by_age.iter().find(|anchor| {
            let others: Vec<&Ticket> = tickets.iter().filter(|one| one.id != anchor.id).collect();
            any_legal(&others, &mut vec![**anchor], &rules)
        });
        match first {
            Some(first) => prop_assert!(matches[0].tickets.contains(&first.id), "{} is passed over", first.id),
            None => prop_assert!(matches.is_empty()),
        }
    }

    #[test]
    fn an_explanation_agrees_with_the_plan(tickets in pool(40), clock in clocks(), size in 1u16..7) {
        let rules = rules(size, clock);
        let matches = plan(&tickets, &rules, NOW, UNLIMITED, None).matches;
        let free = left(&tickets, &matches);
        for own in tickets.iter().filter(|own| own.players.len() <= usize::from(size)) {
            let told = explain(&tickets, &own.id, &rules, NOW, u64::MAX).unwrap();
            let plays = !free.iter().any(|one| one.id == own.id);
            prop_assert_eq!(told.waits_for == WaitsFor::Place, plays, "{}", own.id);
            let counted: u32 = told.rejected.iter().map(|one| one.tickets).sum();
            prop_assert_eq!(counted + told.taken + told.candidates, told.others);
            if let Some(at) = told.match_at {
                // If nobody comes or goes, it plays by then.
                prop_assert!(at > NOW);
                let alone: Vec<Ticket> = free.iter().map(|one| (*one).clone()).collect();
                let later = plan(&alone, &rules, at, UNLIMITED, None).matches;
                let among: Vec<&Match> = later.iter().filter(|each| each.tickets.contains(&own.id)).collect();
                let early = !among.is_empty() || !later.is_empty();
                prop_assert!(early, "{} was to play at {:?}", own.id, at);
            }
        }
    }
}
