//! The connection and the clock of one process of a cluster, and the gate through which both go.
//!
//! A frozen process hears nothing and says nothing until it is thawed; one that is cut off, never again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensue_core::{
    BoxFuture, BoxStream, Clock, Commit, CommitError, Committed, Error, Position, Read, RecordPage,
    RecordScan, Recorded, Store, StoreCapabilities, Timestamp,
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::{MemoryStore, VirtualClock};

/// Whether the process gets anywhere.
pub(super) struct Gate(watch::Sender<Passage>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    Open,
    /// For all but commits with events in them.
    Half,
    Frozen,
    /// Still frozen, while what was on its way arrives.
    Arriving,
    Cut,
}

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(Passage::Open))
    }
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        *self.0.borrow() == Passage::Open
    }

    pub(super) fn hold_commits(&self) {
        self.0.send_replace(Passage::Half);
    }

    pub(super) fn freeze(&self) {
        self.0.send_replace(Passage::Frozen);
    }

    pub(super) fn let_arrive(&self) {
        self.0.send_replace(Passage::Arriving);
    }

    pub(super) fn open(&self) {
        self.0.send_replace(Passage::Open);
    }

    pub(super) fn cut(&self) {
        self.0.send_replace(Passage::Cut);
    }

    /// Resolves when the process may go on.
    async fn pass(&self) {
        let goes_on = |passage: &Passage| matches!(passage, Passage::Open | Passage::Half);
        self.0.subscribe().wait_for(goes_on).await.expect("the sender is ours");
    }

    /// Resolves when everything arrives.
    async fn pass_whole(&self) {
        let arrives = |passage: &Passage| matches!(passage, Passage::Open | Passage::Arriving);
        self.0.subscribe().wait_for(arrives).await.expect("the sender is ours");
    }
}

/// The store as one process sees it.
pub(super) struct Line {
    store: Arc<MemoryStore>,
    gate: Arc<Gate>,
    calls: AtomicU64,
    refused: AtomicU64,
    /// Commits with events that have left the process and have not arrived.
    under_way: AtomicU64,
}

/// A commit that is under way.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    pub(super) fn new(store: Arc<MemoryStore>, gate: Arc<Gate>) -> Self {
        Self {
            store,
            gate,
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a commit with events has left the process and has not arrived.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// A call and its answer, each through the gate.
    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.gate.pass().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = call.await;
        self.gate.pass().await;
        answer
    }

    async fn take(&self, commit: Commit) -> Result<Committed, CommitError> {
        let has_events = !commit.appends.is_empty();
        let under_way = has_events.then(|| UnderWay::begin(&self.under_way));
        if has_events {
            self.gate.pass_whole().await;
        }
        let outcome = self.store.commit(commit).await;
        drop(under_way);
        if let Err(CommitError::RecordConflict { write, .. }) = &outcome
            && has_events
            && write.space.as_str() == "checkpoint"
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl Store for Line {
    fn capabilities(&self) -> &StoreCapabilities {
        self.store.capabilities()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.call(self.take(commit)))
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let events = stream::once(self.call(async move { self.store.read(read) })).flatten();
        events.then(async |event| self.call(async { event }).await).boxed()
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        Box::pin(self.call(self.store.scan(scan)))
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(self.call(self.store.advanced(after)))
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.call(self.store.dropped(after, until)))
    }
}

/// The clock as one process sees it: it wakes nobody while the process is frozen.
pub(super) struct Pace {
    clock: Arc<VirtualClock>,
    gate: Arc<Gate>,
}

impl Pace {
    pub(super) fn new(clock: Arc<VirtualClock>, gate: Arc<Gate>) -> Self {
        Self { clock, gate }
    }
}

impl Clock for Pace {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sleep, gate) = (self.clock.sleep(duration), Arc::clone(&self.gate));
        Box::pin(async move {
            sleep.await;
            gate.pass().await;
        })
    }
}
