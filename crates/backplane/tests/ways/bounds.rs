//! What waits between a Redis and a node is bounded, and whoever comes too far behind is told.

use greenroom_backplane::Limits;
use greenroom_backplane::conformance::{Peer, limits, relay};
use greenroom_backplane::redis::{RedisConfig, connect};
use greenroom_backplane::way::{FromBackplane, ToBackplane};
use greenroom_core::InstanceId;
use greenroom_wire::backplane::Pid;

use crate::config::config_at;
use crate::store::Store;

const WAITING_MAX: usize = 64 << 10;
/// One read more, of events that were not known to be large.
const ONE_READ: usize = 1 << 20;
const WINDOW_MS: u64 = 120_000;
/// Bytes of one event.
const BALLAST: usize = 1024;

async fn join(name: &str, config: impl FnOnce(RedisConfig) -> RedisConfig, port: u16) -> Peer {
    let node: InstanceId = name.parse().unwrap();
    let way = connect(config(config_at(port, node.clone())));
    let mut peer = Peer::new(node, way, "/", WINDOW_MS);
    peer.until("being attached", |peer| peer.at.is_some()).await;
    peer
}

fn narrow(config: RedisConfig) -> RedisConfig {
    RedisConfig { inbox_bytes_max: WAITING_MAX, ..config }
}

/// One node publishes, the other one takes nothing in; gives the most that waited for it.
async fn publish_past(quick: &mut Peer, slow: &Peer, count: usize) -> usize {
    let text = "x".repeat(BALLAST);
    let mut most = 0;
    for published in (0..count).step_by(100) {
        for _ in 0..100 {
            quick.publish(&text);
        }
        quick.until("its events", |peer| peer.events.len() >= published + 100).await;
        most = most.max(slow.way.from.waiting_bytes());
    }
    most
}

#[tokio::test]
async fn a_node_that_takes_nothing_in_for_a_while_loses_nothing_and_holds_little() {
    let store = Store::start(&[]);
    let large = |config| RedisConfig { limits: Limits::default(), ..narrow(config) };
    let mut slow = join("slow.0", large, store.port).await;
    let mut quick = join("quick.0", large, store.port).await;
    let most = publish_past(&mut quick, &slow, 5_000).await;
    assert!(most >= WAITING_MAX, "it was never full: {most}");
    assert!(most < WAITING_MAX + ONE_READ, "{most} bytes waited");
    slow.until("all events", |peer| peer.events.len() == 5_000).await;
    assert_eq!((slow.ups, slow.attached), (1, 1), "the way held");
    assert_eq!(slow.events, quick.events);
}

#[tokio::test]
async fn a_node_that_comes_too_far_behind_is_told_where_the_history_begins_again() {
    let store = Store::start(&[]);
    let mut slow = join("slow.0", narrow, store.port).await;
    let mut quick = join("quick.0", |config| config, store.port).await;
    let most = publish_past(&mut quick, &slow, 5_000).await;
    assert!(most < WAITING_MAX + ONE_READ, "{most} bytes waited");
    assert!(limits().history_bytes_max < 5_000 * BALLAST, "the store has let go of some");
    slow.until("a page that does not join on", |peer| peer.page.is_some()).await;
    let (floor, _) = slow.page.clone().unwrap();
    let (_, last) = slow.at.unwrap();
    assert!(floor > last, "it knows that {floor} and all before are gone, and has seen {last}");
    assert!(slow.events.iter().zip(&quick.events).all(|(one, other)| one == other), "no gap before that");
}

#[tokio::test]
async fn broadcasts_without_a_history_are_dropped_and_counted() {
    let store = Store::start(&[]);
    let mut slow = join("slow.0", narrow, store.port).await;
    let mut quick = join("quick.0", |config| config, store.port).await;
    let publish =
        |peer: &Peer| peer.way.to.send(ToBackplane::Publish(relay("/", &"x".repeat(BALLAST)))).unwrap();
    for round in 0..10 {
        (0..100).for_each(|_| publish(&quick));
        quick.publish("behind them");
        quick.until("its event", |peer| peer.events.len() > round).await;
    }
    slow.until("the events", |peer| peer.events.len() == 10).await;
    let heard =
        |peer: &Peer| peer.others.iter().filter(|told| matches!(told, FromBackplane::Deliver(_))).count();
    let dropped = |peer: &Peer| {
        let dropped = peer
            .others
            .iter()
            .filter_map(|told| if let FromBackplane::Dropped { words } = told { Some(*words) } else { None });
        usize::try_from(dropped.sum::<u64>()).unwrap()
    };
    assert!((10..500).contains(&heard(&slow)), "{} of 1000", heard(&slow));
    // It is told with the next one that there is room for.
    publish(&quick);
    slow.until("all, or how many are missing", |peer| heard(peer) + dropped(peer) == 1001).await;
}

#[tokio::test]
async fn a_session_too_many_is_not_kept_and_its_node_is_told() {
    let store = Store::start(&[]);
    let one = |config| RedisConfig { limits: Limits { sessions_max: 1, ..limits() }, ..config };
    let mut node = join("one.0", one, store.port).await;
    let anna = node.open("anna");
    let bob = node.open("bob");
    let number = node.own(&bob, 1, "lost to the store");
    node.own(&anna, 1, "kept");
    node.until("the answers", |peer| peer.unanswered.is_empty()).await;
    assert_eq!((&node.not_kept[..], &node.disowned[..]), (&[Pid::new("bob")][..], &[number][..]));
    assert_eq!(node.take(&anna).await.unwrap().own.len(), 1);
    node.take(&bob).await.unwrap_err();
}
