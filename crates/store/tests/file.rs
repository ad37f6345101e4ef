//! What only the file store promises: it stays, one process holds it, and damage is told.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use greenroom_store::{Batch, Expect, FileStore, Kind, OpenError, Store, Write};

async fn fill(folder: &Path) -> PathBuf {
    let store = FileStore::open(folder).unwrap();
    for number in 0..40 {
        let write = Write::Put {
            kind: Kind::Room,
            key: format!("r{number:03}"),
            bytes: vec![b'x'; 1_000],
            expect: Expect::Absent,
        };
        store.commit(Batch::from_iter([write])).await.unwrap();
    }
    store.path().to_owned()
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again_and_versions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let store = FileStore::open(folder.path()).unwrap();
    let stored = store.load(Kind::Room).await.unwrap();
    assert_eq!(stored.len(), 40);
    let last = stored.iter().map(|stored| stored.version).max().unwrap();
    assert!(store.commit(Batch::new()).await.unwrap() > last);
}

#[tokio::test]
async fn a_store_that_is_held_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let held = FileStore::open(folder.path()).unwrap();
    let refused = FileStore::open(folder.path()).unwrap_err();
    let path = folder.path().join("store.redb");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    assert_eq!(refused.to_string(), format!("another process holds the store {}", path.display()));
    drop(held);
    FileStore::open(folder.path()).unwrap();
}

#[tokio::test]
async fn only_the_owner_may_read_the_signing_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = fill(&folder.path().join("control")).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_its_path_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = fill(folder.path()).await;
    let whole = fs::read(&path).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let damages: [(&str, Vec<u8>); 5] = [
        ("not a store", b"these are my notes".to_vec()),
        ("cut in the header", whole[..100].to_vec()),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("another beginning", [&[0u8; 64], &whole[64..]].concat()),
        ("noise in the records", {
            let mut bytes = whole.clone();
            for byte in bytes[4_096..=used].iter_mut().step_by(97) {
                *byte ^= 0x5a;
            }
            bytes
        }),
    ];
    for (name, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let refused = FileStore::open(folder.path()).expect_err(name);
        assert!(matches!(refused, OpenError::Damaged { .. }), "{name}: {refused:?}");
        assert!(refused.to_string().contains(&path.display().to_string()), "{name}: {refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}: the file was changed");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = FileStore::open(&file).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
    let path = file.join("store.redb");
    assert_eq!(refused.to_string(), format!("the store {} cannot be opened", path.display()));
}
