//! The store in one redb file.
//!
//! Owns the file, its lock and its schema version. A file is examined in a copy in memory before it is opened for
//! writing, so that a cut, flipped or future one is refused without a byte of it being changed; a file that a crash
//! left behind is fine, since redb's commits are atomic. Must never create a store over something that is there.

use std::{
    fs::{self, File, TryLockError},
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::BoxFuture;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, backends::InMemoryBackend,
};

use super::{
    Store, StoreError, Stored, Write,
    codec::{self, Put, RecordError, Table},
};

/// The schema this version writes, and the latest it can read.
const SCHEMA_VERSION: u32 = 1;
/// Page cache in bytes: the whole state of 10,000 nodes is a few MiB, and it is read once.
const CACHE: usize = 4 << 20;

/// What redb's own panics come down to.
const CONTRADICTION: &str = "its pages contradict each other";

/// A store in one file.
#[derive(Debug)]
pub struct RedbStore {
    database: Arc<Database>,
    path: PathBuf,
    /// Held as long as the store: the lock ends with the file handle, also by kill -9.
    _lock: File,
}

impl RedbStore {
    /// Opens the store at `path`, or creates it where there is none. Blocks for the time of a full read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        if path.try_exists().map_err(|error| failed(path, "look for", error))? {
            examine(path)?;
        } else {
            create(path)?;
        }
        let database = builder().open(path).map_err(|error| damaged(path, &error))?;
        Ok(Self { database: Arc::new(database), path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for RedbStore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        let (database, path) = (Arc::clone(&self.database), self.path.clone());
        Box::pin(blocking(self.path.clone(), move || read_all(&database).map_err(|detail| damaged(&path, &detail))))
    }

    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (database, path) = (Arc::clone(&self.database), self.path.clone());
        Box::pin(blocking(self.path.clone(), move || {
            let puts: Vec<Put> = batch.iter().map(codec::encode).collect();
            write_all(&database, &puts).map_err(|error| unconfirmed(&path, &error))
        }))
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(unconfirmed(&path, &error)))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

const fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn write_all(database: &Database, puts: &[Put]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for kind in Table::ALL {
        let mut table = transaction.open_table(definition(kind))?;
        for put in puts.iter().filter(|put| put.table == kind) {
            match &put.value {
                Some(value) => drop(table.insert(put.key.as_str(), value.as_slice())?),
                None => drop(table.remove(put.key.as_str())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    File(redb::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("it has no schema version")]
    NoSchema,
}

fn of_file(error: impl Into<redb::Error>) -> ReadError {
    ReadError::File(error.into())
}

fn read_all(database: &Database) -> Result<Stored, ReadError> {
    let transaction = database.begin_read().map_err(of_file)?;
    let mut stored = Stored::default();
    for kind in Table::ALL {
        let table = transaction.open_table(definition(kind)).map_err(of_file)?;
        for entry in table.iter().map_err(of_file)? {
            let (key, value) = entry.map_err(of_file)?;
            codec::decode(kind, key.value(), value.value(), &mut stored)?;
        }
    }
    Ok(stored)
}

fn read_schema(database: &Database) -> Result<u32, ReadError> {
    let transaction = database.begin_read().map_err(of_file)?;
    let table = transaction.open_table(definition(Table::Meta)).map_err(of_file)?;
    let value = table.get(codec::SCHEMA).map_err(of_file)?;
    Ok(codec::read_schema(value.ok_or(ReadError::NoSchema)?.value())?)
}

/// One writer at a time: a lock on a file of its own, because the store's may be replaced by a backup.
fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = with_suffix(path, ".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(|error| failed(path, "create the lock of", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { store: display(path) }),
        Err(TryLockError::Error(error)) => Err(failed(path, "lock", error)),
    }
}

/// Makes a store beside its place and moves it there complete, so that a crash never leaves half of one.
fn create(path: &Path) -> Result<(), StoreError> {
    let draft = with_suffix(path, ".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, "create", error)),
        _ => {}
    }
    let database = builder().create(&draft).map_err(|error| unconfirmed(path, &error))?;
    write_all(&database, &[codec::schema(SCHEMA_VERSION)]).map_err(|error| unconfirmed(path, &error))?;
    drop(database);
    File::open(&draft).and_then(|file| file.sync_all()).map_err(|error| failed(path, "create", error))?;
    fs::rename(&draft, path).map_err(|error| failed(path, "create", error))?;
    sync_directory(path).map_err(|error| failed(path, "create", error))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Reads all of a file in a copy: whatever redb repairs or chokes on, the file stays as it is.
fn examine(path: &Path) -> Result<(), StoreError> {
    let bytes = fs::read(path).map_err(|error| failed(path, "read", error))?;
    let explained = explain_panics(path);
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| examine_copy(path, &bytes)));
    drop(explained);
    checked.unwrap_or_else(|_| Err(damaged(path, &CONTRADICTION)))
}

/// redb panics over some damaged files. Where panics unwind that is an error like any other; where they abort, this
/// hook has the last word, so that the operator reads what is wrong instead of where redb gave up.
fn explain_panics(path: &Path) -> impl Drop + use<> {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            drop(std::panic::take_hook());
        }
    }
    let error = damaged(path, &CONTRADICTION);
    let examiner = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != examiner {
            before(panic);
        } else if cfg!(panic = "abort") {
            eprintln!("weft-controller: {error}");
            std::process::exit(1);
        }
    }));
    Restore
}

fn examine_copy(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.is_empty() {
        return Err(damaged(path, &"the file is empty"));
    }
    let copy = InMemoryBackend::new();
    let length = u64::try_from(bytes.len()).map_err(|_| damaged(path, &"the file is too large"))?;
    copy.set_len(length).and_then(|()| copy.write(0, bytes)).map_err(|error| failed(path, "copy", error))?;
    let mut database = builder().create_with_backend(copy).map_err(|error| damaged(path, &error))?;
    let found = read_schema(&database).map_err(|detail| damaged(path, &detail))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Future { store: display(path), found, known: SCHEMA_VERSION });
    }
    read_all(&database).map_err(|detail| damaged(path, &detail))?;
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged(path, &"checksums of its pages are wrong")),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn display(path: &Path) -> String {
    format!("redb:{}", path.display())
}

fn failed(path: &Path, operation: &'static str, source: io::Error) -> StoreError {
    StoreError::Io { store: display(path), operation, source }
}

fn damaged(path: &Path, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { store: display(path), detail: detail.to_string() }
}

fn unconfirmed(path: &Path, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Write { store: display(path), detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_from_the_future_is_refused_and_left_alone() {
        let path = std::env::temp_dir().join(format!("weft-future-{}.redb", std::process::id()));
        drop(RedbStore::open(&path).expect("a new store"));
        let later = builder().open(&path).expect("the store just made");
        write_all(&later, &[codec::schema(SCHEMA_VERSION + 1)]).expect("a later version was here");
        drop(later);
        let before = fs::read(&path).expect("the file");
        let error = RedbStore::open(&path).expect_err("it was written by a later version");
        assert!(matches!(error, StoreError::Future { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("run the version that wrote it"), "{error}");
        assert!(fs::read(&path).expect("the file") == before, "the file was changed");
        for suffix in ["", ".lock"] {
            fs::remove_file(with_suffix(&path, suffix)).expect("it is there");
        }
    }
}
