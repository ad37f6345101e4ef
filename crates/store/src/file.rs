//! The store of one machine: one file in a folder, held by one process at a time.
//!
//! Never shares the file and never repairs what it does not understand: a damaged file is an error that names it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::{Batch, BoxFuture, CommitError, Expect, Kind, ReadError, Store, Stored, Version, Write};

/// The store's file in its folder.
const FILE: &str = "store.redb";

/// The file's own layout: tables and value types. Raised when they change.
const LAYOUT: u64 = 1;

/// Pages kept in memory, in bytes; the records of a busy control plane are a few MiB.
const CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// `layout` and `commits`.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// One table per kind: key to version and bytes.
const fn table(kind: Kind) -> TableDefinition<'static, &'static str, (u64, &'static [u8])> {
    TableDefinition::new(kind.as_str())
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it. Stop that one, or use another folder.
    #[error("another process holds the store {}", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged or not a store. Restore it, or move it away to begin anew: rooms that run then are adopted,
    /// promises that nobody has used yet are lost.
    #[error("the store {} is damaged or not a store: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer program wrote it. Run that one, or a newer one.
    #[error("the store {} has layout {found}, this program knows {LAYOUT}: a newer one wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// The folder or file cannot be made, opened, read or written.
    #[error("the store {} cannot be opened", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Records in a file. A commit is on the disk when it returns, by `fsync`; a process that is killed at any instant
/// leaves all of a batch or nothing.
#[derive(Debug)]
pub struct FileStore {
    database: Arc<Database>,
    path: PathBuf,
}

impl FileStore {
    /// Opens the store in `folder`, making folder and file (readable by their owner alone) where they are missing.
    /// Checks the whole file. Blocks; called once, at the start.
    ///
    /// # Errors
    /// When another process holds it, or it is damaged, newer, or cannot be reached.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        let io = |source| OpenError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        // Made here for its mode: it will hold the signing key.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(io)?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES_MAX).set_check_integrity_on_open(true);
        let database = builder.create(&path).map_err(|error| open_error(&path, error))?;
        prepare(&database, &path)?;
        // The file's name too must be on the disk before a promise rests on it.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(Self { database: Arc::new(database), path })
    }

    /// Whether there is one in `folder`, whoever holds it.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
        return OpenError::InUse { path };
    }
    let detail = error.to_string();
    // These two kinds of IO error are how a file that is too short or makes no sense shows itself.
    let damage = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    if let DatabaseError::Storage(StorageError::Io(source)) = error
        && !damage.contains(&source.kind())
    {
        return OpenError::Io { path, source };
    }
    OpenError::Damaged { path, detail }
}

/// Makes the tables of a new file; checks the layout of an old one.
fn prepare(database: &Database, path: &Path) -> Result<(), OpenError> {
    let found = layout(database)
        .map_err(|error| OpenError::Damaged { path: path.to_owned(), detail: error.to_string() })?;
    if found == LAYOUT { Ok(()) } else { Err(OpenError::Newer { path: path.to_owned(), found }) }
}

fn layout(database: &Database) -> Result<u64, Error> {
    let writing = database.begin_write()?;
    let found = {
        let mut meta = writing.open_table(META)?;
        let found = meta.get("layout")?.map(|layout| layout.value());
        if found.is_none() {
            meta.insert("layout", LAYOUT)?;
        }
        found.unwrap_or(LAYOUT)
    };
    if found == LAYOUT {
        for kind in Kind::ALL {
            writing.open_table(table(kind))?;
        }
        writing.commit()?;
    }
    Ok(found)
}

fn load(reading: &redb::ReadTransaction, kind: Kind) -> Result<Vec<Stored>, Error> {
    let records = reading.open_table(table(kind))?;
    let mut stored = Vec::new();
    for record in records.iter()? {
        let (key, value) = record?;
        let (version, bytes) = value.value();
        stored.push(Stored { key: key.value().to_owned(), version: Version(version), bytes: bytes.to_vec() });
    }
    Ok(stored)
}

fn get(database: &Database, kind: Kind, key: &str) -> Result<Option<Stored>, Error> {
    let found = database.begin_read()?.open_table(table(kind))?.get(key)?;
    Ok(found.map(|value| {
        let (version, bytes) = value.value();
        Stored { key: key.to_owned(), version: Version(version), bytes: bytes.to_vec() }
    }))
}

fn commit(database: &Database, batch: &Batch) -> Result<Version, CommitError> {
    // Dropping an unfinished transaction undoes it.
    let writing = database.begin_write().map_err(unavailable)?;
    for write in batch.writes() {
        let (kind, key, expected) = write.condition();
        if expected == Expect::Any {
            continue;
        }
        let found = version_of(&writing, kind, key).map_err(CommitError::Unavailable)?;
        if !expected.holds(found) {
            return Err(CommitError::Conflict { kind, key: key.to_owned(), expected, found });
        }
    }
    let version = write_all(&writing, batch.writes()).map_err(CommitError::Unavailable)?;
    writing.commit().map_err(unavailable)?;
    Ok(version)
}

fn version_of(writing: &redb::WriteTransaction, kind: Kind, key: &str) -> Result<Option<Version>, Error> {
    let records = writing.open_table(table(kind))?;
    let found = records.get(key)?;
    Ok(found.map(|value| Version(value.value().0)))
}

fn write_all(writing: &redb::WriteTransaction, writes: &[Write]) -> Result<Version, Error> {
    let version = {
        let mut meta = writing.open_table(META)?;
        let commits = meta.get("commits")?.map_or(0, |commits| commits.value()) + 1;
        meta.insert("commits", commits)?;
        commits
    };
    for kind in Kind::ALL {
        let mut writes = writes.iter().filter(|write| write.condition().0 == kind).peekable();
        if writes.peek().is_none() {
            continue;
        }
        // Opening a table costs as much as writing a record.
        let mut records = writing.open_table(table(kind))?;
        for write in writes {
            match write {
                Write::Put { key, bytes, .. } => {
                    records.insert(key.as_str(), (version, bytes.as_slice()))?;
                }
                Write::Delete { key, .. } => {
                    records.remove(key.as_str())?;
                }
                Write::Check { .. } => {}
            }
        }
    }
    Ok(Version(version))
}

fn unavailable(error: impl Into<Error>) -> CommitError {
    CommitError::Unavailable(error.into())
}

impl Store for FileStore {
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        let (database, kinds) = (Arc::clone(&self.database), kinds.to_vec());
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || {
                // One transaction sees one moment.
                let reading = database.begin_read()?;
                kinds.into_iter().map(|kind| load(&reading, kind)).collect::<Result<Vec<_>, Error>>()
            });
            work.await.map_err(|ended| ReadError::Unavailable(ended.into()))?.map_err(ReadError::Unavailable)
        })
    }

    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, ReadError>> {
        let (database, key) = (Arc::clone(&self.database), key.to_owned());
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || get(&database, kind, &key));
            work.await.map_err(|ended| ReadError::Unavailable(ended.into()))?.map_err(ReadError::Unavailable)
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || commit(&database, &batch));
            work.await.map_err(unavailable)?
        })
    }
}
