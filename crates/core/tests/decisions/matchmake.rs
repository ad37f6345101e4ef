//! Who plays together: the rules as a table, fairness as laws.

use std::collections::BTreeMap;

use greenroom_core::matchmake::{self, Limits, Match, Rules, Ticket};
use greenroom_core::{PlayerId, TicketId, Timestamp};
use proptest::prelude::*;

pub(crate) fn ticket(id: &str, size: usize, at: u64) -> Ticket {
    let players = (0..size).map(|n| format!("{id}-{n}").parse::<PlayerId>().unwrap()).collect();
    Ticket {
        id: id.parse().unwrap(),
        players,
        enqueued_at: Timestamp::from_unix_ms(at),
        rating: 0,
        keyword: None,
        values: Vec::new(),
    }
}

fn plan(tickets: &[Ticket], players: u16, matches_max: usize) -> Vec<Match> {
    let limits = Limits { matches_max, work_max: u64::MAX };
    matchmake::plan(tickets, &Rules::first_come(players), Timestamp::from_unix_ms(1_000), limits, None)
        .matches
}

/// Tickets from `<id><size>` words, each enqueued a moment after the one before.
fn tickets(text: &str) -> Vec<Ticket> {
    let words = text.split_whitespace().enumerate();
    words.map(|(at, word)| ticket(&word[..1], word[1..].parse().unwrap(), at as u64)).collect()
}

pub(crate) fn words(matches: &[Match]) -> String {
    let texts = matches.iter().map(|m| m.tickets.iter().map(TicketId::as_str).collect::<String>());
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_oldest_play_first_and_parties_stay_together() {
    let cases = [
        ("nobody", "", 4, ""),
        ("too few", "a1 b1 c1", 4, ""),
        ("four of them", "a1 b1 c1 d1 e1", 4, "abcd"),
        ("two matches", "a1 b1 c1 d1 e1 f1 g1 h1", 4, "abcd efgh"),
        ("a party and two", "a2 b1 c1", 4, "abc"),
        ("a party that does not fit is passed over", "a2 b3 c1 d1", 4, "acd"),
        ("and plays as soon as it can", "a2 b3 c1 d1 e1", 4, "acd be"),
        ("who would leave a hole is passed over", "a1 b2 c3", 4, "ac"),
        ("the oldest waits when nobody fits", "a3 b2 c2", 4, "bc"),
        ("a full party plays alone", "a1 b4 c1", 4, "b"),
        ("too large a party never plays", "a5 b1 c1 d1 e1", 4, "bcde"),
        ("an empty one neither", "a0 b1 c1", 2, "bc"),
        ("matches of one", "a1 b1", 1, "a b"),
        ("matches of none", "a1 b1", 0, ""),
    ];
    for (name, text, size, expected) in cases {
        assert_eq!(words(&plan(&tickets(text), size, 100)), expected, "{name}");
    }
}

#[test]
fn ties_go_by_id_and_the_number_of_matches_is_bounded() {
    let same_moment = ["d", "b", "a", "c", "e"].map(|id| ticket(id, 1, 7));
    assert_eq!(words(&plan(&same_moment, 2, 100)), "ab cd");
    assert_eq!(words(&plan(&same_moment, 2, 1)), "ab");
}

#[test]
fn a_large_match_is_filled_from_parties_of_every_size() {
    let tickets: Vec<Ticket> = (0..2_000).map(|n| ticket(&format!("t{n:04}"), n % 7 + 1, n as u64)).collect();
    let matches = plan(&tickets, 1_000, 100);
    assert_eq!(matches.len(), 7, "7,997 players");
}

fn queue() -> impl Strategy<Value = Vec<Ticket>> {
    prop::collection::vec((1usize..6, 0u64..20), 0..40).prop_map(|parts| {
        let numbered = parts.into_iter().enumerate();
        numbered.map(|(n, (size, at))| ticket(&format!("t{n:02}"), size, at)).collect()
    })
}

/// Whether some of these sizes add up to `sum`, by trying.
fn adds_up(sizes: &[usize], sum: usize) -> bool {
    sum == 0
        || sizes.split_first().is_some_and(|(first, rest)| {
            adds_up(rest, sum) || sum.checked_sub(*first).is_some_and(|left| adds_up(rest, left))
        })
}

proptest! {
    #[test]
    fn matches_are_full_share_nobody_and_overtake_nobody(tickets in queue(), size in 1u16..9) {
        let matches = plan(&tickets, size, 1_000);
        let by_id: BTreeMap<&TicketId, &Ticket> = tickets.iter().map(|t| (&t.id, t)).collect();
        let mut matched: BTreeMap<&TicketId, usize> = BTreeMap::new();
        for (at, one) in matches.iter().enumerate() {
            let players: usize = one.tickets.iter().map(|id| by_id[id].players.len()).sum();
            prop_assert_eq!(players, usize::from(size));
            prop_assert!(one.tickets.is_sorted_by_key(|id| (by_id[id].enqueued_at, id.clone())));
            for id in &one.tickets {
                prop_assert!(matched.insert(id, at).is_none(), "{} plays twice", id);
            }
        }
        let place = |t: &Ticket| matched.get(&t.id).copied().unwrap_or(usize::MAX);
        for (older, younger) in tickets.iter().flat_map(|a| tickets.iter().map(move |b| (a, b))) {
            let same_size = older.players.len() == younger.players.len();
            if same_size && (older.enqueued_at, &older.id) < (younger.enqueued_at, &younger.id) {
                prop_assert!(place(older) <= place(younger), "{} overtook {}", younger.id, older.id);
            }
        }
    }

    #[test]
    fn no_full_match_is_left_behind(tickets in queue(), size in 1u16..9) {
        let matches = plan(&tickets, size, 1_000);
        let plays = |t: &&Ticket| matches.iter().any(|m| m.tickets.contains(&t.id));
        let left: Vec<usize> = tickets.iter().filter(|t| !plays(t)).map(|t| t.players.len()).take(14).collect();
        prop_assert!(!adds_up(&left, usize::from(size)), "{:?} could play", left);
    }

    #[test]
    fn the_order_of_the_tickets_does_not_matter(tickets in queue(), size in 1u16..9, most in 1usize..5) {
        let mut turned = tickets.clone();
        turned.reverse();
        prop_assert_eq!(plan(&tickets, size, most), plan(&turned, size, most));
    }
}
