//! `greenroom export` and `greenroom import`: between stores and files.
//!
//! Never writes over a file, and never lets anybody but its owner read one: it holds the keys that tokens are signed with.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_control::lease::LeaseTimes;
use greenroom_core::Timestamp;
use greenroom_store::export::{Existing, Export, ImportError};
use greenroom_store::{CommitError, FileStore, Store};
use greenroom_wire::export::SigningKeys;
use serde::Serialize;

use crate::args::{ExportArgs, Global, ImportArgs, StoreArgs};
use crate::ask;
use crate::failure::{Failure, chain};
use crate::serve::{file_store, redis_config, redis_store};

/// How long a Redis may take for one answer, and in all: everything is one of its steps.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// What is told of a file that was written.
#[derive(Debug, Serialize)]
struct Exported {
    records: usize,
    term: u64,
    signing_keys: SigningKeys,
    bytes: usize,
}

/// What is told of a file that was stored.
#[derive(Debug, Serialize)]
struct Stored {
    records: usize,
    replaced: usize,
    term: u64,
}

/// `greenroom export`.
pub(crate) async fn export(args: &ExportArgs, global: &Global) -> Result<(), Failure> {
    let keys = if args.without_keys { SigningKeys::LeftOut } else { SigningKeys::Included };
    let (export, file) = match open(&args.from)? {
        Some(store) => {
            let export = Export::take(&*store, now(), keys).await.map_err(|error| {
                Failure::new(format!("the store cannot be exported: {}", chain(&error)), "")
            })?;
            let file = export.to_bytes();
            (export, file)
        }
        None => {
            let file =
                ask::client(global)?.export(keys).await.map_err(|error| ask::failure(&error, global))?;
            let export = Export::read(&file).map_err(|error| Failure::new(chain(&error), ""))?;
            (export, file)
        }
    };
    if export.is_empty() && export.header().term == 0 {
        let next = "Look at --store, --store-prefix and --data-dir: no control plane ever ran on this one.";
        return Err(Failure::new("the store is empty", next));
    }
    if is_standard(&args.file) {
        let mut out = io::stdout().lock();
        let written = out.write_all(&file).and_then(|()| out.flush());
        return written.map_err(|error| Failure::new(format!("the export cannot be written: {error}"), ""));
    }
    write(&args.file, &file)?;
    let told =
        Exported { records: export.len(), term: export.header().term, signing_keys: keys, bytes: file.len() };
    ask::show(global, &told, || {
        let secret = match keys {
            SigningKeys::Included => "; it holds the signing keys: keep it secret",
            SigningKeys::LeftOut => "",
        };
        format!("{} records of term {} are in {}{secret}", told.records, told.term, args.file.display())
    });
    Ok(())
}

/// `greenroom import`.
pub(crate) async fn import(args: &ImportArgs, global: &Global) -> Result<(), Failure> {
    let file = read(&args.file)?;
    let export = Export::read(&file).map_err(|error| Failure::new(chain(&error), "Nothing was stored."))?;
    let store = match &args.into.data_dir {
        Some(folder) => file_store(folder)?,
        None => open(&args.into)?.ok_or_else(|| Failure::usage("name a store", ""))?,
    };
    let existing = if args.replace { Existing::Replace } else { Existing::Refuse };
    // A leader renews four times while its lease lasts.
    let watch = LeaseTimes::default().lease * 2;
    let imported = export.import(&*store, existing, now(), watch).await.map_err(|error| refused(&error))?;
    let told = Stored { records: imported.records, replaced: imported.replaced, term: imported.term.0 };
    ask::show(global, &told, || {
        let replaced = match told.replaced {
            0 => String::new(),
            count => format!(" in the place of {count}"),
        };
        let keys = match export.header().signing_keys {
            SigningKeys::Included => "",
            SigningKeys::LeftOut => {
                "\nIt has no signing keys: tokens that were given out before are refused."
            }
        };
        format!(
            "{} records are stored{replaced}; whoever leads next has a term above {}{keys}",
            told.records, told.term
        )
    });
    Ok(())
}

fn refused(error: &ImportError) -> Failure {
    let next = match error {
        ImportError::NotEmpty { .. } => {
            "Name an empty store (another --store-prefix, another --data-dir), or delete what is there with --replace."
        }
        ImportError::Led { .. } => "Stop all control planes on this store first.",
        ImportError::TooMany { .. } => "Nothing was stored.",
        ImportError::Commit(CommitError::Conflict { .. }) => {
            "Somebody began to use this store meanwhile. Nothing was stored: stop it, and do this again."
        }
        ImportError::Commit(CommitError::Unavailable(_)) => {
            "All of it was stored, or nothing; with --replace it may be done again in either case."
        }
        ImportError::Read(_) | ImportError::Commit(CommitError::Rewound(_)) => "Nothing was stored.",
    };
    Failure::new(chain(error), next)
}

/// The store that is named; `None`: none is.
fn open(args: &StoreArgs) -> Result<Option<Arc<dyn Store>>, Failure> {
    if let Some(url) = &args.store {
        let mut config = redis_config(url)?;
        config.prefix.clone_from(&args.store_prefix);
        (config.answer_within, config.give_up_after) = (ANSWER_WITHIN, GIVE_UP_AFTER);
        return redis_store(config).map(Some);
    }
    let Some(folder) = &args.data_dir else { return Ok(None) };
    if !FileStore::is_in(&folder.join("control")) {
        let what = format!("there is no store in {}", folder.display());
        return Err(Failure::usage(what, "Name the folder that `greenroom control --data-dir` has."));
    }
    file_store(folder).map(Some)
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if is_standard(file) {
        io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display()), ""))?;
    Ok(bytes)
}

/// Writes a new file that only its owner may read: whole and on the disk, or not at all.
fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let is_there = error.kind() == io::ErrorKind::AlreadyExists;
        let next = if is_there { "Name another file, or remove this one." } else { "" };
        Failure::new(format!("{} cannot be written: {error}", file.display()), next)
    };
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let written = new.write_all(bytes).and_then(|()| new.sync_all());
    written.map_err(|error| {
        // Half a file is none; that it stays is no worse than that it could not be written.
        let _gone = std::fs::remove_file(file);
        failed(error)
    })
}

fn now() -> Timestamp {
    Timestamp::from_unix_ms(ask::now_ms())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_for_its_owner_alone_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backup.jsonl");
        write(&file, b"one").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = write(&file, b"two").unwrap_err();
        assert!(refused.to_string().ends_with("Name another file, or remove this one."), "{refused}");
        assert_eq!(read(&file).unwrap(), b"one");
    }

    #[test]
    fn a_folder_without_a_store_is_told_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("typo");
        let args = StoreArgs { store: None, store_prefix: String::new(), data_dir: Some(none.clone()) };
        let refused = open(&args).unwrap_err().to_string();
        assert!(refused.starts_with("there is no store in ") && !none.exists(), "{refused}");
    }
}
