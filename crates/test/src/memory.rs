//! A store in memory: plain lists under one lock.
//!
//! It is the model that real stores are compared with and the store that applications are tested on, so it is
//! written for obvious correctness. Not for production: it is never durable, and most reads look at every event.
//!
//! Invariant: whoever holds the lock sees a moment between two commits; nothing is awaited under it.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensue_core::{
    BoxFuture, BoxStream, Commit, CommitError, Committed, Error, Host, Position, Read, RecordPage,
    RecordScan, Recorded, Store, StoreCapabilities,
};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::Notify;

mod hook;
mod state;

pub use hook::{CommitHook, Verdict};
use hook::{fail_commit, lose_reply};
use state::State;

/// The capabilities of a [`MemoryStore`] where nothing else is asked for.
pub const CAPABILITIES: StoreCapabilities = StoreCapabilities {
    name: "memory",
    is_durable: false,
    can_buffer: false,
    can_condition: true,
    can_transact: false,
    can_share: false,
    event_bytes_max: 1 << 20,
    commit_bytes_max: 16 << 20,
    record_bytes_max: 1 << 20,
};

/// A [`Store`] in memory. Share it through an [`Arc`]; what it holds ends with it.
pub struct MemoryStore {
    capabilities: StoreCapabilities,
    host: Host,
    state: Mutex<State>,
    /// Wakes those who wait in the order in which they came, so that runs repeat.
    advanced: Notify,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    hook: Option<Arc<dyn CommitHook>>,
    commits_attempted: u64,
}

impl MemoryStore {
    /// An empty store. Times come from the host's clock.
    pub fn new(host: Host) -> Self {
        Self::with_capabilities(host, CAPABILITIES)
    }

    /// An empty store that can do less, or has other limits.
    ///
    /// # Panics
    /// If durability or sharing between processes is asked for: memory has neither.
    pub fn with_capabilities(host: Host, capabilities: StoreCapabilities) -> Self {
        assert!(!capabilities.is_durable, "memory does not survive the loss of power");
        assert!(!capabilities.can_share, "memory is not shared between processes");
        Self {
            capabilities,
            host,
            state: Mutex::default(),
            advanced: Notify::new(),
            faults: Mutex::default(),
        }
    }

    /// Asks this hook about every commit from now on, in place of an earlier one.
    pub fn set_hook(&self, hook: Arc<dyn CommitHook>) {
        lock(&self.faults).hook = Some(hook);
    }

    /// Takes commits as they come again.
    pub fn clear_hook(&self) {
        lock(&self.faults).hook = None;
    }

    /// Refuses the `number`-th commit of this store's life, counted from 1; nothing of it is stored.
    pub fn fail_commit(&self, number: u64) {
        self.set_hook(Arc::new(fail_commit(number)));
    }

    /// Stores the `number`-th commit of this store's life, counted from 1, but answers that the outcome is unknown.
    pub fn lose_reply(&self, number: u64) {
        self.set_hook(Arc::new(lose_reply(number)));
    }

    /// How many commits were attempted so far, refused ones included.
    pub fn commits_attempted(&self) -> u64 {
        lock(&self.faults).commits_attempted
    }

    fn attempt(&self, commit: &Commit) -> Result<Committed, CommitError> {
        let (number, hook) = {
            let mut faults = lock(&self.faults);
            faults.commits_attempted += 1;
            (faults.commits_attempted, faults.hook.clone())
        };
        // The hook runs without a lock, so that it may look into the store.
        let Some(hook) = hook else { return self.take(commit) };
        let verdict = hook.decide(number, commit);
        if let Verdict::Refuse(error) = verdict {
            return Err(error.into());
        }
        let outcome = self.take(commit);
        hook.settled(number, commit, &outcome);
        match verdict {
            Verdict::LoseReply(error) => Err(error.into()),
            Verdict::Proceed | Verdict::Refuse(_) => outcome,
        }
    }

    fn take(&self, commit: &Commit) -> Result<Committed, CommitError> {
        commit.check(&self.capabilities)?;
        let outcome = lock(&self.state).commit(commit, self.host.clock.now());
        self.advanced.notify_waiters();
        outcome
    }
}

impl Store for MemoryStore {
    fn capabilities(&self) -> &StoreCapabilities {
        &self.capabilities
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        async move { self.attempt(&commit) }.boxed()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let selected = lock(&self.state).read(&read);
        stream::iter(selected).map(Ok).boxed()
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        async move { Ok(lock(&self.state).scan(&scan, self.host.clock.now())) }.boxed()
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        async move {
            loop {
                let mut advanced = pin!(self.advanced.notified());
                advanced.as_mut().enable();
                let head = lock(&self.state).head();
                if head > after {
                    return Ok(head);
                }
                advanced.await;
            }
        }
        .boxed()
    }

    /// Everything is kept.
    fn dropped(&self, _after: Position, _until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore at position {}", lock(&self.state).head())
    }
}

/// A panic under the lock can only come from a test that failed already, and every change is made after all checks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
