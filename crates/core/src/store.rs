//! The port to a store: the log that everything stands on.

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::capability::StoreCapabilities;
use crate::commit::{Commit, CommitError, Committed};
use crate::envelope::Recorded;
use crate::error::{Code, Error};
use crate::name::{Position, Space, StreamName, Version};
use crate::query::Query;
use crate::record::{Record, RecordPage, RecordScan};
use crate::transaction::Transaction;

/// A log of events with keyed records beside it. Safe to share between threads; every method may be called
/// concurrently.
pub trait Store: Send + Sync {
    /// What this store can do. Asking for more is an [`Unsupported`](crate::Kind::Unsupported) error, never a silent
    /// no-op.
    fn capabilities(&self) -> &StoreCapabilities;

    /// Takes all of the commit or nothing. Resolves when it is as durable as it asks to be. Commits are linearizable:
    /// expected versions, conditions and revisions are checked against everything that was acknowledged before.
    ///
    /// A commit whose appends are all refused for their version, but whose events stand there already with the same
    /// ids, succeeds with the old positions and [`Committed::repeated`]; its records are not written again.
    ///
    /// Cancellation: dropping the future leaves the outcome open; repeat the commit to learn it.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// The selected events in order of position (or in reverse), each once, up to the readable head at the time of
    /// the call; ends there. Holds no lock while the caller is slow. Dropping the stream ends the read.
    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>>;

    /// A page of records in key order, at one moment between commits.
    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>>;

    /// Resolves, with the position of the readable head, once that head is past `after`. What it names can be read.
    /// Many may wait; dropping the future ends the wait.
    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>>;

    /// How many events at positions greater than `after` and up to `until` are gone, because their topic does not keep them for
    /// ever. Always none where a store keeps everything. It has no default, because a store around another one would forget to ask.
    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>>;

    /// Begins a transaction that the application's own tables can take part in. Only for a store that
    /// [`can_transact`](StoreCapabilities::can_transact); the others refuse it.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        let name = self.capabilities().name;
        let message =
            format!("the {name} has no transaction that tables of the application can take part in");
        let refused = Error::new(Code::UNSUPPORTED, message).with_fix(
            "keep the store in the database of those tables, or make the handler idempotent with `Cause`",
        );
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// Which events to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Of all events, which.
    pub select: Select,
    /// In which direction.
    pub direction: Direction,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to this, inclusive.
    pub until: Position,
    /// At most so many.
    pub limit: usize,
}

/// Of all events, which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Select {
    /// Every one.
    All,
    /// Those of one stream with `from <= version <= to`.
    Stream {
        /// Which.
        stream: StreamName,
        /// First version, inclusive.
        from: Version,
        /// Last version, inclusive.
        to: Version,
    },
    /// Those that match.
    Query(Query),
    /// Those of one flow: [`Envelope::flow`](crate::Envelope::flow) is this id.
    Flow(crate::EventId),
}

/// In which direction to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

impl Read {
    fn of(select: Select) -> Self {
        Self {
            select,
            direction: Direction::Forward,
            after: Position::ZERO,
            until: Position::MAX,
            limit: usize::MAX,
        }
    }

    /// Everything, oldest first.
    pub fn all() -> Self {
        Self::of(Select::All)
    }

    /// One stream, oldest first.
    pub fn stream(stream: StreamName) -> Self {
        Self::of(Select::Stream { stream, from: Version(1), to: Version::MAX })
    }

    /// What matches, oldest first.
    pub fn query(query: Query) -> Self {
        Self::of(Select::Query(query))
    }

    /// One flow, oldest first.
    pub fn flow(flow: crate::EventId) -> Self {
        Self::of(Select::Flow(flow))
    }

    /// Of a stream, only versions from this one on. No effect on other selections.
    #[must_use]
    pub fn from_version(mut self, version: Version) -> Self {
        if let Select::Stream { from, .. } = &mut self.select {
            *from = version;
        }
        self
    }

    /// Of a stream, only versions up to this one. No effect on other selections.
    #[must_use]
    pub fn to_version(mut self, version: Version) -> Self {
        if let Select::Stream { to, .. } = &mut self.select {
            *to = version;
        }
        self
    }

    /// Only positions greater than this.
    #[must_use]
    pub fn after(mut self, position: Position) -> Self {
        self.after = position;
        self
    }

    /// Only positions up to this, inclusive.
    #[must_use]
    pub fn until(mut self, position: Position) -> Self {
        self.until = position;
        self
    }

    /// Newest first.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Conveniences over any store.
pub trait StoreExt: Store {
    /// The position of the last readable event; zero in an empty store.
    fn head(&self) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(async move {
            let last = self.read(Read::all().backward().limit(1)).try_next().await?;
            Ok(last.map(|recorded| recorded.position).unwrap_or_default())
        })
    }

    /// All selected events at once. For selections that are known to be small.
    fn collect(&self, read: Read) -> BoxFuture<'_, Result<Vec<Recorded>, Error>> {
        Box::pin(self.read(read).try_collect())
    }

    /// One record.
    fn record(&self, space: Space, key: impl Into<Bytes>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let scan = RecordScan::key(space, key);
        Box::pin(async move { Ok(self.scan(scan).await?.records.pop()) })
    }

    /// Every record that the scan selects, over all pages. For spaces that are known to be small.
    fn records(&self, mut scan: RecordScan) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async move {
            let mut records = Vec::new();
            loop {
                let page = self.scan(scan.clone()).await?;
                records.extend(page.records);
                match page.next {
                    Some(next) => scan.from = next,
                    None => return Ok(records),
                }
            }
        })
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn capabilities(&self) -> &StoreCapabilities {
        (**self).capabilities()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        (**self).commit(commit)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        (**self).read(read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        (**self).scan(scan)
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        (**self).advanced(after)
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        (**self).dropped(after, until)
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        (**self).begin()
    }
}
