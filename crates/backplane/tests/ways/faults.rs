//! A Redis in trouble, one test for each row of the table in docs/recovery.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use greenroom_backplane::conformance::Peer;
use greenroom_backplane::redis::{RedisConfig, connect};
use greenroom_wire::backplane::{NotRestored, Pid};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::config_at;
use crate::proxy::Proxy;
use crate::sentinels::PATIENCE;
use crate::store::Store;

/// Everything that is answered survives a crash.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
const WINDOW_MS: u64 = 120_000;

fn join(name: &str, port: u16) -> Peer {
    join_by(config_at(port, name.parse().unwrap()))
}

pub(crate) fn join_by(config: RedisConfig) -> Peer {
    Peer::new(config.node.clone(), connect(config), "/", WINDOW_MS)
}

async fn pair(port: u16) -> Vec<Peer> {
    pair_of(["a.0", "b.0"].map(|name| join(name, port))).await
}

/// Two nodes, attached, each with a session.
pub(crate) async fn pair_of(peers: [Peer; 2]) -> Vec<Peer> {
    let mut peers = Vec::from(peers);
    for peer in &mut peers {
        peer.until("being attached", |peer| peer.at.is_some()).await;
        peer.open(&format!("of-{}", peer.name));
    }
    peers
}

/// Both nodes go on publishing, for many and for their sessions, until something is so.
pub(crate) async fn busy_until(peers: &mut [Peer], what: &str, mut is_so: impl FnMut(&[Peer]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0;
    while !is_so(peers) {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        for peer in peers.iter_mut() {
            peer.catch_up();
            if peer.unanswered.len() < 200 {
                peer.publish(&format!("event {round}"));
                if let Some((pid, generation)) =
                    peer.sessions.values().next().map(|session| (session.pid.clone(), session.generation))
                {
                    peer.own(&pid, generation, &format!("own {round}"));
                }
            }
        }
        round += 1;
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn settle(peers: &mut [Peer]) {
    for peer in peers.iter_mut() {
        peer.until("all answers", |peer| peer.unanswered.is_empty() && peer.down.is_none()).await;
    }
    let last = peers[0].publish("the last");
    let name = peers[0].name.to_string();
    for peer in peers.iter_mut() {
        peer.until("the last event", |peer| {
            peer.events.iter().any(|(_, event)| event.seq == last && event.origin == name)
        })
        .await;
    }
}

/// In each epoch the events have consecutive numbers and come once.
pub(crate) fn assert_in_order(peer: &Peer) {
    let mut by_epoch: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for (epoch, event) in &peer.events {
        by_epoch.entry(*epoch).or_default().push(event);
    }
    for (epoch, events) in by_epoch {
        let offsets: Vec<u64> = events.iter().map(|event| event.offset).collect();
        assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "{}: a gap in {epoch:x}", peer.name);
        let names: BTreeSet<_> = events.iter().map(|event| (&event.origin, event.seq)).collect();
        assert_eq!(names.len(), events.len(), "{}: an event twice in {epoch:x}", peer.name);
    }
}

/// One epoch, nothing lost, nothing twice, the same for everybody, own events in their places.
pub(crate) fn assert_whole(peers: &[Peer], given: &[usize]) {
    for (peer, given) in peers.iter().zip(given) {
        assert_in_order(peer);
        let epochs: BTreeSet<u64> = peer.events.iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs.len(), 1);
        let own_seqs: BTreeSet<u64> = peer.owned.iter().map(|(seq, ..)| *seq).collect();
        assert_eq!(own_seqs.len(), peer.owned.len(), "{}: an own event twice", peer.name);
        let places: BTreeSet<_> = peer.owned.iter().map(|(_, at, _)| (at.offset, at.n)).collect();
        assert_eq!(places.len(), peer.owned.len(), "{}: two own events at one place", peer.name);
        assert!(peer.owned.iter().all(|(_, at, last)| at.offset == *last), "{}: out of place", peer.name);
        let published = peer.events.iter().filter(|(_, event)| event.origin == peer.name.as_str()).count();
        assert_eq!(published + own_seqs.len(), *given, "{}: nothing is lost", peer.name);
        assert_eq!(peer.disowned, [0; 0]);
    }
    let common = |peer: &Peer| peer.events.iter().map(|(_, event)| event.clone()).collect::<Vec<_>>();
    let (one, other) = (common(&peers[0]), common(&peers[1]));
    let shorter = one.len().min(other.len());
    assert_eq!(one[one.len() - shorter..], other[other.len() - shorter..]);
}

/// How many numbers each has given out.
pub(crate) fn given(peers: &[Peer]) -> Vec<usize> {
    peers.iter().map(Peer::given).collect()
}

pub(crate) fn are_down(peers: &[Peer]) -> bool {
    peers.iter().all(|peer| peer.down.is_some())
}

pub(crate) fn are_up_again(peers: &[Peer], ups: u32) -> bool {
    peers.iter().all(|peer| peer.ups > ups && peer.down.is_none())
}

#[tokio::test]
async fn stopped_and_started_with_its_data_it_has_lost_nothing() {
    let mut store = Store::start(&DURABLE);
    let mut peers = pair(store.port).await;
    for ups in 1..=3 {
        busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100 * ups as usize).await;
        store.kill();
        busy_until(&mut peers, "being down", are_down).await;
        store.run();
        busy_until(&mut peers, "being up", |peers| are_up_again(peers, ups)).await;
    }
    settle(&mut peers).await;
    let given = given(&peers);
    assert_whole(&peers, &given);
    // The session of a node that died meanwhile is there too, with all that is its own.
    let gone = peers.remove(0);
    let session = gone.sessions[&Pid::new("of-a.0")].clone();
    drop(gone);
    let taken = peers[0].take(&session.pid).await.expect("it is kept");
    let packets = |own: &[greenroom_wire::backplane::Own]| {
        own.iter().map(|own| (own.position.0, own.packet.clone())).collect::<Vec<_>>()
    };
    let all = packets(&session.own);
    assert!(all.ends_with(&packets(&taken.own)) && !taken.own.is_empty());
}

#[tokio::test]
async fn started_empty_it_begins_anew_and_everybody_is_told() {
    let mut store = Store::start(&[]);
    let mut peers = pair(store.port).await;
    let lost = peers[0].open("of-nobody");
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let epoch = peers[0].at.unwrap().0;
    // Its node does not hold it any more, so nobody tells of it again.
    peers[0].sessions.remove(&lost);
    store.kill();
    busy_until(&mut peers, "being down", are_down).await;
    store.run();
    busy_until(&mut peers, "being up", |peers| are_up_again(peers, 1)).await;
    settle(&mut peers).await;
    for peer in &peers {
        assert_in_order(peer);
        assert_ne!(peer.at.unwrap().0, epoch);
    }
    assert_eq!(peers[0].at, peers[1].at);
    assert_eq!(peers[1].take(&lost).await, Err(NotRestored::UnknownSession));
    let pid = Pid::new("of-a.0");
    assert_eq!(peers[1].take(&pid).await, Err(NotRestored::Rewound), "its client has seen the former log");
}

#[tokio::test]
async fn emptied_while_it_runs_it_begins_anew() {
    let store = Store::start(&[]);
    let mut peers = pair(store.port).await;
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let epoch = peers[0].at.unwrap().0;
    assert_eq!(store.ask(&["FLUSHALL"]).as_deref(), Some("+OK"));
    busy_until(&mut peers, "another epoch", |peers| peers.iter().all(|peer| peer.at.unwrap().0 != epoch))
        .await;
    settle(&mut peers).await;
    assert_eq!(peers[0].at, peers[1].at);
    peers.iter().for_each(assert_in_order);
}

#[tokio::test]
async fn frozen_it_counts_as_down_and_thawed_it_has_lost_nothing() {
    let store = Store::start(&[]);
    let mut peers = pair(store.port).await;
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let frozen = store.freeze();
    busy_until(&mut peers, "being down", are_down).await;
    // What was frozen in the middle of its work does it now, although its askers have gone.
    drop(frozen);
    busy_until(&mut peers, "being up", |peers| are_up_again(peers, 1)).await;
    settle(&mut peers).await;
    let given = given(&peers);
    assert_whole(&peers, &given);
}

#[tokio::test]
async fn slow_it_is_slow_and_nothing_else() {
    let (store, mut tasks) = (Store::start(&[]), JoinSet::new());
    let proxy = Proxy::start(store.port, &mut tasks).await;
    let mut peers = pair(proxy.port).await;
    proxy.slow_down(Duration::from_millis(150));
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 400).await;
    settle(&mut peers).await;
    let given = given(&peers);
    assert_whole(&peers, &given);
    assert!(peers.iter().all(|peer| peer.ups == 1), "it never counted as down");
}

#[tokio::test]
async fn cut_in_the_middle_of_a_pipeline_nothing_is_lost_or_done_twice() {
    let (store, mut tasks) = (Store::start(&[]), JoinSet::new());
    let proxy = Proxy::start(store.port, &mut tasks).await;
    let mut peers = pair(proxy.port).await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    for round in 1..=20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = i64::try_from((random >> 33) % 40_000).unwrap();
        if round % 2 == 0 {
            proxy.cut_after_sending(bytes);
        } else {
            proxy.cut_after_receiving(bytes);
        }
        busy_until(&mut peers, "the cut", |_| proxy.has_cut()).await;
        let before: Vec<u64> = peers.iter().map(|peer| peer.at.unwrap().1).collect();
        busy_until(&mut peers, "further events", |peers| {
            peers.iter().zip(&before).all(|(peer, before)| peer.at.unwrap().1 > before + 20)
        })
        .await;
    }
    assert!(peers.iter().all(|peer| peer.ups > 5));
    settle(&mut peers).await;
    let given = given(&peers);
    assert_whole(&peers, &given);
}

/// A replica that has the first events only is made the master.
async fn fail_over(is_first_alone: bool) {
    let (primary, mut tasks) = (Store::start(&[]), JoinSet::new());
    let replica = Store::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let ways = [Proxy::start(primary.port, &mut tasks).await, Proxy::start(primary.port, &mut tasks).await];
    let mut peers = vec![join("a.0", ways[0].port), join("b.0", ways[1].port)];
    for peer in &mut peers {
        peer.until("being attached", |peer| peer.at.is_some()).await;
    }
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let head = || primary.ask(&["XLEN", "{greenroom:1:/}:log"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    settle(&mut peers).await;
    while replica.ask(&["XLEN", "{greenroom:1:/}:log"]) != head() {
        assert!(Instant::now() < deadline, "the replica follows");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(replica.ask(&["REPLICAOF", "NO", "ONE"]).as_deref(), Some("+OK"));
    let epoch = peers[0].at.unwrap().0;
    let behind = peers[0].at.unwrap().1;
    busy_until(&mut peers, "more events", |peers| peers.iter().all(|peer| peer.at.unwrap().1 > behind + 50))
        .await;
    settle(&mut peers).await;
    if is_first_alone {
        // A node that knows no more than the replica does, so that other events get the numbers of those that are lost.
        ways[1].aim(1);
        peers[1].until("being down", |peer| peer.down.is_some()).await;
        let mut third = join("c.0", replica.port);
        third.until("being attached", |peer| peer.at.is_some()).await;
        assert_eq!(third.at.unwrap().0, epoch);
        for _ in 0..200 {
            third.publish("instead");
        }
        third.until("its events", |peer| peer.unanswered.is_empty()).await;
    }
    for way in &ways {
        way.aim(replica.port);
    }
    busy_until(&mut peers, "another epoch", |peers| peers.iter().all(|peer| peer.at.unwrap().0 != epoch))
        .await;
    settle(&mut peers).await;
    assert_eq!(peers[0].at, peers[1].at);
    peers.iter().for_each(assert_in_order);
}

#[tokio::test]
async fn replaced_by_a_replica_that_has_less_it_begins_anew() {
    fail_over(false).await;
}

#[tokio::test]
async fn a_replica_that_has_other_events_under_the_same_numbers_begins_anew() {
    fail_over(true).await;
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_as_good_as_none_and_says_why() {
    let primary = Store::start(&[]);
    let replica = Store::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let mut peer = join("a.0", replica.port);
    peer.until("being told", |peer| peer.down.as_ref().is_some_and(|why| why.contains("read only replica")))
        .await;
    assert_eq!(peer.ups, 0);
    assert_eq!(replica.ask(&["REPLICAOF", "NO", "ONE"]).as_deref(), Some("+OK"));
    peer.until("being attached", |peer| peer.at.is_some()).await;
}

#[tokio::test]
async fn a_restored_store_does_not_count_its_silence_against_the_clients() {
    let mut store = Store::start(&DURABLE);
    let mut here = join("a.0", store.port);
    here.until("being attached", |peer| peer.at.is_some()).await;
    let pid = here.open("of-a.0");
    here.publish("behind it");
    here.until("the event", |peer| peer.unanswered.is_empty()).await;
    let mut there =
        Peer::new("b.0".parse().unwrap(), connect(config_at(store.port, "b.0".parse().unwrap())), "/", 1500);
    there.until("being attached", |peer| peer.at.is_some()).await;
    let short = there.open("short");
    there.publish("behind it");
    there.until("the event", |peer| peer.unanswered.is_empty()).await;
    store.kill();
    let died_at = Instant::now();
    // Its node dies while the store is out, or cannot come back to it as fast as others.
    drop(there);
    here.until("being down", |peer| peer.down.is_some()).await;
    while died_at.elapsed() < Duration::from_millis(4000) {
        sleep(Duration::from_millis(50)).await;
    }
    store.run();
    here.until("being up", |peer| peer.ups == 2).await;
    assert!(here.take(&short).await.is_ok(), "it could not have told the store of its client");
    assert!(here.take(&pid).await.is_ok());
}
