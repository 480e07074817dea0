//! The port to a store, on a file.

use std::fmt;
use std::sync::Arc;

use ensue_core::{
    BoxFuture, BoxStream, Commit, CommitError, Committed, Error, Position, Read, RecordPage, RecordScan,
    Recorded, Store, StoreCapabilities, Transaction,
};
use futures_util::{FutureExt, StreamExt, stream};

use crate::config::{Config, WallClock};
use crate::file::File;
use crate::head::{Head, Lookout};
use crate::pool::Pool;
use crate::read::Reading;
use crate::transaction::Open;
use crate::turn::Turn;
use crate::writer::{Desk, Writer};
use crate::{decide, migrate, scan};

pub(crate) const CAPABILITIES: StoreCapabilities = StoreCapabilities {
    name: "SQLite file",
    is_durable: true,
    can_buffer: false,
    can_condition: true,
    can_transact: true,
    can_share: true,
    event_bytes_max: 1 << 20,
    commit_bytes_max: 16 << 20,
    record_bytes_max: 1 << 20,
};

/// A [`Store`] in a file of SQLite. Cheap to clone; the last clone closes it, after what is queued was written. Any number of
/// processes on one machine may open the same file.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    // In this order: the writer finishes before the connection that it writes with is closed.
    writer: Writer,
    _lookout: Lookout,
    head: Arc<Head>,
    turn: Arc<Turn>,
    pool: Arc<Pool>,
    file: File,
    clock: WallClock,
}

impl SqliteStore {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        blocking::unblock(move || Self::open_blocking(&config)).await
    }

    fn open_blocking(config: &Config) -> Result<Self, Error> {
        let (file, mut connection) = File::open(config)?;
        migrate::prepare(&mut connection, config)?;
        let head = Arc::new(Head::new(decide::head(&connection)?));
        let turn = Arc::new(Turn::new(file.clone(), connection, config.patience));
        let desk = Desk { turn: Arc::clone(&turn), head: Arc::clone(&head), clock: config.clock.clone() };
        Ok(Self(Arc::new(Inner {
            writer: Writer::start(desk)?,
            _lookout: Lookout::start(Arc::clone(&head), file.clone(), config.poll_interval)?,
            head,
            turn,
            pool: Arc::new(Pool::new(file.clone(), config.readers_max)),
            file,
            clock: config.clock.clone(),
        })))
    }
}

impl SqliteStore {
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0.pool
    }

    pub(crate) fn turn(&self) -> &Arc<Turn> {
        &self.0.turn
    }

    pub(crate) fn known_head(&self) -> &Arc<Head> {
        &self.0.head
    }

    pub(crate) fn clock(&self) -> &WallClock {
        &self.0.clock
    }
}

impl Store for SqliteStore {
    fn capabilities(&self) -> &StoreCapabilities {
        &CAPABILITIES
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        async move {
            commit.check(&CAPABILITIES)?;
            self.0.writer.commit(commit).await
        }
        .boxed()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let reading = Reading::new(Arc::clone(&self.0.pool), read);
        stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|event| (event, reading)))
        })
        .boxed()
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        let now = self.0.clock.now();
        async move { self.0.pool.with(move |connection| scan::page(connection, &scan, now)).await }.boxed()
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.0.head.past(after).boxed()
    }

    /// Everything is kept.
    fn dropped(&self, _after: Position, _until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        let (turn, head, clock) = (Arc::clone(&self.0.turn), Arc::clone(&self.0.head), self.0.clock.clone());
        async move { Ok(Box::new(Open::begin(turn, head, clock).await?) as Box<dyn Transaction>) }.boxed()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteStore({})", self.0.file.path().display())
    }
}
