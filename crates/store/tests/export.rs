//! From one store into a file and into another store, of whatever kind; and files that are none.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

#[cfg(feature = "redis")]
#[path = "../../backplane/tests/ways/store.rs"]
#[expect(dead_code, reason = "this suite troubles no store")]
mod server;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::{Term, Timestamp};
use greenroom_store::export::{Existing, Export, ImportError};
use greenroom_store::{Batch, Expect, FileStore, Kind, MemoryStore, Store, Write, lease, records, term};
use greenroom_wire::api::{AuditAction, AuditEntry};
use greenroom_wire::export::SigningKeys;
use greenroom_wire::record::AuditRecord;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);
/// Longer than the tests' leader needs to renew its lease.
const WATCH: Duration = Duration::from_millis(300);

/// Empty stores of each kind, and what keeps them.
struct Stores {
    _folders: Vec<tempfile::TempDir>,
    #[cfg(feature = "redis")]
    server: server::Store,
    #[cfg(feature = "redis")]
    prefixes: std::cell::Cell<u32>,
}

impl Stores {
    fn new() -> Self {
        Self {
            _folders: Vec::new(),
            #[cfg(feature = "redis")]
            server: server::Store::start(&[]),
            #[cfg(feature = "redis")]
            prefixes: std::cell::Cell::new(0),
        }
    }

    fn empty(&mut self) -> Vec<(&'static str, Arc<dyn Store>)> {
        let folder = tempfile::tempdir().unwrap();
        let file: Arc<dyn Store> = Arc::new(FileStore::open(folder.path()).unwrap());
        self._folders.push(folder);
        let stores: Vec<(&'static str, Arc<dyn Store>)> =
            vec![("memory", Arc::new(MemoryStore::default())), ("file", file)];
        #[cfg(feature = "redis")]
        let stores = {
            use greenroom_store::redis::{RedisConfig, RedisStore};
            self.prefixes.set(self.prefixes.get() + 1);
            let address = format!("redis://127.0.0.1:{}", self.server.port).parse().unwrap();
            let mut config = RedisConfig::new(address);
            config.prefix = format!("export-{}", self.prefixes.get());
            (config.answer_within, config.give_up_after) = (Duration::from_secs(20), Duration::from_secs(60));
            let redis: Arc<dyn Store> = Arc::new(RedisStore::open(config).unwrap());
            stores.into_iter().chain([("redis", redis)]).collect()
        };
        stores
    }
}

/// A record of the kind, as its golden file has it.
fn golden(kind: Kind) -> Vec<u8> {
    let name = match kind {
        Kind::Room => "room",
        Kind::Key => "key",
        Kind::Answer => "answer",
        Kind::Result => "result",
        Kind::SigningKey => "signing_key",
        Kind::Host => "host",
        Kind::Decision => "decision",
        Kind::Scale => "scale",
        Kind::Drain => "drain",
        Kind::Term => "term",
        Kind::Lease => "lease",
        Kind::Audit => "audit",
        Kind::News => "news_item",
        Kind::Trigger => "trigger",
    };
    let path = format!("{}/../wire/tests/golden/v1/record_{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn put(kind: Kind, key: &str, bytes: &[u8]) -> Write {
    Write::Put { kind, key: key.to_owned(), bytes: bytes.to_vec(), expect: Expect::Any }
}

/// One record of each kind, under a key that is not simple, and under one more.
async fn fill(store: &Arc<dyn Store>) {
    let words = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Term | Kind::Lease));
    let puts = words.flat_map(|kind| {
        let compact: serde_json::Value = serde_json::from_slice(&golden(kind)).unwrap();
        let compact = serde_json::to_vec(&compact).unwrap();
        [put(kind, "arena/\u{fc} \"1\"", &compact), put(kind, "b", &compact)]
    });
    store.commit(puts.collect()).await.unwrap();
}

/// Everything but the term and its moment, and what imports say of themselves.
async fn contents(store: &Arc<dyn Store>) -> Vec<(Kind, String, String)> {
    let all = store.load_all(&Kind::ALL).await.unwrap();
    let of = |(kind, stored): (Kind, Vec<greenroom_store::Stored>)| {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        stored.into_iter().map(move |stored| (kind, stored.key, text(stored.bytes)))
    };
    let all = Kind::ALL.into_iter().zip(all).flat_map(of);
    let of_import = |bytes: &str| bytes.contains("state_imported");
    all.filter(|(kind, _, bytes)| *kind != Kind::Term && !of_import(bytes)).collect()
}

async fn take(store: &Arc<dyn Store>) -> Export {
    Export::take(&**store, NOW, SigningKeys::Included).await.unwrap()
}

async fn import(export: &Export, store: &Arc<dyn Store>, existing: Existing) -> Result<u64, ImportError> {
    export.import(&**store, existing, NOW, WATCH).await.map(|imported| imported.term.0)
}

#[tokio::test]
async fn what_a_store_holds_is_the_same_after_a_file_in_a_store_of_any_kind() {
    let mut stores = Stores::new();
    for (from, source) in stores.empty() {
        fill(&source).await;
        let held = term::raise(&*source, Term(6)).await.unwrap();
        let export = take(&source).await;
        assert_eq!((export.header().term, export.len()), (7, 24), "{from}");
        let read = Export::read(&export.to_bytes()).unwrap();
        assert_eq!(read, export, "{from}");
        for (nth, (to, target)) in (0..).zip(stores.empty()) {
            assert_eq!(import(&read, &target, Existing::Refuse).await.unwrap(), 8, "{from} to {to}");
            assert_eq!(contents(&target).await, contents(&source).await, "{from} to {to}");
            let led = term::raise(&*target, Term(0)).await.unwrap();
            assert!(led.term > held.term, "{from} to {to}: agents obey whoever leads on it");
            // And back over what is there: each time above the term of either.
            let again = take(&target).await;
            assert_eq!(import(&again, &source, Existing::Replace).await.unwrap(), 10 + nth, "{to} to {from}");
            assert_eq!(contents(&source).await, contents(&target).await, "{to} to {from}");
        }
    }
}

#[tokio::test]
async fn an_import_is_in_the_trail_after_all_that_came_before_it() {
    let [source, target]: [Arc<dyn Store>; 2] =
        std::array::from_fn(|_| Arc::new(MemoryStore::default()) as _);
    let trail = async || records::load::<AuditRecord>(&*target).await.unwrap();
    let before = AuditRecord {
        version: 1,
        entry: AuditEntry {
            number: 41,
            at_ms: 1,
            who: "token ops".to_owned(),
            action: AuditAction::FleetScaled,
            subject: "arena".to_owned(),
            reason: "more".to_owned(),
            busy: false,
        },
    };
    let mut batch = Batch::new();
    batch.put(before.key(), &before);
    source.commit(batch).await.unwrap();
    let export = take(&source).await;
    import(&export, &target, Existing::Refuse).await.unwrap();
    let told = trail().await.into_iter().map(|stored| stored.record.entry).collect::<Vec<_>>();
    assert_eq!(told[0], before.entry);
    assert_eq!((told.len(), told[1].number, told[1].at_ms), (2, 42, NOW.unix_ms()));
    assert_eq!((told[1].who.as_str(), told[1].action), ("import", AuditAction::StateImported));
    assert_eq!(told[1].reason, "1 records that were exported under term 0");
    // Once more: what was there, the entry included, is gone with the rest and counted.
    import(&export, &target, Existing::Replace).await.unwrap();
    let told = trail().await.into_iter().map(|stored| stored.record.entry).collect::<Vec<_>>();
    assert_eq!((told.len(), told[1].number), (2, 42));
    assert_eq!(told[1].reason, "1 records that were exported under term 0 in the place of 3");
}

#[tokio::test]
async fn the_keys_are_left_out_when_that_is_asked_for() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    fill(&store).await;
    let export = Export::take(&*store, NOW, SigningKeys::LeftOut).await.unwrap();
    let file = String::from_utf8(export.to_bytes()).unwrap();
    assert_eq!((export.len(), file.contains("signing_key\",\"key")), (22, false));
    assert!(file.lines().next().unwrap().contains(r#""signing_keys":"left_out""#), "{file}");
    assert!(!file.contains("secret"), "{file}");
}

#[tokio::test]
async fn the_file_stays_as_it_was() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let puts = [Kind::Host, Kind::Drain, Kind::SigningKey].map(|kind| put(kind, "k", &golden(kind)));
    store.commit(puts.into_iter().collect()).await.unwrap();
    term::raise(&*store, Term(6)).await.unwrap();
    let file = String::from_utf8(take(&store).await.to_bytes()).unwrap();
    let version = format!("\"written_by\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(file.contains(&version));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/export.jsonl");
    if std::env::var_os("GREENROOM_GOLDEN").is_some_and(|word| word == "write")
        && !std::path::Path::new(golden).exists()
    {
        std::fs::write(golden, &file).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap();
    let body = |file: &str| file.lines().skip(1).take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&file), body(&kept));
    let read = Export::read(kept.as_bytes()).unwrap();
    assert_eq!((read.header().term, read.len()), (7, 3));
}

#[tokio::test]
async fn a_store_that_is_not_empty_is_left_alone_and_one_that_is_led_always() {
    let mut stores = Stores::new();
    let source: Arc<dyn Store> = Arc::new(MemoryStore::default());
    fill(&source).await;
    let export = take(&source).await;
    for (name, store) in stores.empty() {
        let holder = lease::Holder { name: "a".to_owned(), url: "http://a".to_owned() };
        let held = lease::take(&*store, None, Term(4), &holder).await.unwrap();
        let refused = import(&export, &store, Existing::Refuse).await.unwrap_err();
        assert_eq!(refused.to_string(), "the store is not empty: it has 2 records, of term 5", "{name}");
        let before = store.load_all(&Kind::ALL).await.unwrap();
        let (renewed, refused) = tokio::join!(
            async {
                tokio::time::sleep(WATCH / 3).await;
                let renewal = [held.check(), lease::renewal(&held, &holder, 1)];
                store.commit(Batch::from_iter(renewal)).await
            },
            import(&export, &store, Existing::Replace)
        );
        renewed.unwrap();
        assert_eq!(refused.unwrap_err().to_string(), "replica a at http://a leads on this store", "{name}");
        assert_eq!(contents(&store).await.len(), before.iter().flatten().count() - 1, "{name}");
        // It is silent now, as one that was killed.
        assert_eq!(import(&export, &store, Existing::Replace).await.unwrap(), 6, "{name}");
        assert_eq!(contents(&store).await, contents(&source).await, "{name}: its lease is gone");
        let late = [held.check(), put(Kind::Room, "late", b"{}")];
        store.commit(Batch::from_iter(late)).await.expect_err("it writes nothing when it thaws");
        assert!(
            lease::take(&*store, None, Term(0), &holder).await.is_ok(),
            "{name}: a new leader begins at once"
        );
    }
}

#[tokio::test]
async fn a_lease_that_was_given_back_is_not_waited_for() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let holder = lease::Holder { name: "a".to_owned(), url: "http://a".to_owned() };
    let held = lease::take(&*store, None, Term(4), &holder).await.unwrap();
    store.commit(Batch::from_iter([held.check(), lease::release(&held, &holder, 1)])).await.unwrap();
    let export = take(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>)).await;
    let forever = Duration::from_secs(3_600);
    let imported = export.import(&*store, Existing::Replace, NOW, forever);
    let imported = tokio::time::timeout(Duration::from_secs(30), imported).await.unwrap().unwrap();
    assert_eq!((imported.term, imported.records, imported.replaced), (Term(6), 0, 2));
}

/// The file with one line changed, added or left out, and its last line as if it had always been so.
fn forged(file: &str, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    lines.pop();
    change(&mut lines);
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let sha256: String =
        <sha2::Sha256 as sha2::Digest>::digest(&body).iter().map(|b| format!("{b:02x}")).collect();
    format!("{body}{{\"records\":{},\"sha256\":\"{sha256}\"}}\n", lines.len() - 1)
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_with_what_is_wrong_with_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let host = br#"{"version":1,"host":"h1"}"#;
    store.commit(Batch::from_iter([put(Kind::Host, "h1", host), put(Kind::Host, "h2", host)])).await.unwrap();
    let file = String::from_utf8(take(&store).await.to_bytes()).unwrap();
    let whole = forged(&file, |_| {});
    assert_eq!(whole, file, "what is forged is as what is written");
    let line_of = |n: usize| file.lines().nth(n).unwrap().to_owned();
    let without = |n: usize| file.replacen(&format!("{}\n", line_of(n)), "", 1);
    let strange = "this is no export of greenroom: its first line is not the header of one";
    let cut =
        "the export is cut: its last line is not the one that ends it; take it from where it came from again";
    let sum = "the export is damaged: its checksum is another one; take it from where it came from again";
    let unknown = "line 2 of the export has a record of kind \"hostess\", which this program does not know: a newer one wrote it";
    let cases = [
        ("an empty file", String::new(), strange),
        ("another file", "{\"records\":0}\n".to_owned(), strange),
        ("no header", without(0), strange),
        (
            "a newer format",
            file.replace("\"greenroom_export\":1", "\"greenroom_export\":2,\"more\":[]"),
            "the export has format 2, this program reads 1: a newer one wrote it",
        ),
        ("a header alone", format!("{}\n", line_of(0)), cut),
        ("no last line", without(3), cut),
        ("half a last line", file[..file.len() - 20].to_owned(), cut),
        ("no last line end", file[..file.len() - 1].to_owned(), cut),
        ("a line twice at the end", format!("{file}{}\n", line_of(1)), cut),
        ("a record is missing", without(1), sum),
        ("a record is changed", file.replace("\"key\":\"h2\"", "\"key\":\"h3\""), sum),
        ("the term is changed", file.replace("\"term\":0", "\"term\":1"), sum),
        ("the sum is changed", file.replace("sha256\":\"", "sha256\":\"0"), sum),
        (
            "the count is changed",
            file.replace("{\"records\":2", "{\"records\":3"),
            "the export is damaged: it has 2 records and should have 3; take it from where it came from again",
        ),
        (
            "an unknown kind",
            forged(&file, |lines| lines[1] = lines[1].replace("\"host\",", "\"hostess\",")),
            unknown,
        ),
        (
            "a term among the records",
            forged(&file, |lines| lines[1] = lines[1].replace("\"kind\":\"host\"", "\"kind\":\"term\"")),
            "line 2 of the export has a record of kind \"term\", which this program does not know: a newer one wrote it",
        ),
        (
            "a newer record",
            forged(&file, |lines| lines[2] = lines[2].replace("\"version\":1", "\"version\":2")),
            "line 3 of the export cannot be used: host record \"h2\" has version 2, this program reads up to 1: a newer one wrote it",
        ),
        (
            "a damaged record",
            forged(&file, |lines| lines[2] = lines[2].replace("\"host\":\"h1\"", "\"host\":\"\"")),
            "line 3 of the export cannot be used: host record \"h2\" cannot be read",
        ),
        (
            "no JSON",
            forged(&file, |lines| lines[2] = "{".to_owned()),
            "the export is damaged: line 3 is no record: EOF while parsing an object at line 1 column 1; take it from where it came from again",
        ),
    ];
    for (name, file, message) in cases {
        let error = Export::read(file.as_bytes()).expect_err(name);
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        assert_eq!(format!("{error}{source}"), message, "{name}");
    }
}

/// A file with a record of each kind.
fn filled() -> Vec<u8> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        fill(&store).await;
        take(&store).await.to_bytes()
    })
}

proptest! {
    #[test]
    fn no_file_with_a_byte_changed_or_left_out_is_read(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut file = filled();
        let whole = Export::read(&file).unwrap();
        let at = at.index(file.len());
        let before = file[at];
        if cut {
            file.remove(at);
        } else {
            file[at] = byte;
        }
        match Export::read(&file) {
            Ok(read) => prop_assert!(!cut && byte == before && read == whole, "byte {at} was {before}"),
            Err(_) => prop_assert!(cut || byte != before),
        }
    }

    #[test]
    fn whatever_stands_under_a_right_sum_is_read_as_it_stands_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let file = String::from_utf8(filled()).unwrap();
        let forged = forged(&file, |lines| {
            for (line, place, byte) in &changes {
                let line = line.index(lines.len());
                let mut bytes = lines[line].clone().into_bytes();
                let place = place.index(bytes.len());
                bytes[place] = *byte;
                // No line end is added: a line stays a line.
                lines[line] = String::from_utf8_lossy(&bytes).replace('\n', " ");
            }
        });
        if let Ok(read) = Export::read(forged.as_bytes()) {
            prop_assert_eq!(Export::read(&read.to_bytes()).unwrap(), read);
        }
    }
}

#[tokio::test]
async fn a_store_with_a_record_that_cannot_be_read_makes_no_file() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    fill(&store).await;
    store.commit(Batch::from_iter([put(Kind::Room, "r", b"{")])).await.unwrap();
    let error = Export::take(&*store, NOW, SigningKeys::Included).await.unwrap_err();
    assert_eq!(error.to_string(), "room record \"r\" cannot be read");
}
