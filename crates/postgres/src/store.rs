//! The port to a store, on a database.

use std::fmt;
use std::sync::Arc;

use ensue_core::{
    BoxFuture, BoxStream, Commit, CommitError, Committed, Error, Position, Read, RecordPage, RecordScan,
    Recorded, Store, StoreCapabilities, Transaction,
};
use futures_util::{FutureExt, StreamExt, stream};

use crate::config::{Config, Migration};
use crate::head::Head;
use crate::migrate;
use crate::pool::Pool;
use crate::read::Reading;
use crate::scan;
use crate::transaction::Joined;
use crate::writer::Writer;

pub(crate) const CAPABILITIES: StoreCapabilities = StoreCapabilities {
    name: "PostgreSQL",
    is_durable: true,
    can_buffer: false,
    can_condition: true,
    can_transact: true,
    can_share: true,
    event_bytes_max: 1 << 20,
    commit_bytes_max: 16 << 20,
    record_bytes_max: 1 << 20,
};

/// A [`Store`] in a PostgreSQL database. Share it through an [`Arc`]; any number of processes may open the same database.
///
/// Commits of one process are gathered into common transactions. A commit whose connection breaks after it was sent fails
/// with `E0415`: repeat it to learn what became of it, where it says which versions it expects; one that does not is appended again.
pub struct PostgresStore {
    pool: Arc<Pool>,
    head: Arc<Head>,
    writer: Writer,
}

impl PostgresStore {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        let pool = Arc::new(Pool::new(config));
        migrate::prepare(&pool).await?;
        let head = Arc::new(Head::new(pool.config().migration == Migration::ToRead));
        let writer = Writer::start(Arc::clone(&pool), Arc::clone(&head));
        Ok(Self { pool, head, writer })
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}

impl Store for PostgresStore {
    fn capabilities(&self) -> &StoreCapabilities {
        &CAPABILITIES
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        async move {
            commit.check(&CAPABILITIES)?;
            self.writer.commit(commit).await
        }
        .boxed()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let reading = Reading::new(&self.pool, &self.head, read);
        stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|event| (event, reading)))
        })
        .boxed()
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        async move {
            self.head.seen()?;
            scan::page(&self.pool, &scan).await
        }
        .boxed()
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.head.past(after, &self.pool).boxed()
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.count_dropped(after, until).boxed()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        async move {
            self.head.seen()?;
            let joined = Joined::begin(&self.pool, &self.head, &CAPABILITIES).await?;
            Ok(Box::new(joined) as Box<dyn Transaction>)
        }
        .boxed()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresStore")
    }
}
