//! Servers that leak are replaced between two rooms: the limits, and what a worn server may and may not be.

use std::time::Duration;

use crate::fleet::check;
use crate::support::{fleet, mesh, servers};
use greenroom_core::allocate::{Candidates, Selector};
use greenroom_core::fleet::{Recycle, Wear};

fn wear(age_s: u64, rooms: Option<u32>, memory_mib: Option<u64>) -> Wear {
    Wear { age: Duration::from_secs(age_s), rooms, memory_bytes: memory_mib.map(|mib| mib << 20) }
}

#[test]
fn a_server_is_worn_by_the_first_limit_it_reaches_and_says_which() {
    let all = Recycle { age: Some(Duration::from_mins(1)), rooms: Some(5), memory_bytes: Some(300 << 20) };
    let cases = [
        ("nothing is reached", all, wear(59, Some(4), Some(299)), None),
        ("age", all, wear(60, Some(4), None), Some("worn out: 60 s old, 60 s allowed")),
        ("rooms", all, wear(60, Some(5), Some(1)), Some("worn out: 5 rooms served, 5 allowed")),
        ("memory", all, wear(90, Some(9), Some(301)), Some("worn out: 301 MiB of memory, 300 MiB allowed")),
        ("what nobody measures wears nobody out", all, wear(1, None, None), None),
        ("no limits", Recycle::default(), wear(1_000_000, Some(1_000_000), Some(1 << 40)), None),
    ];
    for (name, recycle, wear, expected) in cases {
        assert_eq!(recycle.worn(&wear).map(|worn| worn.to_string()).as_deref(), expected, "{name}");
    }
}

#[test]
fn a_worn_server_is_replaced_first_then_emptied_and_stopped_only_when_nobody_is_left() {
    check(
        fleet,
        &[
            ("a replacement first", (1, 4), "a allocated worn rooms=1", "1: start ? starting 1"),
            ("it stays until that answers", (1, 4), "a allocated worn rooms=1, b starting", "1:"),
            (
                "then it gets nothing new, busy as it is",
                (1, 4),
                "a allocated worn rooms=1, b ready",
                "1: cordon a Worn",
            ),
            ("and is not stopped under a room", (1, 4), "a draining worn rooms=1, b ready", "1:"),
            (
                "nor given back when more is wanted",
                (2, 4),
                "a draining worn rooms=1, b ready",
                "2: start ? starting 1",
            ),
            ("but when it is empty", (1, 4), "a draining worn idle=3, b ready", "1: stop a Worn"),
            ("an idle one is replaced first too", (2, 4), "a ready worn, b ready", "2: start ? starting 1"),
            (
                "one that was too many and has worn out meanwhile is not given back",
                (2, 4),
                "a draining cordoned worn rooms=1, b ready",
                "2: start ? starting 1",
            ),
            ("with none wanted it just goes", (0, 4), "a ready worn", "0: cordon a Worn"),
            (
                "what is too many is worn before it is fresh",
                (1, 4),
                "a allocated worn rooms=1, b ready idle=90",
                "1: cordon a Worn",
            ),
            ("one that does not answer has done nothing", (1, 4), "a starting worn", "1: ? starting 1"),
        ],
    );
    check(
        mesh,
        &[
            ("a mesh server too", (1, 4), "a ready worn connections=9", "1: start ? starting 1"),
            (
                "goes when its players have gone",
                (1, 4),
                "a ready worn connections=9, b ready",
                "1: cordon a Worn",
            ),
        ],
    );
}

#[test]
fn worn_servers_are_replaced_one_at_a_time() {
    check(
        fleet,
        &[
            (
                "one start for three",
                (3, 9),
                "a allocated worn rooms=1, b allocated worn rooms=1, c allocated worn rooms=1",
                "3: start ? starting 1",
            ),
            (
                "then one goes",
                (3, 9),
                "a allocated worn rooms=1, b allocated worn rooms=1, c allocated worn rooms=1, d ready",
                "3: start cordon a Worn ? starting 1",
            ),
            (
                "outdated and idle before worn and busy",
                (2, 9),
                "a allocated worn rooms=1, b ready old, c ready",
                "2: start cordon b Outdated ? starting 1",
            ),
        ],
    );
}

#[test]
fn at_the_maximum_one_goes_before_its_replacement_comes() {
    check(
        fleet,
        &[
            ("an idle one", (2, 2), "a ready worn, b ready", "2: cordon a Worn ? at maximum 3/2"),
            ("even the only one", (1, 1), "a ready worn", "1: cordon a Worn ? at maximum 2/1"),
            (
                "not the only one while somebody is on it",
                (1, 1),
                "a allocated worn rooms=1",
                "1: ? at maximum 2/1",
            ),
            (
                "a busy one while another takes players",
                (2, 2),
                "a allocated worn rooms=1, b allocated rooms=1",
                "2: cordon a Worn ? at maximum 3/2",
            ),
            (
                "no second one before the first is replaced",
                (2, 2),
                "a draining worn rooms=1, b allocated worn rooms=1",
                "2: ? at maximum 3/2",
            ),
            (
                "nor while that starts",
                (2, 2),
                "a starting, b allocated worn rooms=1",
                "2: ? starting 1 ? at maximum 3/2",
            ),
        ],
    );
}

#[test]
fn a_new_room_goes_to_a_fresh_server_while_one_has_a_place() {
    let fleet = fleet(0, 9);
    for (text, expected) in [
        ("a allocated worn rooms=1, b ready", Some("b")),
        ("a allocated worn rooms=1, b allocated rooms=2", Some("a")),
        ("a ready worn, b ready old", Some("a")),
    ] {
        let servers = servers(text);
        let chosen = Candidates::of(&fleet, &servers).choose(&fleet, &servers, &Selector::default(), [0, 0]);
        assert_eq!(chosen.map(|chosen| chosen.server.to_string()).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_worn_fleet_is_fresh_again_without_a_single_stop_of_a_busy_server() {
    check(
        fleet,
        &[
            (
                "both are worn",
                (2, 3),
                "a allocated worn rooms=1, b allocated worn rooms=1",
                "2: start ? starting 1",
            ),
            (
                "the first is emptied",
                (2, 3),
                "a allocated worn rooms=1, b allocated worn rooms=1, c ready",
                "2: cordon a Worn ? at maximum 4/3",
            ),
            (
                "as long as that takes",
                (2, 3),
                "a draining worn rooms=1, b allocated worn rooms=1, c ready",
                "2: ? at maximum 4/3",
            ),
            (
                "it goes",
                (2, 3),
                "a draining worn idle=3, b allocated worn rooms=1, c allocated rooms=1",
                "2: stop a Worn ? at maximum 4/3",
            ),
            (
                "the second one's turn",
                (2, 3),
                "a stopped worn, b allocated worn rooms=1, c allocated rooms=1",
                "2: start ? starting 1",
            ),
            (
                "is emptied",
                (2, 3),
                "b allocated worn rooms=1, c allocated rooms=1, d ready",
                "2: cordon b Worn",
            ),
            ("and goes", (2, 3), "b draining worn idle=4, c allocated rooms=1, d ready", "2: stop b Worn"),
            ("all is fresh", (2, 3), "c allocated rooms=1, d ready", "2:"),
        ],
    );
}
