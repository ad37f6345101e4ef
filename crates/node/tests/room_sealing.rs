//! Rooms whose process ends in order: they go on in the next one without a loss, or end where none comes.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::ledger::{Host, Person, ask, delivering};
use common::{Served, run, until};
use greenroom_node::config::Recovery;
use greenroom_node::room::Delivery;
use greenroom_wire::link::Successor;
use greenroom_wire::rooms::EndReason;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

const BOTH: [Delivery; 2] = [Delivery::CommitFirst, Delivery::DeliverFirst];

/// A host on which no checkpoint saves what the end of a process loses.
async fn host(delivery: Delivery) -> Host {
    let host =
        Host::new(Recovery { checkpoint_every: Duration::from_secs(3600), ..delivering(delivery) }).await;
    host.hub.set_successor(Successor::Process);
    host
}

/// The process hears SIGTERM and ends by itself.
async fn terminate(served: Served) {
    served.handle.shutdown();
    served.ended().await;
}

/// What the player still hears before its connection ends.
async fn hear_to_the_end(person: &mut Person) {
    while person.try_hear().await.is_ok() {}
    person.client = None;
}

#[test]
fn a_room_whose_process_ends_in_order_goes_on_in_the_next_one_without_a_loss() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for delivery in BOTH {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        run(async move {
            let host = host(delivery).await;
            let mut served = host.process(0);
            let mut ann = Person::enter(&served, host.token("ann", 0)).await;
            let mut bob = Person::enter(&served, host.token("bob", 1)).await;
            until("it is kept", || host.hub.rooms() == 1).await;
            let (ann_is, bob_is) = (ann.is.clone(), bob.is.clone());
            let mut entry = 0;
            for process in 1..=4 {
                for _ in 0..rng.random_range(5..15) {
                    entry += 2;
                    ann.add(entry - 1).await;
                    bob.add(entry).await;
                    for _ in 0..rng.random_range(0..3) {
                        ann.hear().await;
                    }
                }
                // Bob hears all that comes, Ann is cut off from what is on its way to her.
                tokio::join!(terminate(served), hear_to_the_end(&mut bob), async { ann.client = None });
                served = host.process(process);
                assert_eq!(ann.come_back(&served).await, ann_is, "{delivery:?}: the same id and secret");
                assert_eq!(bob.come_back(&served).await, bob_is, "{delivery:?}");
                for person in [&mut ann, &mut bob] {
                    let are_told = |it: &Person| {
                        it.words.len() == process as usize && it.states.len() == process as usize
                    };
                    person.hear_until(are_told).await;
                    assert_eq!(person.words.last(), Some(&json!({ "recovered": true })), "{delivery:?}");
                    assert_eq!(person.states.last(), Some(&person.seen), "events and state fit together");
                }
            }
            let taken: BTreeSet<u32> = ann.acknowledged.union(&bob.acknowledged).copied().collect();
            ann.hear_until(|ann| taken.iter().all(|entry| ann.seen.contains(entry))).await;
            let seen: BTreeSet<u32> = ann.seen.iter().copied().collect();
            assert_eq!(seen.len(), ann.seen.len(), "no entry twice");
            ann.add(entry + 1).await;
            bob.hear_until(|bob| bob.seen.last() == Some(&(entry + 1))).await;
            assert_eq!(host.hub.ended(), [], "nothing ended");
        });
    }
}

#[test]
fn what_was_seen_after_a_seal_and_not_kept_is_told_as_rewound() {
    run(async {
        let host = host(Delivery::DeliverFirst).await;
        let served = host.process(0);
        let mut ann = Person::enter(&served, host.token("ann", 0)).await;
        until("it is kept", || host.hub.rooms() == 1).await;
        ann.add(1).await;
        ann.hear_until(|ann| ann.seen == [1]).await;
        terminate(served).await;
        let served = host.process(1);
        ann.come_back(&served).await;
        ann.hear_until(|ann| !ann.states.is_empty()).await;
        // Whoever goes on from the seal has made it one that was gone on from, before anything of it is seen.
        ann.add(2).await;
        ann.hear_until(|ann| ann.seen == [1, 2]).await;
        served.kill().await;
        let served = host.process(2);
        ann.states.clear();
        ann.come_back(&served).await;
        ann.hear_until(|ann| !ann.states.is_empty()).await;
        assert_eq!(
            ann.words,
            [json!({ "recovered": true }), json!({ "recovered": false, "reason": "rewound" })]
        );
        assert_eq!(ann.states, [[1]]);
    });
}

#[test]
fn a_room_whose_server_ends_for_good_ends_with_it() {
    for delivery in BOTH {
        run(async move {
            let host = host(delivery).await;
            host.hub.set_successor(Successor::Nobody);
            let served = host.process(0);
            let ann = Person::enter(&served, host.token("ann", 0)).await;
            until("it is kept", || host.hub.rooms() == 1).await;
            terminate(served).await;
            let reasons: Vec<_> = host.hub.ended().iter().map(|room| room.reason).collect();
            assert_eq!((reasons, host.hub.rooms()), (vec![EndReason::Stopped], 0), "{delivery:?}");
            let served = host.process(1);
            let refusal = ask(&served, &json!({ "token": ann.token })).await.err().unwrap();
            assert_eq!(refusal["message"], json!("wrong_server"));
        });
    }
}
