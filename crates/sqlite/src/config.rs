//! How a file is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Clock, Error, Timestamp};

use crate::store::SqliteStore;

/// Where the file is and how it is used.
#[derive(Clone)]
pub struct Config {
    pub(crate) path: PathBuf,
    pub(crate) absent: Absent,
    pub(crate) access: Access,
    pub(crate) patience: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) readers_max: usize,
    pub(crate) file_bytes_max: Option<u64>,
    pub(crate) clock: WallClock,
}

/// What to do where there is no store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    Create,
    Refuse,
}

/// What may be done with the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Write,
    Read,
}

/// Where the time of record and the lapse of records come from.
#[derive(Clone)]
pub(crate) enum WallClock {
    System,
    Given(Arc<dyn Clock>),
}

impl WallClock {
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Given(clock) => clock.now(),
        }
    }
}

impl Config {
    /// A file, which is made where there is none.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            absent: Absent::Create,
            access: Access::Write,
            patience: Duration::from_secs(5),
            poll_interval: Duration::from_millis(10),
            readers_max: 4,
            file_bytes_max: None,
            clock: WallClock::System,
        }
    }

    /// Makes nothing: a file that is absent, or in which there is no store yet, is an error (`E0406`).
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.absent = Absent::Refuse;
        self
    }

    /// Only looks: for a file that this user cannot write, such as a backup or one on a read-only mount. Commits are refused (`E0424`), and
    /// so are tables that are not up to date (`E0425`), since bringing them up to date would write.
    #[must_use]
    pub fn to_read(mut self) -> Self {
        self.access = Access::Read;
        self.existing()
    }

    /// How long a commit waits while other transactions, of this or another process, hold the write lock; 5 s where nothing
    /// is said.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How often somebody who waits for the head looks for what other connections have appended; 10 ms where nothing is
    /// said. What is committed through this store is told at once.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// At most so many connections that read; four where nothing is said, and at least one.
    #[must_use]
    pub fn readers_max(mut self, readers: usize) -> Self {
        self.readers_max = readers.max(1);
        self
    }

    /// The file takes nothing more in once it would grow beyond so many bytes (`E0404`), rounded down to whole pages. It is a
    /// bound of this store, not of other connections; the write-ahead log beside the file is not counted.
    #[must_use]
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Takes the wall time from this clock in place of the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = WallClock::Given(clock);
        self
    }

    /// Opens the store; see [`open`](crate::open) for what it fails with.
    pub async fn open(self) -> Result<SqliteStore, Error> {
        SqliteStore::open(self).await
    }
}
