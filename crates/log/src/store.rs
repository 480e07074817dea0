//! [`Log`]: the store as everyone else sees it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ensue_core::{
    BoxFuture, BoxStream, Commit, CommitError, Committed, Error, Position, Read, RecordPage, RecordScan,
    Recorded, Store, StoreCapabilities,
};

use crate::config::Config;
use crate::disk::{Disk, FileSystem};
use crate::engine::{Engine, close_doors};
use crate::lock::Lock;
use crate::open::{Absent, Threads, join, open, open_to_read};
use crate::reading::IndexCopy;
use crate::stat::Stat;
use crate::{commit, errors, index, read, scan};

/// An open store in a folder. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Log(Arc<Open>);

struct Open {
    engine: Arc<Engine>,
    threads: Mutex<Option<Threads>>,
    mode: crate::disk::WriteMode,
    // Dropped last: nobody else may come in while the threads still write.
    lock: Mutex<Option<Lock>>,
    /// Where the index is, if the store was opened to be read.
    _copy: Option<IndexCopy>,
}

impl Log {
    /// Opens the store in this folder, or makes one if the folder is empty or missing. Blocks while it recovers.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for one store")]
    pub fn open(folder: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let disk = FileSystem::new(folder);
        disk.create_folder("").map_err(|error| errors::io(&disk, "make the folder", error))?;
        Self::open_in(folder, disk, &config, Absent::Create)
    }

    /// Opens the store in this folder; `E0406` if there is none.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for one store")]
    pub fn open_existing(folder: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let disk = FileSystem::new(folder);
        if crate::superblock::Superblock::load(&disk)?.is_none() {
            // Says what is wrong: nothing there, other files, or a store without its superblock.
            crate::open::load_or_create(&disk, &config, Absent::Refuse)?;
        }
        Self::open_in(folder, disk, &config, Absent::Refuse)
    }

    /// Opens the store in a folder that cannot be written, such as a read-only mount, as it stands at this moment. Nothing is
    /// written there: commits are `E0402`, and the index is copied to the temporary files, where it is gone afterwards. Blocks
    /// while it copies and recovers.
    ///
    /// Errors: `E0406` if there is no store, `E0401` while another process owns it, `E0402` and `E0404` where the index cannot be
    /// copied.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for one store")]
    pub fn open_to_read(folder: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let lock = Mutex::new(Lock::share(folder)?);
        let copy = IndexCopy::of(&folder.join(index::FOLDER))?;
        let (engine, mode) = open_to_read(Arc::new(FileSystem::new(folder)), copy.folder(), &config)?;
        Ok(Self(Arc::new(Open { engine, threads: Mutex::new(None), mode, lock, _copy: Some(copy) })))
    }

    fn open_in(folder: &Path, disk: FileSystem, config: &Config, absent: Absent) -> Result<Self, Error> {
        let lock = Lock::take(folder)?;
        Self::start(Arc::new(disk), &folder.join(index::FOLDER), config, absent, Some(lock))
    }

    /// Opens or makes a store on another disk, such as one that fails on purpose. The index still needs a real folder;
    /// nobody is kept from opening the same disk twice.
    pub fn open_on(disk: Arc<dyn Disk>, index_folder: &Path, config: &Config) -> Result<Self, Error> {
        Self::start(disk, index_folder, config, Absent::Create, None)
    }

    fn start(
        disk: Arc<dyn Disk>,
        index_folder: &Path,
        config: &Config,
        absent: Absent,
        lock: Option<Lock>,
    ) -> Result<Self, Error> {
        let (engine, threads) = open(disk, index_folder, config, absent)?;
        let mode = threads.mode;
        let (threads, lock) = (Mutex::new(Some(threads)), Mutex::new(lock));
        Ok(Self(Arc::new(Open { engine, threads, mode, lock, _copy: None })))
    }

    /// Takes nothing more in, writes what is queued, flushes the index, and releases the folder. Blocks. Dropping the
    /// last clone does the same, but cannot say what went wrong.
    pub fn close(&self) -> Result<(), Error> {
        self.0.close()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// How the store is doing.
    pub fn stat(&self) -> Result<Stat, Error> {
        Stat::of(&self.0.engine, self.0.mode)
    }
}

impl Open {
    fn close(&self) -> Result<(), Error> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return Ok(()) };
        let engine = &self.engine;
        close_doors(engine);
        let written = join(threads.writer).unwrap_or_else(|| Err(errors::closed()));
        engine.flushes.close();
        join(threads.flusher);
        engine.head.end(errors::closed());
        let closed = written.and_then(|journal| {
            let tail = journal.tail();
            // The index is derived: if it cannot be flushed, the next start replays more.
            let flushed = engine.flush_rest(tail);
            engine
                .room
                .update_superblock(|superblock| superblock.durable_sequence = tail.durable_sequence)?;
            flushed
        });
        engine.room.close();
        join(threads.room);
        engine.close_index();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whoever wants to know calls `Log::close`.
        drop(self.close());
    }
}

impl Store for Log {
    fn capabilities(&self) -> &StoreCapabilities {
        &self.0.engine.capabilities
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(commit::commit(&self.0.engine, commit))
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        read::read(&self.0.engine, read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        Box::pin(scan::scan(&self.0.engine, scan))
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(self.0.engine.head.wait(after))
    }

    /// Everything is kept.
    fn dropped(&self, _after: Position, _until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({})", self.0.engine.disk.path())
    }
}
