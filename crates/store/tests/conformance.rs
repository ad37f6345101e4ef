//! What every store must do, asked of each. A new implementation adds one line to `each_store`.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

#[cfg(feature = "redis")]
#[path = "../../backplane/tests/ways/store.rs"]
#[expect(dead_code, reason = "this suite troubles no store")]
mod server;

use std::sync::Arc;

use greenroom_core::Term;
use greenroom_store::{
    Batch, CommitError, Expect, FileStore, Kind, MemoryStore, Store, Stored, Version, Write, lease, term,
};
use tokio::task::JoinSet;

/// Runs `check` on an empty store of each implementation.
async fn each_store<F: Future<Output = ()>>(check: impl Fn(&'static str, Arc<dyn Store>) -> F) {
    check("memory", Arc::new(MemoryStore::default())).await;
    let folder = tempfile::tempdir().unwrap();
    check("file", Arc::new(FileStore::open(&folder.path().join("deep/control")).unwrap())).await;
    #[cfg(feature = "redis")]
    {
        use greenroom_store::redis::{RedisConfig, RedisStore};
        let server = server::Store::start(&[]);
        let config = RedisConfig::new(format!("redis://127.0.0.1:{}", server.port).parse().unwrap());
        check("redis", Arc::new(RedisStore::open(config).unwrap())).await;
    }
}

fn put(kind: Kind, key: &str, text: &str, expect: Expect) -> Write {
    Write::Put { kind, key: key.to_owned(), bytes: text.as_bytes().to_vec(), expect }
}

fn delete(kind: Kind, key: &str, expect: Expect) -> Write {
    Write::Delete { kind, key: key.to_owned(), expect }
}

async fn commit(store: &Arc<dyn Store>, writes: impl IntoIterator<Item = Write>) -> Version {
    store.commit(writes.into_iter().collect()).await.unwrap()
}

/// `key=text` of every record of the kind.
async fn texts(store: &Arc<dyn Store>, kind: Kind) -> String {
    let stored = store.load(kind).await.unwrap();
    let words = stored.iter().map(|s| format!("{}={}", s.key, String::from_utf8_lossy(&s.bytes)));
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn records_come_back_by_kind_in_the_order_of_their_keys() {
    each_store(|name, store| async move {
        for kind in Kind::ALL {
            assert_eq!(store.load(kind).await.unwrap(), [], "{name}: a new store is empty");
        }
        let big = "x".repeat(1 << 20);
        let version = commit(
            &store,
            [
                put(Kind::Room, "b", "2", Expect::Any),
                put(Kind::Room, "a", "1", Expect::Any),
                put(Kind::Answer, "a", "", Expect::Any),
                put(Kind::Result, "\u{fc} b:/\"", &big, Expect::Any),
            ],
        )
        .await;
        let stored =
            |key: &str, text: &str| Stored { key: key.to_owned(), version, bytes: text.as_bytes().to_vec() };
        assert_eq!(store.load(Kind::Room).await.unwrap(), [stored("a", "1"), stored("b", "2")], "{name}");
        assert_eq!(store.load(Kind::Answer).await.unwrap(), [stored("a", "")], "{name}");
        assert_eq!(store.load(Kind::Result).await.unwrap(), [stored("\u{fc} b:/\"", &big)], "{name}");
        assert_eq!(store.load(Kind::Host).await.unwrap(), [], "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_later_write_replaces_an_earlier_one_also_within_a_batch() {
    each_store(|name, store| async move {
        let any = Expect::Any;
        commit(&store, [put(Kind::Room, "a", "1", any), put(Kind::Room, "b", "1", any)]).await;
        commit(&store, [put(Kind::Room, "a", "2", any), delete(Kind::Room, "b", any)]).await;
        assert_eq!(texts(&store, Kind::Room).await, "a=2", "{name}");
        commit(&store, [delete(Kind::Room, "absent", any)]).await;
        commit(&store, [put(Kind::Room, "c", "1", any), put(Kind::Room, "c", "2", any)]).await;
        commit(&store, [put(Kind::Room, "d", "1", any), delete(Kind::Room, "d", any)]).await;
        commit(&store, [delete(Kind::Room, "a", any), put(Kind::Room, "a", "3", any)]).await;
        assert_eq!(texts(&store, Kind::Room).await, "a=3 c=2", "{name}");
        commit(&store, []).await;
        assert_eq!(texts(&store, Kind::Room).await, "a=3 c=2", "{name}: an empty batch changes nothing");
    })
    .await;
}

#[tokio::test]
async fn one_record_is_found_by_its_key() {
    each_store(|name, store| async move {
        assert_eq!(store.get(Kind::Room, "a").await.unwrap(), None, "{name}: a new store is empty");
        let any = Expect::Any;
        let writes = [
            put(Kind::Room, "a", "1", any),
            put(Kind::Room, "ab", "2", any),
            put(Kind::Key, "f/a", "3", any),
        ];
        let version = commit(&store, writes).await;
        for (kind, key, text) in [(Kind::Room, "a", "1"), (Kind::Room, "ab", "2"), (Kind::Key, "f/a", "3")] {
            let found = store.get(kind, key).await.unwrap();
            let stored = Stored { key: key.to_owned(), version, bytes: text.as_bytes().to_vec() };
            assert_eq!(found, Some(stored), "{name}");
        }
        for (kind, key) in [(Kind::Room, "b"), (Kind::Room, "f/a"), (Kind::Key, "a"), (Kind::Room, "")] {
            assert_eq!(store.get(kind, key).await.unwrap(), None, "{name}: {kind} {key}");
        }
        commit(&store, [delete(Kind::Room, "a", any)]).await;
        assert_eq!(store.get(Kind::Room, "a").await.unwrap(), None, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_batch_whose_expectation_fails_stores_nothing() {
    each_store(|name, store| async move {
        let first = commit(&store, [put(Kind::Room, "a", "1", Expect::Absent)]).await;
        let second = commit(&store, [put(Kind::Room, "a", "2", Expect::Version(first))]).await;
        assert!(second > first, "{name}");
        let check = |key: &str, expect| Write::Check { kind: Kind::Room, key: key.to_owned(), expect };
        let refused = [
            (put(Kind::Room, "a", "9", Expect::Absent), "to be absent, it has version 2"),
            (put(Kind::Room, "a", "9", Expect::Version(first)), "to have version 1, it has version 2"),
            (put(Kind::Room, "b", "9", Expect::Version(first)), "to have version 1, it is absent"),
            (delete(Kind::Room, "a", Expect::Version(first)), "to have version 1, it has version 2"),
            (delete(Kind::Room, "a", Expect::Absent), "to be absent, it has version 2"),
            (check("a", Expect::Absent), "to be absent, it has version 2"),
            (check("b", Expect::Version(second)), "to have version 2, it is absent"),
        ];
        for (write, words) in refused {
            let key = write.condition().1.to_owned();
            let batch =
                [put(Kind::Answer, "x", "9", Expect::Any), write, delete(Kind::Room, "a", Expect::Any)];
            let error = store.commit(Batch::from_iter(batch)).await.unwrap_err();
            assert_eq!(error.to_string(), format!("room record \"{key}\" was expected {words}"), "{name}");
            assert_eq!(texts(&store, Kind::Room).await, "a=2", "{name}");
            assert_eq!(texts(&store, Kind::Answer).await, "", "{name}");
        }
        let held = [
            check("a", Expect::Version(second)),
            check("b", Expect::Absent),
            delete(Kind::Room, "a", Expect::Version(second)),
            // Judged before the batch: the record is still there.
            check("a", Expect::Version(second)),
        ];
        commit(&store, held).await;
        let again = commit(&store, [put(Kind::Room, "a", "3", Expect::Absent)]).await;
        assert!(again > second, "{name}: a record written anew never has an old version");
    })
    .await;
}

#[tokio::test]
async fn of_processes_that_raise_the_term_together_each_gets_its_own() {
    each_store(|name, store| async move {
        let mut raising = JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&store);
            raising.spawn(async move { term::raise(&*store, Term(0)).await.unwrap().term.0 });
        }
        let mut terms = raising.join_all().await;
        terms.sort_unstable();
        assert_eq!(terms, (1..=8).collect::<Vec<_>>(), "{name}");
        assert_eq!(term::raise(&*store, Term(40)).await.unwrap().term, Term(41), "{name}: above the agents'");
        assert_eq!(term::raise(&*store, Term(3)).await.unwrap().term, Term(42), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_process_that_lost_its_term_can_store_nothing_more() {
    each_store(|name, store| async move {
        let old = term::raise(&*store, Term(0)).await.unwrap();
        let batch = |text| [old.check(), put(Kind::Room, "a", text, Expect::Any)];
        commit(&store, batch("1")).await;
        term::raise(&*store, Term(0)).await.unwrap();
        let error = store.commit(Batch::from_iter(batch("2"))).await.unwrap_err();
        assert!(matches!(error, CommitError::Conflict { kind: Kind::Term, .. }), "{name}: {error}");
        assert_eq!(texts(&store, Kind::Room).await, "a=1", "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_load_sees_a_batch_whole_or_not_at_all() {
    each_store(|name, store| async move {
        let writer = {
            let store = Arc::clone(&store);
            async move {
                for round in 0..40 {
                    let text = round.to_string();
                    let keys = ["a", "b", "c"];
                    commit(&store, keys.map(|key| put(Kind::Room, key, &text, Expect::Any))).await;
                }
            }
        };
        let mut writing = JoinSet::new();
        writing.spawn(writer);
        while writing.try_join_next().is_none() {
            let stored = store.load(Kind::Room).await.unwrap();
            assert!(stored.is_empty() || stored.len() == 3, "{name}");
            assert!(stored.windows(2).all(|pair| pair[0].bytes == pair[1].bytes), "{name}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_load_of_several_kinds_sees_one_moment_and_answers_in_the_order_of_the_question() {
    each_store(|name, store| async move {
        let kinds = [Kind::Result, Kind::Room, Kind::Answer, Kind::Audit];
        let writer = {
            let store = Arc::clone(&store);
            async move {
                for round in 0..40 {
                    let text = round.to_string();
                    // One kind has a record in each second round only.
                    let odd = match round % 2 {
                        0 => put(Kind::Answer, "a", &text, Expect::Any),
                        _ => delete(Kind::Answer, "a", Expect::Any),
                    };
                    let both = [Kind::Room, Kind::Result].map(|kind| put(kind, "a", &text, Expect::Any));
                    commit(&store, both.into_iter().chain([odd])).await;
                }
            }
        };
        let mut writing = JoinSet::new();
        writing.spawn(writer);
        let mut seen = 0;
        while writing.try_join_next().is_none() {
            let all = store.load_all(&kinds).await.unwrap();
            let [results, rooms, answers, audit] = &all[..] else { panic!("{name}: {} lists", all.len()) };
            assert_eq!(results, rooms, "{name}");
            assert!(audit.is_empty(), "{name}");
            let round =
                rooms.first().map(|room| String::from_utf8_lossy(&room.bytes).parse::<u32>().unwrap());
            let is_even = round.is_some_and(|round| round % 2 == 0);
            assert_eq!(answers.first(), rooms.first().filter(|_| is_even), "{name}");
            seen += usize::from(round.is_some());
            tokio::task::yield_now().await;
        }
        let last = store.load_all(&kinds).await.unwrap();
        assert_eq!(last.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0, 0], "{name}, seen {seen} times");
        assert!(store.load_all(&[]).await.unwrap().is_empty(), "{name}");
    })
    .await;
}

#[tokio::test]
async fn of_replicas_that_take_a_lease_together_one_gets_it() {
    each_store(|name, store| async move {
        let holder = |name: &str| lease::Holder { name: name.to_owned(), url: format!("http://{name}") };
        let mut seen = None;
        for round in 1..=3u64 {
            let mut taking = JoinSet::new();
            for replica in ["a", "b", "c", "d"] {
                let (store, holder) = (Arc::clone(&store), holder(replica));
                taking.spawn(async move {
                    lease::take(&*store, seen, Term(10), &holder).await.map(|h| (h, holder))
                });
            }
            let taken: Vec<_> = taking.join_all().await.into_iter().filter_map(Result::ok).collect();
            let [(held, holder)] = &taken[..] else { panic!("{name}: {} got it", taken.len()) };
            assert_eq!(held.term, Term(10 + round), "{name}: above all that is known");
            let stored = lease::read(&*store).await.unwrap().unwrap();
            assert_eq!((&stored.record.holder, stored.record.beat), (&holder.name, 0), "{name}");
            commit(&store, [held.check(), lease::renewal(held, holder, 1)]).await;
            let late = lease::take(&*store, Some(stored.version), Term(10), holder).await.unwrap_err();
            assert_eq!(late.to_string(), "another replica was faster", "{name}: it was renewed");
            commit(&store, [held.check(), lease::release(held, holder, 2)]).await;
            let stored = lease::read(&*store).await.unwrap().unwrap();
            assert!(stored.record.released, "{name}");
            seen = Some(stored.version);
        }
    })
    .await;
}
