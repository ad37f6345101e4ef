//! A Redis whose replica takes over, one test for each row of the table in docs/recovery.md.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use greenroom_backplane::conformance::Peer;
use greenroom_backplane::emitters::{EmittersConfig, Heard, listen};
use greenroom_wire::backplane::Pid;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::config_of;
use crate::faults::{
    are_down, are_up_again, assert_in_order, assert_whole, busy_until, given, join_by, pair_of, settle,
};
use crate::sentinels::{PATIENCE, Watched};

async fn pair(watched: &Watched) -> Vec<Peer> {
    pair_of(["a.0", "b.0"].map(|name| join_by(config_of(watched.address(), name.parse().unwrap())))).await
}

/// After a takeover: one order for all, whatever became of the events. All are there, each once, where the replica had what
/// was answered; else the History began anew under another epoch.
fn assert_true(peers: &[Peer], epoch: u64) {
    assert_eq!(peers[0].at, peers[1].at);
    let mut places = BTreeMap::new();
    for peer in peers {
        assert_in_order(peer);
        for (epoch, event) in &peer.events {
            let known = places.entry((*epoch, event.offset)).or_insert(event);
            assert_eq!(*known, event, "{}: two events at one place", peer.name);
        }
    }
    if peers[0].at.unwrap().0 == epoch {
        assert_whole(peers, &given(peers));
    }
}

#[tokio::test]
async fn killed_its_replica_takes_over_and_the_nodes_go_there() {
    let mut watched = Watched::start(1, &[]);
    let mut peers = pair(&watched).await;
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let epoch = peers[0].at.unwrap().0;
    watched.stores[0].kill();
    busy_until(&mut peers, "being down", are_down).await;
    busy_until(&mut peers, "being up", |peers| are_up_again(peers, 1)).await;
    busy_until(&mut peers, "more events", |peers| peers.iter().all(|peer| peer.at.unwrap().1 > 200)).await;
    settle(&mut peers).await;
    assert_true(&peers, epoch);
    // The session of a node that dies now is taken from the one that took over.
    drop(peers.remove(0));
    assert!(peers[0].take(&Pid::new("of-a.0")).await.is_ok());
}

#[tokio::test]
async fn frozen_until_its_replica_has_taken_over_nobody_goes_on_with_it() {
    let watched = Watched::start(1, &[]);
    let mut peers = pair(&watched).await;
    busy_until(&mut peers, "some events", |peers| peers[1].events.len() > 100).await;
    let epoch = peers[0].at.unwrap().0;
    let frozen = watched.stores[0].freeze();
    busy_until(&mut peers, "being down", are_down).await;
    busy_until(&mut peers, "being up", |peers| are_up_again(peers, 1)).await;
    // What lay in its buffers it does now, as if it were the primary; then it is told that it is none.
    drop(frozen);
    busy_until(&mut peers, "its being a replica", |_| watched.is_replica(0)).await;
    let ups = peers[0].ups.max(peers[1].ups);
    let behind = peers.iter().map(|peer| peer.at.unwrap().1).max().unwrap();
    busy_until(&mut peers, "more events", |peers| peers.iter().all(|peer| peer.at.unwrap().1 > behind + 100))
        .await;
    settle(&mut peers).await;
    assert_true(&peers, epoch);
    assert!(peers.iter().all(|peer| peer.ups <= ups), "nobody was on the one that was made a replica");
    let events = |index: usize| watched.stores[index].ask(&["XLEN", "{greenroom:1:/}:log"]);
    busy_until(&mut peers, "what the other one has", |_| events(0) == events(1)).await;
}

#[tokio::test]
async fn the_ear_for_emitters_goes_there_too() {
    let mut watched = Watched::start(1, &[]);
    let ear = EmittersConfig::new(watched.address(), vec!["words*".to_owned()]);
    let ((tell, mut heard), mut tasks) = (unbounded_channel(), JoinSet::new());
    tasks.spawn(listen(ear, move |word| drop(tell.send(word))));
    let deadline = Instant::now() + PATIENCE;
    for (round, word) in ["before", "after"].into_iter().enumerate() {
        // Published again and again: what nobody listens to is gone.
        let is_it =
            |told: &Heard| matches!(told, Heard::Message { message, .. } if message == word.as_bytes());
        while !timeout(Duration::from_millis(50), heard.recv()).await.is_ok_and(|told| is_it(&told.unwrap()))
        {
            assert!(Instant::now() < deadline, "waited in vain for the word {word}");
            let _hearers = watched.stores[round].ask(&["PUBLISH", "words#", word]);
        }
        watched.stores[0].kill();
    }
}
