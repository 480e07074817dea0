//! The connection of one process to the store, and the luck that all its successors share.
//!
//! A cut connection answers nothing any more, as if the process were gone: whoever waits for a commit waits for ever.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use ensue_core::{
    BoxFuture, BoxStream, Change, Commit, CommitError, Committed, Envelope, Error, EventId, Position, Read,
    RecordPage, RecordScan, Recorded, Store, StoreCapabilities,
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::Crash;
use crate::{MemoryStore, SeededEntropy};

/// Longest hesitation, in turns of the scheduler.
const HESITATION_MAX: u64 = 6;

/// What goes wrong, over all lives of the application.
#[derive(Default)]
pub(super) struct Luck {
    commits: AtomicU64,
    crashes: AtomicU32,
    doom: Mutex<Option<Crash>>,
    delivers_twice: AtomicBool,
    hesitation: OnceLock<SeededEntropy>,
}

impl Luck {
    pub(super) fn deliver_twice(&self) {
        self.delivers_twice.store(true, Ordering::Relaxed);
    }

    pub(super) fn hesitate(&self, entropy: SeededEntropy) {
        // The first seed holds.
        let _first = self.hesitation.set(entropy).is_ok();
    }

    pub(super) fn doom(&self, crash: Crash) {
        *lock(&self.doom) = Some(crash);
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn crashes(&self) -> u32 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// Counts a commit, and says whether the process ends at it.
    fn strike(&self) -> Option<Crash> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        let mut doom = lock(&self.doom);
        let strikes = doom.is_some_and(|crash| crash.number() == number);
        let crash = if strikes { doom.take() } else { None };
        self.crashes.fetch_add(u32::from(crash.is_some()), Ordering::Relaxed);
        crash
    }

    async fn pause(&self) {
        let turns = self.hesitation.get().map_or(0, |entropy| entropy.below(HESITATION_MAX));
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

/// The store as one process sees it.
pub(super) struct Connection {
    store: Arc<MemoryStore>,
    luck: Arc<Luck>,
    is_cut: watch::Sender<bool>,
    /// Settlements that were thrown away once: by what they expected.
    thrown_away: Mutex<HashSet<Settlement>>,
}

/// A settlement is known by the checkpoint it moves and the revision it expects there.
type Settlement = (Bytes, u64);

impl Connection {
    pub(super) fn new(store: Arc<MemoryStore>, luck: Arc<Luck>) -> Self {
        Self { store, luck, is_cut: watch::Sender::new(false), thrown_away: Mutex::default() }
    }

    pub(super) fn is_cut(&self) -> bool {
        *self.is_cut.borrow()
    }

    /// Ends it: nothing more gets through.
    pub(super) fn sever(&self) {
        self.is_cut.send_replace(true);
    }

    /// Resolves when the process has crashed.
    pub(super) async fn cut(&self) {
        let mut is_cut = self.is_cut.subscribe();
        is_cut.wait_for(|is_cut| *is_cut).await.expect("the sender is ours");
    }

    async fn take(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.luck.pause().await;
        if self.is_cut() {
            return std::future::pending().await;
        }
        if let Some(crash) = self.luck.strike() {
            if matches!(crash, Crash::After(_)) {
                // Nobody hears what became of it.
                drop(self.store.commit(commit).await);
            }
            self.sever();
            return std::future::pending().await;
        }
        if !self.luck.delivers_twice.load(Ordering::Relaxed) {
            return self.store.commit(commit).await;
        }
        if settlement(&commit).is_some_and(|settlement| lock(&self.thrown_away).insert(settlement)) {
            return Err(CommitError::ConditionFailed { position: Position::ZERO });
        }
        self.store.commit(with_replies_doubled(commit)).await
    }
}

/// The checkpoint of a lane that this commit moves, if it settles deliveries. What writes several makes new lanes.
fn settlement(commit: &Commit) -> Option<Settlement> {
    let mut checkpoints = commit.records.iter().filter(|write| write.space.as_str() == "checkpoint");
    let (write, None) = (checkpoints.next()?, checkpoints.next()) else { return None };
    let is_of_lane = write.key.contains(&0) && matches!(write.change, Change::Put { .. });
    if is_of_lane { Some((write.key.clone(), write.expected?.0)) } else { None }
}

/// Every answer to a saga once more, under an id of its own, right behind the first.
fn with_replies_doubled(mut commit: Commit) -> Commit {
    for append in &mut commit.appends {
        let is_reply = |event: &Envelope| event.event_type.as_str() == "saga.ReplyReceived";
        let again = |event: &Envelope| Envelope {
            id: EventId::derived(&event.id, "the reply came twice", 0),
            ..event.clone()
        };
        let doubled = append.events.iter().flat_map(|event| {
            let second = is_reply(event).then(|| again(event));
            [Some(event.clone()), second].into_iter().flatten()
        });
        append.events = doubled.collect();
    }
    commit
}

impl Store for Connection {
    fn capabilities(&self) -> &StoreCapabilities {
        self.store.capabilities()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.take(commit))
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let events = self.store.read(read);
        let paused = stream::unfold(events, async |mut events| {
            self.luck.pause().await;
            events.next().await.map(|event| (event, events))
        });
        paused.boxed()
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        Box::pin(async move {
            self.luck.pause().await;
            self.store.scan(scan).await
        })
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(async move {
            self.luck.pause().await;
            self.store.advanced(after).await
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
