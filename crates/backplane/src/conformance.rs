//! What every backplane must do, driven through ways alone: for the memory, the agent and Redis alike.
//! Never knows what is behind a way, and never looks at a clock but where a law is about time.

mod peer;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, NotRestored, Own, Pid, Position};
use greenroom_wire::link::{MeshMessage, MeshSend, MeshTold};
use serde_json::json;

pub use peer::{Peer, relay};
pub use rooms::{
    a_room_goes_from_process_to_process, rooms_are_kept_for_a_time, what_was_answered_survives_its_process,
};

use crate::Limits;
use crate::way::{FromBackplane, ToBackplane, Way};

/// The limits that a stand must have.
#[must_use]
pub fn limits() -> Limits {
    Limits { history_bytes_max: 1 << 20, own_bytes_max: 16 << 10, rooms_max: 2, ..Limits::default() }
}

/// A backplane under test.
pub struct Stand<'a> {
    /// Makes a way for a node. A node of this name that had one before has dropped it.
    pub way: &'a mut dyn FnMut(InstanceId) -> Way,
    /// How inexactly the backplane knows when a node has gone.
    pub gone_within: Duration,
}

const WINDOW: Duration = Duration::from_millis(1500);
const WINDOW_MS: u64 = 1500;
/// How exact clocks of milliseconds are.
const CLOCK: Duration = Duration::from_millis(20);
/// A session that is over may be remembered a little longer.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(500);
/// For laws that are not about time.
const LONG_MS: u64 = 120_000;

/// All laws, one after another, each in a namespace of its own.
///
/// # Panics
/// At the first that does not hold.
pub async fn all(stand: &mut Stand<'_>) {
    everybody_reads_one_order(stand).await;
    nothing_is_handled_twice(stand).await;
    pages_are_whole_or_say_where_they_begin(stand).await;
    own_events_have_their_place_between_the_others(stand).await;
    a_session_goes_from_node_to_node(stand).await;
    a_number_is_its_node_s_alone(stand).await;
    what_a_session_keeps_is_bounded(stand).await;
    windows_are_times(stand).await;
    a_history_that_lost_something_begins_anew(stand).await;
    nodes_tell_and_ask_each_other(stand).await;
    a_room_goes_from_process_to_process(stand).await;
    what_was_answered_survives_its_process(stand).await;
    rooms_are_kept_for_a_time(stand).await;
}

fn named(name: &str) -> InstanceId {
    name.parse().expect("tests name nodes well")
}

async fn join(stand: &mut Stand<'_>, name: &str, namespace: &str, window_ms: u64) -> Peer {
    let mut peer = Peer::new(named(name), (stand.way)(named(name)), namespace, window_ms);
    peer.until("being attached", |peer| peer.at.is_some()).await;
    peer
}

/// Several nodes publish at once: all see the same, without a gap.
///
/// # Panics
/// If it does not hold; so for all laws.
pub async fn everybody_reads_one_order(stand: &mut Stand<'_>) {
    const EACH: usize = 300;
    let mut peers = Vec::new();
    for name in ["order-a.0", "order-b.0", "order-c.0"] {
        peers.push(join(stand, name, "/order", LONG_MS).await);
    }
    for text in 0..EACH {
        for peer in &mut peers {
            peer.publish(&text.to_string());
        }
        if text % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for peer in &mut peers {
        peer.until("all events", |peer| peer.events.len() == 3 * EACH).await;
        assert!(peer.unanswered.is_empty());
        let offsets: Vec<u64> = peer.events.iter().map(|(_, event)| event.offset).collect();
        assert_eq!(offsets, (1..=3 * EACH as u64).collect::<Vec<_>>());
        let mut last = BTreeMap::new();
        for (_, event) in &peer.events {
            let before = last.insert(event.origin.clone(), event.seq);
            assert!(before.is_none_or(|before| before < event.seq), "a node's events keep their order");
        }
    }
    assert!(peers.windows(2).all(|pair| pair[0].events == pair[1].events));
}

/// A node that lost its way gives again what it was not told of.
pub async fn nothing_is_handled_twice(stand: &mut Stand<'_>) {
    let mut there = join(stand, "twice-b.0", "/twice", LONG_MS).await;
    let mut here = join(stand, "twice-a.0", "/twice", LONG_MS).await;
    let mut given = 0;
    for round in 0..5 {
        for text in 0..40 {
            here.publish(&format!("{round}-{text}"));
            given += 1;
        }
        // Some of it is on its way, some was handled, and the answers are lost.
        here.way = (stand.way)(here.name.clone());
        if round % 2 == 0 {
            here.until("some answers", |peer| peer.unanswered.len() < 20).await;
        }
    }
    here.until("all answers", |peer| peer.unanswered.is_empty()).await;
    there.until("all events", |peer| peer.events.len() >= given).await;
    let seqs: Vec<u64> = there.events.iter().map(|(_, event)| event.seq).collect();
    assert_eq!(seqs, (1..=given as u64).collect::<Vec<_>>());
    // Once more, although all of it was answered.
    for (_, event) in &here.events {
        here.say(Command::Publish { seq: event.seq, relay: event.relay.clone() });
    }
    let last = here.publish("last");
    there.until("the last", |peer| peer.events.last().is_some_and(|(_, event)| event.seq == last)).await;
    assert_eq!(there.events.len(), given + 1);
}

/// What was let go is never passed over in silence.
pub async fn pages_are_whole_or_say_where_they_begin(stand: &mut Stand<'_>) {
    const MANY: u64 = 300;
    let mut peer = join(stand, "page-a.0", "/page", LONG_MS).await;
    for _ in 0..40 {
        peer.publish("small");
    }
    peer.until("its events", |peer| peer.unanswered.is_empty()).await;
    let (floor, events) = peer.read(13).await;
    assert_eq!(floor, 0);
    assert_eq!(events.iter().map(|event| event.offset).collect::<Vec<_>>(), (14..=40).collect::<Vec<_>>());
    assert_eq!(events, peer.events[13..].iter().map(|(_, event)| event.clone()).collect::<Vec<_>>());
    assert_eq!(peer.read(40).await, (0, vec![]));
    // More than the History may hold.
    for _ in 40..MANY {
        peer.publish(&"x".repeat(10_000));
        // Whoever reads slower than a whole History is written has a gap; that is not what is tested here.
        peer.until("most of its events", |peer| peer.unanswered.len() < 20).await;
    }
    peer.until("its events", |peer| peer.unanswered.is_empty()).await;
    let (floor, first) = loop {
        let (floor, events) = peer.read(0).await;
        if floor > 100 {
            break (floor, events);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(first[0].offset, floor + 1, "a page begins at what is there");
    let mut next = floor + 1;
    while next <= MANY {
        let (_, events) = peer.read(next - 1).await;
        assert!(!events.is_empty());
        for event in events {
            assert_eq!(event.offset, next);
            next += 1;
        }
    }
    let later = join(stand, "page-b.0", "/page", LONG_MS).await;
    assert_eq!(later.at.map(|(_, head)| head), Some(MANY));
}

/// A node hears of an own event after the events before it and before those behind it.
pub async fn own_events_have_their_place_between_the_others(stand: &mut Stand<'_>) {
    let mut here = join(stand, "own-a.0", "/own", LONG_MS).await;
    let mut there = join(stand, "own-b.0", "/own", LONG_MS).await;
    let (anna, berta) = (here.open("own-anna"), here.open("own-berta"));
    let mut given = Vec::new();
    for round in 0..60 {
        there.publish(&format!("there {round}"));
        given.push(here.own(&anna, 1, "x"));
        if round % 3 == 0 {
            here.publish(&format!("here {round}"));
        }
        if round % 5 == 0 {
            given.push(here.own(&berta, 1, "y"));
            tokio::task::yield_now().await;
            here.catch_up();
        }
    }
    let all = given.len();
    here.until("all places", |peer| peer.owned.len() == all && peer.unanswered.is_empty()).await;
    assert_eq!(here.owned.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), given);
    for (seq, position, last) in &here.owned {
        assert_eq!(position.offset, *last, "own event {seq} was told at its place");
    }
    // The same again has the same places.
    let before = here.sessions[&anna].own.clone();
    assert!(before.windows(2).all(|pair| pair[1].position.is_after(&pair[0].position)));
    let again = &before[before.len() - 1];
    here.say(Command::Own {
        seq: again.seq,
        pid: anna.clone(),
        generation: 1,
        packet: again.packet.clone(),
        attachments: again.attachments.clone(),
    });
    here.until("the place again", |peer| peer.owned.len() == all + 1).await;
    assert_eq!(here.owned[all].1, again.position.0);
    // Read up to the tenth: the others are still there for whoever takes the session.
    let safe = before[9].position.clone();
    here.say(Command::Touch { sessions: vec![(anna.clone(), 1, safe.clone())] });
    there.until("the events", |peer| peer.unanswered.is_empty()).await;
    let taken = here.take(&anna).await.expect("it is here");
    let left: Vec<Own> = before[10..].iter().map(|own| Own { seq: 0, ..own.clone() }).collect();
    assert_eq!((taken.safe, taken.own), (safe, left));
}

/// Compare and set, take over, fence, twice in a row.
pub async fn a_session_goes_from_node_to_node(stand: &mut Stand<'_>) {
    let mut here = join(stand, "go-a.0", "/go", LONG_MS).await;
    let mut there = join(stand, "go-b.0", "/go", LONG_MS).await;
    there.publish("one");
    here.until("the event", |peer| peer.at.is_some_and(|(_, head)| head == 1)).await;
    let pid = here.open("go-anna");
    here.own(&pid, 1, "own");
    let groups = vec!["red".to_owned(), "green".to_owned()];
    here.say(Command::Update { pid: pid.clone(), generation: 1, groups: groups.clone(), data: json!([1]) });
    here.until("its place", |peer| peer.unanswered.is_empty()).await;
    assert_eq!(there.take(&Pid::new("go-nobody")).await, Err(NotRestored::UnknownSession));
    // Its client is there, as far as anybody knows, and yet it has come elsewhere.
    let taken = there.take(&pid).await.expect("it is somewhere");
    assert_eq!(
        (taken.generation, taken.node.as_str(), taken.socket.as_str()),
        (2, "go-b.0", "socket-of-go-anna")
    );
    assert_eq!((&taken.groups, &taken.data, taken.own.len()), (&groups, &json!([1]), 1));
    assert_eq!(taken.own[0].packet, "2[\"own\"]");
    assert_eq!(taken.own[0].attachments, ["AAE="]);
    here.until("being fenced", |peer| !peer.fenced.is_empty()).await;
    assert_eq!(here.fenced, [(pid.clone(), 2)]);
    // The former holder thaws.
    let late = here.own(&pid, 1, "late");
    here.until("an answer", |peer| peer.disowned == [late]).await;
    here.say(Command::Update { pid: pid.clone(), generation: 1, groups: vec![], data: json!(null) });
    here.say(Command::Close { pid: pid.clone(), generation: 1 });
    here.publish("behind all this");
    here.until("the event", |peer| peer.unanswered.is_empty()).await;
    // Twice in a row, and back at once.
    let again = here.take(&pid).await.expect("it is still there");
    assert_eq!((again.generation, &again.groups, &again.data), (3, &groups, &json!([1])));
    let own = here.own(&pid, 3, "own of the third");
    here.until("its place", |peer| peer.unanswered.is_empty()).await;
    assert_eq!(here.owned.last().map(|(seq, ..)| *seq), Some(own));
    // An opening of before.
    there.until("being fenced", |peer| peer.fenced == [(pid.clone(), 3)]).await;
    let again = there.take(&pid).await.expect("it is still there");
    assert_eq!((again.generation, again.own.len()), (4, 2));
    there.say(Command::Close { pid: pid.clone(), generation: 4 });
    there.publish("closed");
    there.until("the event", |peer| peer.unanswered.is_empty()).await;
    assert_eq!(here.take(&pid).await, Err(NotRestored::UnknownSession));
}

/// Nodes count for themselves: an event is not another's that has its number.
pub async fn a_number_is_its_node_s_alone(stand: &mut Stand<'_>) {
    let mut here = join(stand, "count-a.0", "/count", LONG_MS).await;
    let mut there = join(stand, "count-b.0", "/count", LONG_MS).await;
    let pid = here.open("count-anna");
    for number in 1..=5 {
        here.own(&pid, 1, &format!("here {number}"));
    }
    here.until("their places", |peer| peer.owned.len() == 5).await;
    let taken = there.take(&pid).await.expect("it is there");
    // As after a loss of the way: the session is told again, then what was not answered.
    there.say(Command::Open { session: taken });
    for number in 1..=5 {
        there.own(&pid, 2, &format!("there {number}"));
    }
    there.until("their places", |peer| peer.owned.len() == 5).await;
    let taken = here.take(&pid).await.expect("it is there");
    let packets: Vec<&str> = taken.own.iter().map(|own| own.packet.as_str()).collect();
    assert_eq!(packets.len(), 10, "{packets:?}");
    assert!(taken.own.windows(2).all(|pair| pair[1].position.is_after(&pair[0].position)));
}

/// Own events beyond the session's bytes are let go, and it says so.
pub async fn what_a_session_keeps_is_bounded(stand: &mut Stand<'_>) {
    let mut here = join(stand, "much-a.0", "/much", LONG_MS).await;
    let pid = here.open("much-anna");
    for _ in 0..40 {
        here.own(&pid, 1, &"x".repeat(1000));
    }
    here.until("all places", |peer| peer.owned.len() == 40).await;
    let taken = here.take(&pid).await.expect("it is here");
    let lost = taken.own_lost.expect("some were let go");
    let kept: Vec<u32> = taken.own.iter().map(|own| own.position.n).collect();
    assert_eq!(kept, (lost.n + 1..=40).collect::<Vec<_>>());
    assert!(kept.len() > 5 && kept.len() < 20, "{}", kept.len());
}

/// How long a client may be away counts from when it went.
pub async fn windows_are_times(stand: &mut Stand<'_>) {
    let mut here = join(stand, "time-a.0", "/time", WINDOW_MS).await;
    let mut gone = join(stand, "time-b.0", "/time", WINDOW_MS).await;
    let mut asking = join(stand, "time-c.0", "/time", WINDOW_MS).await;
    let mut away = BTreeSet::new();
    for each in 0..40 {
        away.insert((false, here.open(&format!("time-away-{each}"))));
        away.insert((true, gone.open(&format!("time-gone-{each}"))));
    }
    let stays = here.open("time-stays");
    gone.publish("behind the openings");
    gone.until("the event", |peer| peer.unanswered.is_empty()).await;
    let began_at = Instant::now();
    for (_, pid) in away.iter().filter(|(is_crash, _)| !is_crash) {
        here.say(Command::Away { pid: pid.clone(), generation: 1 });
    }
    here.publish("behind the farewells");
    here.until("the event", |peer| peer.unanswered.is_empty()).await;
    drop(gone);
    let all_gone_at = Instant::now();
    let mut seen = BTreeSet::new();
    let mut pace = tokio::time::interval(WINDOW * 5 / 2 / 35);
    let (left, crashed): (Vec<_>, Vec<_>) = away.into_iter().partition(|(is_crash, _)| !is_crash);
    for ((_, left), (_, crashed)) in left.into_iter().zip(crashed) {
        pace.tick().await;
        for (pid, slack) in [(left, CLOCK), (crashed, stand.gone_within + CLOCK)] {
            let asked_at = Instant::now();
            let answer = asking.take(&pid).await.map(|_| ());
            let (at_least, at_most) = (asked_at - all_gone_at, began_at.elapsed() + slack);
            let word = match answer {
                Ok(()) => "taken",
                Err(why) => why.as_str(),
            };
            seen.insert(word);
            let may_be = [
                ("taken", at_least <= WINDOW + slack),
                (
                    "window_over",
                    at_most + CLOCK >= WINDOW && at_least <= WINDOW * 2 + slack + FORGOTTEN_WITHIN,
                ),
                ("unknown_session", at_most + CLOCK >= WINDOW * 2),
            ];
            let is_true = may_be.iter().any(|(may, is_so)| *may == word && *is_so);
            assert!(is_true, "{word} between {at_least:?} and {at_most:?} after it had gone");
        }
    }
    assert_eq!(seen, BTreeSet::from(["taken", "window_over", "unknown_session"]));
    assert!(asking.take(&stays).await.is_ok(), "who is there is not away");
}

/// A node that knows of more than there is: everybody begins anew, and sessions of before say so.
pub async fn a_history_that_lost_something_begins_anew(stand: &mut Stand<'_>) {
    let mut here = join(stand, "anew-a.0", "/anew", LONG_MS).await;
    here.publish("one");
    let pid = here.open("anew-anna");
    here.until("the event", |peer| peer.unanswered.is_empty()).await;
    let (epoch, head) = here.at.expect("attached");
    let mut knows_more = Peer::new(named("anew-b.0"), (stand.way)(named("anew-b.0")), "/anew", LONG_MS);
    knows_more.at = Some((epoch, head + 3));
    knows_more.until("another epoch", |peer| peer.at.is_some_and(|(of, _)| of != epoch)).await;
    here.until("another epoch", |peer| peer.at.is_some_and(|(of, _)| of != epoch)).await;
    assert_eq!(knows_more.take(&pid).await, Err(NotRestored::Rewound));
    here.publish("two");
    knows_more.until("the event", |peer| peer.events.len() == 1).await;
    here.until("the event", |peer| peer.unanswered.is_empty()).await;
    assert_eq!(here.at, knows_more.at);
    // The client is there still, and told of the new log.
    let place = here.at.map(|(epoch, offset)| Text(Position { epoch, offset, n: 0 })).expect("attached");
    here.say(Command::Touch { sessions: vec![(pid.clone(), 1, place.clone())] });
    let own = here.own(&pid, 1, "own");
    here.until("its place", |peer| peer.owned.last().is_some_and(|(seq, ..)| *seq == own)).await;
    let taken = knows_more.take(&pid).await.expect("it is of this log now");
    assert_eq!((taken.safe, taken.own.len()), (place, 1));
}

/// Words without a History.
pub async fn nodes_tell_and_ask_each_other(stand: &mut Stand<'_>) {
    let mut peers = Vec::new();
    for name in ["mesh-a.0", "mesh-b.0", "mesh-c.0"] {
        peers.push(join(stand, name, "/mesh", LONG_MS).await);
    }
    let message = MeshMessage::Event { namespace: "/mesh".into(), packet: "2[\"hello\"]".into() };
    let say = |peer: &Peer, what| peer.way.to.send(what).expect("the way is open");
    say(&peers[0], ToBackplane::Publish(relay("/mesh", "deliver")));
    say(&peers[0], ToBackplane::Mesh(MeshSend { to: None, ask: Some(7), message: message.clone() }));
    let told = |from: &str, ask| {
        FromBackplane::Mesh(MeshTold { from: Text(named(from)), ask, message: message.clone() })
    };
    for peer in &mut peers[1..] {
        peer.until("both words", |peer| peer.others.len() == 2).await;
        assert_eq!(peer.others[0], FromBackplane::Deliver(relay("/mesh", "deliver")));
        assert_eq!(peer.others[1], told("mesh-a.0", Some(7)));
        let to = Some(Text(named("mesh-a.0")));
        say(peer, ToBackplane::Mesh(MeshSend { to, ask: Some(7), message: message.clone() }));
    }
    peers[0].until("all answers", |peer| peer.others.len() == 3).await;
    let FromBackplane::Asked { ask: 7, peers: asked } = &peers[0].others[0] else {
        panic!("who was asked is told first: {:?}", peers[0].others)
    };
    let asked: BTreeSet<&str> = asked.iter().map(|peer| peer.0.as_str()).collect();
    assert!(asked.is_superset(&BTreeSet::from(["mesh-b.0", "mesh-c.0"])) && !asked.contains("mesh-a.0"));
    for from in ["mesh-b.0", "mesh-c.0"] {
        assert!(peers[0].others.contains(&told(from, Some(7))));
    }
    say(&peers[1], ToBackplane::Mesh(MeshSend { to: None, ask: None, message: message.clone() }));
    for index in [0, 2] {
        let wanted = told("mesh-b.0", None);
        peers[index].until("the word", |peer| peer.others.last() == Some(&wanted)).await;
    }
    peers[1].catch_up();
    assert_eq!(peers[1].others.len(), 2, "nobody hears oneself");
}
