//! Hosts that are taken out of use: their servers are replaced elsewhere, and stopped when nobody is left on them.

use crate::fleet::check;
use crate::support::{fleet, mesh};

#[test]
fn servers_of_a_drained_host_are_replaced_at_once_and_stopped_once_others_are_there() {
    check(
        fleet,
        &[
            (
                "others are started at once",
                (2, 8),
                "a draining drained idle=9, b draining drained rooms=1",
                "2: start start ? starting 2",
            ),
            (
                "an idle one stays until they answer",
                (1, 4),
                "a draining drained idle=9, b starting",
                "1: ? starting 1",
            ),
            ("then it goes", (1, 4), "a draining drained idle=9, b ready", "1: stop a HostDrained"),
            (
                "but not before who was sent to it is seen",
                (1, 4),
                "a draining drained idle=2, b ready",
                "1: @ 1",
            ),
            ("a busy one is never stopped", (1, 4), "a draining drained rooms=1, b ready", "1:"),
            ("nor given back", (2, 4), "a draining drained rooms=1, b ready", "2: start ? starting 1"),
            (
                "one that does not answer yet is of no use",
                (1, 4),
                "a starting drained since=1, b ready",
                "1: stop a HostDrained",
            ),
            (
                "and another is started instead",
                (1, 4),
                "a starting drained since=1",
                "1: start stop a HostDrained ? starting 1",
            ),
            (
                "at the maximum an idle one makes room",
                (1, 1),
                "a draining drained idle=9",
                "1: stop a HostDrained ? at maximum 2/1",
            ),
            ("a busy one does not", (1, 1), "a draining drained rooms=1", "1: ? at maximum 2/1"),
            ("with none wanted it goes", (0, 4), "a draining drained idle=9", "0: stop a HostDrained"),
            (
                "an old one goes for the same reason",
                (1, 4),
                "a draining old drained idle=9, b ready",
                "1: stop a HostDrained",
            ),
        ],
    );
    check(
        mesh,
        &[
            (
                "players of a mesh leave by themselves",
                (1, 4),
                "a draining drained connections=9, b ready",
                "1:",
            ),
            ("then it goes", (1, 4), "a draining drained idle=9, b ready", "1: stop a HostDrained"),
        ],
    );
}
