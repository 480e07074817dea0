//! The connection of one process to the store, and the luck that all its successors share.
//!
//! A cut connection answers nothing any more, as if the process were gone: whoever waits for a commit waits for ever.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    BoxFuture, BoxStream, Change, Code, Commit, CommitError, Committed, Envelope, Error, EventId, Host,
    Position, Read, RecordPage, RecordScan, Recorded, Store, StoreCapabilities,
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::{Crash, Misfortune};
use crate::{MemoryStore, SeededEntropy};

/// Longest hesitation, in turns of the scheduler.
const HESITATION_MAX: u64 = 6;

/// One reply in so many is lost where replies are lost at random.
const REPLIES_PER_LOSS: u64 = 6;

/// What goes wrong, over all lives of the application.
pub(super) struct Luck {
    host: Host,
    commits: AtomicU64,
    crashes: AtomicU32,
    replies_lost: AtomicU32,
    /// How many wait for a slow store at this moment.
    waiting: AtomicU32,
    fate: Mutex<Fate>,
}

/// What is in store for the application.
#[derive(Default)]
struct Fate {
    crashes: Vec<Crash>,
    losses: HashSet<u64>,
    losses_at_random: Option<SeededEntropy>,
    delivers_twice: bool,
    hesitation: Option<SeededEntropy>,
    slowness: Duration,
}

/// What becomes of one commit.
enum Stroke {
    Nothing,
    Crash(Crash),
    LostReply,
}

impl Luck {
    pub(super) fn new(host: Host) -> Self {
        Self {
            host,
            commits: AtomicU64::new(0),
            crashes: AtomicU32::new(0),
            replies_lost: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            fate: Mutex::default(),
        }
    }

    pub(super) fn add(&self, misfortune: Misfortune) {
        let mut fate = lock(&self.fate);
        match misfortune {
            Misfortune::DeliverTwice => fate.delivers_twice = true,
            Misfortune::ReorderAcrossKeys(seed) => fate.hesitation = Some(SeededEntropy::new(seed)),
            Misfortune::Crash(crash) => fate.crashes.push(crash),
            Misfortune::LoseReply(number) => {
                fate.losses.insert(number);
            }
            Misfortune::Slow(by) => fate.slowness = by,
        }
    }

    pub(super) fn lose_at_random(&self, entropy: SeededEntropy) {
        lock(&self.fate).losses_at_random = Some(entropy);
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn crashes(&self) -> u32 {
        self.crashes.load(Ordering::Relaxed)
    }

    pub(super) fn replies_lost(&self) -> u32 {
        self.replies_lost.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for a slow store.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn delivers_twice(&self) -> bool {
        lock(&self.fate).delivers_twice
    }

    /// Counts a commit, and says what becomes of it.
    fn strike(&self) -> Stroke {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fate = lock(&self.fate);
        if let Some(at) = fate.crashes.iter().position(|crash| crash.number() == number) {
            self.crashes.fetch_add(1, Ordering::Relaxed);
            return Stroke::Crash(fate.crashes.swap_remove(at));
        }
        let at_random = fate.losses_at_random.as_ref().is_some_and(|dice| dice.below(REPLIES_PER_LOSS) == 0);
        if fate.losses.remove(&number) || at_random {
            self.replies_lost.fetch_add(1, Ordering::Relaxed);
            return Stroke::LostReply;
        }
        Stroke::Nothing
    }

    async fn pause(&self) {
        let turns = lock(&self.fate).hesitation.as_ref().map_or(0, |entropy| entropy.below(HESITATION_MAX));
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    /// Takes as long as a commit takes.
    async fn dawdle(&self) {
        let slowness = lock(&self.fate).slowness;
        if !slowness.is_zero() {
            let _counted = Waiting::new(&self.waiting);
            self.host.clock.sleep(slowness).await;
        }
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        self.luck.dawdle().await;
        if self.is_cut() {
            return std::future::pending().await;
        }
        match self.luck.strike() {
            Stroke::Nothing => self.hand_on(commit).await,
            Stroke::LostReply => {
                // Nobody hears what became of it.
                drop(self.hand_on(commit).await);
                Err(Error::new(Code::OUTCOME_UNKNOWN, "the reply was lost by the test").into())
            }
            Stroke::Crash(crash) => {
                if matches!(crash, Crash::After(_)) {
                    drop(self.store.commit(commit).await);
                }
                self.sever();
                std::future::pending().await
            }
        }
    }

    async fn hand_on(&self, commit: Commit) -> Result<Committed, CommitError> {
        if !self.luck.delivers_twice() {
            return self.store.commit(commit).await;
        }
        if settlement(&commit).is_some_and(|settlement| lock(&self.thrown_away).insert(settlement)) {
            return Err(CommitError::ConditionFailed { position: Position::ZERO });
        }
        self.store.commit(with_replies_doubled(commit)).await
    }
}

/// The checkpoint of a lane that this commit moves, if it settles deliveries. What writes several makes new lanes. What
/// only parks an event was not computed from any state, so nothing of it can be out of date.
fn settlement(commit: &Commit) -> Option<Settlement> {
    if commit.records.iter().any(|write| write.space.as_str() == "dead") {
        return None;
    }
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

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.store.dropped(after, until)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
