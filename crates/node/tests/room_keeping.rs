//! Rooms that outlive their process: what was seen is in them, and what was not kept was not seen.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else came is skipped")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::agent::{Agent, claims};
use common::ledger::{Host, Ledger, Person, ask, delivering};
use common::{Tung, run, serve, until};
use greenroom_core::InstanceId;
use greenroom_node::config::Recovery;
use greenroom_node::room::Delivery;
use greenroom_node::{Config, Node, NodeError};
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Told};
use greenroom_wire::kept::{RoomCommand, RoomTold};
use greenroom_wire::link::{FromServer, ToServer};
use greenroom_wire::rooms::EndReason;
use greenroom_wire::token::{JoinClaims, PublicKeys};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

#[test]
fn whatever_was_seen_or_acknowledged_is_there_after_the_process_was_killed() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    run(async move {
        let host = Host::new(delivering(Delivery::CommitFirst)).await;
        let mut served = host.process(0);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        let mut bob = Person::enter(&served, host.token("bob", 1)).await;
        let (ann_is, bob_is) = (ann.is.clone(), bob.is.clone());
        let mut entry = 0;
        for process in 1..=4 {
            for _ in 0..rng.random_range(5..25) {
                entry += 1;
                ann.add(entry).await;
                entry += 1;
                bob.add(entry).await;
                // Ann sees and hears more than Bob, or less.
                for _ in 0..rng.random_range(0..3) {
                    ann.hear().await;
                }
            }
            served.kill().await;
            served = host.process(process);
            assert_eq!(ann.come_back(&served).await, ann_is, "the same id and secret");
            assert_eq!(bob.come_back(&served).await, bob_is);
            ann.hear_until(|ann| ann.words.len() == process as usize && ann.states.len() == process as usize)
                .await;
            bob.hear_until(|bob| bob.words.len() == process as usize && bob.states.len() == process as usize)
                .await;
            assert!(ann.words.iter().chain(&bob.words).all(|word| *word == json!({ "recovered": true })));
            assert_eq!(ann.states.last(), Some(&ann.seen), "events and state fit together");
            assert_eq!(bob.states.last(), Some(&bob.seen));
            assert_eq!(served.handle.counters().rooms_taken_up_total, 1);
        }
        // What was taken and not done yet is done by the process that goes on.
        let taken: BTreeSet<u32> = ann.acknowledged.union(&bob.acknowledged).copied().collect();
        ann.hear_until(|ann| taken.iter().all(|entry| ann.seen.contains(entry))).await;
        let seen: BTreeSet<u32> = ann.seen.iter().copied().collect();
        assert_eq!(seen.len(), ann.seen.len(), "no entry twice");
        // It goes on as before.
        ann.add(entry + 1).await;
        bob.hear_until(|bob| bob.seen.last() == Some(&(entry + 1))).await;
        let report = &host.hub.status("arena-a1b2c.4").rooms;
        assert!(report.iter().all(|room| room.kept), "{report:?}");
    });
}

#[test]
fn what_was_seen_and_not_kept_is_told_as_rewound_with_the_state_that_was_kept() {
    run(async {
        let recovery =
            Recovery { checkpoint_every: Duration::from_secs(3600), ..delivering(Delivery::DeliverFirst) };
        let mut host = Host::new(recovery).await;
        let served = host.process(0);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        until("the first checkpoint", || host.hub.rooms() == 1).await;
        // Seen at once, and not kept: no checkpoint comes for an hour.
        ann.add(7).await;
        ann.hear_until(|ann| ann.seen == [7] && ann.acknowledged.contains(&7)).await;
        let was = ann.is.clone();
        served.kill().await;

        host.recovery.checkpoint_every = Duration::from_millis(50);
        let served = host.process(1);
        ann.seen.clear();
        let is = ann.come_back(&served).await;
        assert!(is["sid"] != was["sid"] && is["pid"] != was["pid"], "a new session in the old seat");
        ann.hear_until(|ann| !ann.states.is_empty()).await;
        assert_eq!(ann.words, [json!({ "recovered": false, "reason": "rewound" })]);
        assert_eq!(ann.states, [Vec::<u32>::new()]);
        // The next one is kept soon.
        ann.add(8).await;
        ann.hear_until(|ann| ann.seen == [8]).await;
        // The first one may be from before the entry, the second is not.
        let steps = host.hub.steps();
        until("two checkpoints", || host.hub.steps() >= steps + 2).await;
        served.kill().await;
        let served = host.process(2);
        ann.states.clear();
        ann.come_back(&served).await;
        ann.hear_until(|ann| !ann.states.is_empty()).await;
        assert_eq!(ann.states, [vec![8]]);
    });
}

/// The next step that the node wants kept.
async fn step(agent: &mut Agent) -> (u64, usize) {
    let find = agent.find(|message| match message {
        FromServer::Backplane(Command::Room(RoomCommand::Keep { record, events, .. })) => {
            Some((record.seq, events.len()))
        }
        _ => None,
    });
    find.await
}

fn kept(seq: u64) -> ToServer {
    ToServer::Backplane(Told::Room(RoomTold::Kept { room: "r1".parse().map(Text).unwrap(), seq }))
}

#[test]
fn nothing_leaves_a_room_before_it_is_kept() {
    run(async {
        let mut agent = Agent::listen().await;
        let mut node =
            Node::new(Config { recovery: Some(delivering(Delivery::CommitFirst)), ..agent.config() });
        node.rooms::<Ledger>();
        let served = serve(node);
        agent.welcome().await;
        agent.send(&ToServer::Backplane(Told::Room(RoomTold::AllHeld))).await;
        let auth = json!({ "token": agent.signer.sign(&claims("ann", 0)) });
        // The first one goes before anything is kept, and never had its secret: the same token is good once more.
        let mut gone = served.websocket().await;
        gone.recv_starting("0{").await;
        gone.send(&format!("40{auth}")).await;
        let (first, _) = step(&mut agent).await;
        drop(gone);
        until("the cut is noticed", || served.handle.connections() == 0).await;
        let mut ann = served.websocket().await;
        ann.recv_starting("0{").await;
        ann.send(&format!("40{auth}")).await;
        let (second, events) = step(&mut agent).await;
        assert!(second > first && events == 1, "the state for who comes back to a seat");
        assert_silent(&mut ann).await;
        agent.send(&kept(first)).await;
        assert_silent(&mut ann).await;
        agent.send(&kept(second)).await;
        ann.recv_starting("40{").await;
        ann.recv_starting("42[\"state\"").await;

        ann.send("421[\"add\",5]").await;
        // Taken, and then done: at most two steps.
        let (mut last, mut events) = step(&mut agent).await;
        while events == 0 {
            (last, events) = step(&mut agent).await;
        }
        assert_silent(&mut ann).await;
        agent.send(&kept(last)).await;
        assert_eq!(ann.recv().await, "431[{\"ok\":true}]");
        ann.recv_starting("42[\"added\"").await;
    });
}

/// Nothing but what the transport says of itself comes, while the node answers others.
async fn assert_silent(client: &mut Tung) {
    // Whatever was on its way is read before the answer to an upgrade's probe would be.
    let heard = tokio::time::timeout(Duration::from_millis(150), client.recv()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[test]
fn a_result_is_told_until_it_has_arrived_also_by_the_next_process() {
    run(async {
        let host = Host::new(delivering(Delivery::CommitFirst)).await;
        let served = host.process(0);
        host.hub.acknowledge(false);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        ann.add(3).await;
        ann.hear_until(|ann| ann.seen == [3]).await;
        ann.client.as_mut().unwrap().send("42[\"finish\"]").await;
        ann.client.as_mut().unwrap().recv_until("42[\"greenroom:closed\"").await;
        until("the result is told", || !host.hub.ended().is_empty()).await;
        served.kill().await;
        assert_eq!(host.hub.rooms(), 1, "it has not arrived");
        host.hub.acknowledge(true);
        let served = host.process(1);
        until("it is told again and forgotten", || host.hub.rooms() == 0).await;
        let ended = host.hub.ended();
        assert!(ended.len() >= 2 && ended.iter().all(|room| *room == ended[0]), "{ended:?}");
        assert_eq!((ended[0].reason, &ended[0].result), (EndReason::Finished, &json!({ "entries": [3] })));
        let refusal = ask(&served, &json!({ "token": ann.token, "pid": ann.is["pid"] })).await.err().unwrap();
        assert_eq!(refusal["message"], json!("room_ended"));
    });
}

#[test]
fn a_token_for_a_process_before_this_one_is_good_for_a_room_that_came_over_alone() {
    run(async {
        let host = Host::new(delivering(Delivery::CommitFirst)).await;
        let served = host.process(0);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        ann.add(1).await;
        ann.hear_until(|ann| ann.seen == [1]).await;
        served.kill().await;
        let served = host.process(1);
        // A seat that was promised before and is taken now.
        let bob = Person::enter(&served, host.token("bob", 1)).await;
        let elsewhere: InstanceId = "arena-a1b2c.2".parse().unwrap();
        let other: InstanceId = "arena-zzzzz.0".parse().unwrap();
        let cases = [
            ("another room", JoinClaims { room: "r2".parse().map(Text).unwrap(), ..claims("cid", 2) }),
            ("another epoch", JoinClaims { epoch: 2, ..claims("cid", 2) }),
            ("a later process", JoinClaims { instance: elsewhere.into(), ..claims("cid", 2) }),
            ("another server", JoinClaims { instance: other.into(), ..claims("cid", 2) }),
        ];
        for (case, claims) in cases {
            let token = host.signer.sign(&claims);
            let refusal = ask(&served, &json!({ "token": token })).await.err().unwrap();
            assert_eq!(refusal["message"], json!("wrong_server"), "{case}");
        }
        let stolen = ask(&served, &json!({ "token": ann.token })).await.err().unwrap();
        assert_eq!(stolen["message"], json!("token_used"), "who has not the secret is somebody else");
        drop(bob);
    });
}

#[test]
fn a_room_survives_its_agent_and_then_its_process() {
    run(async {
        let mut host = Host::new(delivering(Delivery::CommitFirst)).await;
        let served = host.process(0);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        ann.add(1).await;
        ann.hear_until(|ann| ann.seen == [1]).await;
        host.hub = host.hub.crash(&["arena-a1b2c.0"]).await;
        host.hub.set_keys(PublicKeys { keys: vec![host.signer.public()] });
        ann.add(2).await;
        ann.hear_until(|ann| ann.seen == [1, 2] && ann.acknowledged.len() == 2).await;
        assert_eq!(host.hub.rooms(), 1);
        served.kill().await;
        let served = host.process(1);
        ann.come_back(&served).await;
        ann.hear_until(|ann| !ann.states.is_empty()).await;
        assert_eq!((&ann.words[0], &ann.states[0]), (&json!({ "recovered": true }), &vec![1, 2]));
    });
}

#[test]
fn rooms_are_given_anew_at_once_when_what_was_kept_is_gone_though_nothing_happens_in_them() {
    run(async {
        let mut agent = Agent::listen().await;
        let recovery =
            Recovery { checkpoint_every: Duration::from_secs(3600), ..delivering(Delivery::CommitFirst) };
        let mut node = Node::new(Config { recovery: Some(recovery), ..agent.config() });
        node.rooms::<Ledger>();
        let served = serve(node);
        agent.welcome().await;
        agent.send(&ToServer::Backplane(Told::Room(RoomTold::AllHeld))).await;
        let mut ann = served.opened().await;
        ann.send(&format!("40{}", json!({ "token": agent.signer.sign(&claims("ann", 0)) }))).await;
        let (first, _) = step(&mut agent).await;
        agent.send(&kept(first)).await;
        ann.recv_starting("40{").await;
        // Whatever comes with the seat.
        let mut last = first;
        while let Ok((seq, _)) = tokio::time::timeout(Duration::from_millis(300), step(&mut agent)).await {
            last = seq;
            agent.send(&kept(seq)).await;
        }
        agent.send(&ToServer::Backplane(Told::Room(RoomTold::Anew))).await;
        let whole = agent.find(|message| match message {
            FromServer::Backplane(Command::Room(RoomCommand::Keep { after, record, .. })) => {
                Some((after, record.seq))
            }
            _ => None,
        });
        assert_eq!(whole.await, (None, last + 1), "all of it, after no step");
    });
}

#[test]
fn namespaces_that_several_nodes_may_share_are_not_delivered_first() {
    run(async {
        let agent = Agent::listen().await;
        let recovery = Some(delivering(Delivery::DeliverFirst));
        let shared = Node::new(Config { recovery: recovery.clone(), ..agent.config() }).bind();
        let error = shared.err().unwrap();
        assert!(matches!(error, NodeError::Delivery), "{error}");
        assert!(error.to_string().contains("only the backplane knows the order"));
        assert!(Node::new(Config { recovery, ..common::config() }).bind().is_ok(), "a node on its own");
    });
}
