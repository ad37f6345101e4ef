//! A Redis in trouble, one test for each row of the table in docs/high-availability.md.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

#[path = "../../../backplane/tests/ways/proxy.rs"]
mod proxy;
#[path = "../../../backplane/tests/ways/sentinels.rs"]
mod sentinels;
#[path = "../../../backplane/tests/ways/store.rs"]
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_store::export::STEPS_MAX;
use greenroom_store::redis::{RedisAddress, RedisConfig, RedisStore};
use greenroom_store::{Batch, CommitError, Expect, Kind, ReadError, Store, Version, Write};
use tokio::task::JoinSet;
use tokio::time::sleep;

use proxy::Proxy;
use sentinels::Watched;
use store::Store as Server;

/// Everything that is answered survives a crash.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
const PATIENCE: Duration = Duration::from_secs(20);

fn store_at(port: u16, give_up_after: Duration) -> RedisStore {
    store_of(format!("redis://127.0.0.1:{port}").parse().unwrap(), give_up_after)
}

fn store_of(address: RedisAddress, give_up_after: Duration) -> RedisStore {
    let mut config = RedisConfig::new(address);
    config.answer_within = Duration::from_millis(300);
    config.give_up_after = give_up_after;
    RedisStore::open(config).unwrap()
}

/// Room `number`, which must not be there yet: a batch that is stored twice would refuse itself.
fn room(number: u32) -> Batch {
    Batch::from_iter([Write::Put {
        kind: Kind::Room,
        key: format!("r{number:06}"),
        bytes: vec![b'x'; 1 + number as usize * 37 % 4000],
        expect: Expect::Absent,
    }])
}

async fn rooms(store: &RedisStore) -> usize {
    store.load(Kind::Room).await.unwrap().len()
}

/// As whoever was told of a rewind goes on: with the term, then with what there is.
async fn rooms_anew(store: &RedisStore) -> usize {
    store.load(Kind::Term).await.unwrap();
    rooms(store).await
}

#[tokio::test]
async fn stopped_and_started_with_its_data_it_has_lost_nothing() {
    let mut server = Server::start(&DURABLE);
    let store = store_at(server.port, PATIENCE);
    for number in 0..30 {
        if number % 10 == 5 {
            server.kill();
            let committing = store.commit(room(number));
            server.run();
            committing.await.unwrap();
        } else {
            store.commit(room(number)).await.unwrap();
        }
    }
    assert_eq!(rooms(&store).await, 30);
}

#[tokio::test]
async fn whoever_reads_one_record_is_told_of_a_rewind_but_not_in_the_place_of_others() {
    let mut server = Server::start(&[]);
    let store = store_at(server.port, PATIENCE);
    store.commit(room(1)).await.unwrap();
    assert!(store.get(Kind::Room, "r000001").await.unwrap().is_some());
    server.kill();
    server.run();
    for _ in 0..2 {
        let told = store.get(Kind::Room, "r000001").await.unwrap_err();
        assert!(matches!(&told, ReadError::Rewound(why) if why == "it is empty"), "{told}");
    }
    let told = store.commit(room(2)).await.unwrap_err();
    assert!(matches!(told, CommitError::Rewound(_)), "{told}");
    let told = store.get(Kind::Room, "r000001").await.unwrap_err();
    assert!(matches!(told, ReadError::Rewound(_)), "nobody has begun anew yet: {told}");
    assert_eq!(rooms(&store).await, 0);
    let told = store.commit(room(2)).await.unwrap_err();
    assert!(matches!(told, CommitError::Rewound(_)), "whoever reads everything is not who must know: {told}");
    assert_eq!(rooms_anew(&store).await, 0);
    assert_eq!(store.get(Kind::Room, "r000001").await.unwrap(), None, "what is there is told again");
    store.commit(room(2)).await.unwrap();
}

#[tokio::test]
async fn a_store_that_comes_back_empty_is_told_and_then_begun_anew() {
    let mut server = Server::start(&[]);
    let store = store_at(server.port, PATIENCE);
    store.commit(room(1)).await.unwrap();
    let reader = store_at(server.port, PATIENCE);
    assert!(reader.get(Kind::Room, "r000001").await.unwrap().is_some());
    server.kill();
    server.run();
    for _ in 0..2 {
        let told = store.commit(room(2)).await.unwrap_err();
        assert!(matches!(told, CommitError::Rewound(_)), "{told}");
        assert_eq!(told.to_string(), "the store came back without what it had confirmed: it is empty");
    }
    assert_eq!(rooms_anew(&store).await, 0, "who loads after that has been told");
    store.commit(room(2)).await.unwrap();
    let told = reader.load(Kind::Term).await.unwrap_err();
    assert!(matches!(&told, ReadError::Rewound(why) if why == "it is another one"), "{told}");
    assert_eq!(rooms_anew(&reader).await, 1, "told once");
}

#[tokio::test]
async fn frozen_for_a_while_it_stores_what_waited_and_stores_it_once() {
    let server = Server::start(&[]);
    let store = store_at(server.port, PATIENCE);
    store.commit(room(0)).await.unwrap();
    let frozen = server.freeze();
    let waiting: Vec<_> = (1..=5).map(|number| store.commit(room(number))).collect();
    // Each attempt of these leaves its script in the frozen server's buffers.
    sleep(Duration::from_millis(1500)).await;
    drop(frozen);
    let mut last = Version(1);
    for each in waiting {
        let version = each.await.unwrap();
        assert!(version > last, "in the order of the calls");
        last = version;
    }
    assert_eq!(last, Version(6));
    assert_eq!(rooms(&store).await, 6);
}

#[tokio::test]
async fn frozen_for_too_long_the_outcome_is_unknown_and_the_store_knows_it() {
    let server = Server::start(&[]);
    let store = store_at(server.port, Duration::from_secs(1));
    store.commit(room(0)).await.unwrap();
    let frozen = server.freeze();
    let began_at = Instant::now();
    let told = store.commit(room(1)).await.unwrap_err();
    assert!(matches!(told, CommitError::Unavailable(_)), "{told}");
    assert!(began_at.elapsed() < Duration::from_secs(4));
    drop(frozen);
    let stored = rooms(&store).await;
    assert!(stored == 1 || stored == 2, "all of it or nothing");
    // Whatever became of it, it is not done later.
    store.commit(room(2)).await.unwrap();
    assert_eq!(rooms(&store).await, stored + 1);
}

#[tokio::test]
async fn slow_it_is_slow_and_nothing_else() {
    let (server, mut tasks) = (Server::start(&[]), JoinSet::new());
    let proxy = Proxy::start(server.port, &mut tasks).await;
    proxy.slow_down(Duration::from_millis(60));
    let store = store_at(proxy.port, PATIENCE);
    for number in 0..5 {
        assert_eq!(store.commit(room(number)).await.unwrap(), Version(u64::from(number) + 1));
    }
}

#[tokio::test]
async fn cut_in_the_middle_of_a_pipeline_nothing_is_lost_or_stored_twice() {
    let (server, mut tasks) = (Server::start(&[]), JoinSet::new());
    let proxy = Proxy::start(server.port, &mut tasks).await;
    let store = Arc::new(store_at(proxy.port, PATIENCE));
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let (mut random, mut number, mut last) = (seed, 0, Version(0));
    for round in 1..=30 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = i64::try_from((random >> 33) % 12_000).unwrap();
        if round % 2 == 0 {
            proxy.cut_after_sending(bytes);
        } else {
            // Answers are short.
            proxy.cut_after_receiving(bytes % 300);
        }
        let deadline = Instant::now() + PATIENCE;
        while !proxy.has_cut() {
            assert!(Instant::now() < deadline, "the cut comes");
            let together: Vec<_> = (number..number + 8).map(|number| store.commit(room(number))).collect();
            number += 8;
            for each in together {
                // A batch that was stored twice would be a conflict here.
                let version = each.await.unwrap();
                assert_eq!(version.0, last.0 + 1, "one after the other, none twice");
                last = version;
            }
        }
    }
    assert_eq!(rooms(&store).await, number as usize);
}

/// A replica that has the first batches only is made the primary.
async fn fail_over(is_written_to_meanwhile: bool) {
    let (primary, mut tasks) = (Server::start(&[]), JoinSet::new());
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let proxy = Proxy::start(primary.port, &mut tasks).await;
    let store = store_at(proxy.port, PATIENCE);
    for number in 0..10 {
        store.commit(room(number)).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let len = |server: &Server| server.ask(&["HLEN", "{greenroom:store:1}:kind:room"]);
    while len(&replica) != len(&primary) {
        assert!(Instant::now() < deadline, "the replica follows");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(replica.ask(&["REPLICAOF", "NO", "ONE"]).as_deref(), Some("+OK"));
    store.commit(room(10)).await.unwrap();
    let why = if is_written_to_meanwhile {
        // Another process stores something else under the number of what is lost.
        store_at(replica.port, PATIENCE).commit(room(77)).await.unwrap();
        "commit 11 is gone or another one"
    } else {
        "it has 10 commits and had 11"
    };
    proxy.aim(replica.port);
    let told = store.commit(room(11)).await.unwrap_err();
    assert!(matches!(&told, CommitError::Rewound(detail) if detail == why), "{told}");
    assert_eq!(rooms_anew(&store).await, if is_written_to_meanwhile { 11 } else { 10 });
    store.commit(room(11)).await.unwrap();
}

#[tokio::test]
async fn replaced_by_a_replica_that_has_less_it_is_told() {
    fail_over(false).await;
}

#[tokio::test]
async fn replaced_by_a_replica_that_has_other_batches_under_the_same_numbers_it_is_told() {
    fail_over(true).await;
}

#[tokio::test]
async fn replaced_by_a_replica_that_has_everything_it_goes_on() {
    let (primary, mut tasks) = (Server::start(&[]), JoinSet::new());
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let proxy = Proxy::start(primary.port, &mut tasks).await;
    let store = store_at(proxy.port, PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    store.commit(room(0)).await.unwrap();
    while replica.ask(&["HLEN", "{greenroom:store:1}:kind:room"]).as_deref() != Some(":1") {
        assert!(Instant::now() < deadline, "the replica follows");
        sleep(Duration::from_millis(5)).await;
    }
    proxy.aim(replica.port);
    // Until it is promoted it takes no writes: what is asked meanwhile waits.
    let waiting = store.commit(room(1));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(replica.ask(&["REPLICAOF", "NO", "ONE"]).as_deref(), Some("+OK"));
    assert_eq!(waiting.await.unwrap(), Version(2));
}

/// Stores one room after the other until this is so; answers how many there are. A takeover may be told, once each time: the
/// replica lacked the last of them.
async fn fill_until(store: &RedisStore, from: u32, mut is_so: impl FnMut(u32) -> bool) -> (u32, u32) {
    let (mut number, mut rewinds) = (from, 0);
    let deadline = Instant::now() + sentinels::PATIENCE;
    while !is_so(number) {
        assert!(Instant::now() < deadline, "waited in vain");
        match store.commit(room(number)).await {
            Ok(_) => number += 1,
            Err(CommitError::Rewound(_)) => {
                rewinds += 1;
                number = u32::try_from(rooms_anew(store).await).unwrap();
            }
            // A conflict would be a batch that is stored twice.
            Err(error) => panic!("{error}"),
        }
    }
    (number, rewinds)
}

#[tokio::test]
async fn its_replica_takes_over_and_what_is_stored_is_stored_once() {
    let mut watched = Watched::start(1, &DURABLE);
    let store = store_of(watched.address(), sentinels::PATIENCE);
    fill_until(&store, 0, |number| number == 50).await;
    watched.stores[0].kill();
    let (number, rewinds) = fill_until(&store, 50, |number| number > 100).await;
    assert!(rewinds <= 1, "{rewinds}");
    assert_eq!(rooms(&store).await, number as usize);
    // It comes back, believes to be the primary for a while, and is made the replica. Then it takes over.
    watched.stores[0].run();
    let (number, rewinds) = fill_until(&store, number, |_| watched.is_replica(0)).await;
    assert_eq!(rewinds, 0, "nobody goes back to it by himself");
    let until = number + 50;
    watched.stores[1].kill();
    let (number, rewinds) = fill_until(&store, number, |number| number > until).await;
    assert!(rewinds <= 1, "{rewinds}");
    assert_eq!(rooms(&store).await, number as usize);
}

#[tokio::test]
async fn frozen_until_its_replica_has_taken_over_it_is_not_gone_on_with() {
    let watched = Watched::start(1, &[]);
    let store = store_of(watched.address(), sentinels::PATIENCE);
    fill_until(&store, 0, |number| number == 50).await;
    let frozen = watched.stores[0].freeze();
    let (number, _) = fill_until(&store, 50, |number| number > 60).await;
    drop(frozen);
    let (number, rewinds) = fill_until(&store, number, |_| watched.is_replica(0)).await;
    assert_eq!(rewinds, 0, "nobody goes back to it");
    assert_eq!(rooms(&store).await, number as usize);
}

#[tokio::test]
async fn a_store_that_takes_no_writes_says_why() {
    let primary = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let store = store_at(replica.port, Duration::from_millis(500));
    let told = store.commit(room(1)).await.unwrap_err();
    let why = std::error::Error::source(&told).unwrap().to_string();
    assert!(why.contains("read only replica"), "{why}");
}

#[tokio::test]
async fn a_store_that_is_full_stores_all_of_a_batch_or_nothing() {
    let server = Server::start(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
    let store = store_at(server.port, Duration::from_millis(400));
    let mut stored = 0;
    let full = loop {
        let big = |key: &str| Write::Put {
            kind: Kind::Result,
            key: format!("{key}{stored}"),
            bytes: vec![b'x'; 100_000],
            expect: Expect::Any,
        };
        match store.commit(Batch::from_iter([big("a"), big("b")])).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "it is full some time");
    };
    assert!(matches!(full, CommitError::Unavailable(_)), "{full}");
    assert_eq!(store.load(Kind::Result).await.unwrap().len(), stored * 2);
}

#[tokio::test]
async fn an_import_of_the_largest_size_is_one_step_of_the_store() {
    let server = Server::start(&[]);
    let mut config = RedisConfig::new(format!("redis://127.0.0.1:{}", server.port).parse().unwrap());
    // As `greenroom import` waits for it.
    (config.answer_within, config.give_up_after) = (PATIENCE, PATIENCE * 3);
    let store = RedisStore::open(config).unwrap();
    let put = |n: usize| Write::Put {
        kind: Kind::Host,
        key: n.to_string(),
        bytes: b"{}".to_vec(),
        expect: Expect::Absent,
    };
    assert_eq!(store.commit((0..STEPS_MAX + 2).map(put).collect()).await.unwrap(), Version(1));
    assert!(store.get(Kind::Host, &(STEPS_MAX + 1).to_string()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_kind_that_takes_longer_than_an_answer_may_is_read_and_commits_go_on_beside_it() {
    let server = Server::start(&[]);
    let filler = store_at(server.port, PATIENCE);
    for batch in 0..40_u32 {
        let put = |number: u32| Write::Put {
            kind: Kind::Answer,
            key: format!("a{batch}-{number}"),
            bytes: vec![b'x'; 4_096],
            expect: Expect::Any,
        };
        filler.commit((0..1_000).map(put).collect()).await.unwrap();
    }
    let mut config = RedisConfig::new(format!("redis://127.0.0.1:{}", server.port).parse().unwrap());
    config.answer_within = Duration::from_millis(150);
    let store = RedisStore::open(config).unwrap();
    let begun = Instant::now();
    let (read, stored) = tokio::join!(store.load(Kind::Answer), store.commit(room(1)));
    let took = begun.elapsed();
    assert_eq!(read.unwrap().len(), 40_000, "after {took:?}");
    stored.unwrap();
    assert!(took > Duration::from_millis(150), "it was too little to prove anything: {took:?}");
}
