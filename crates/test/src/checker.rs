//! What clients did and were told, compared with the log that they left.
//!
//! A stress test lets many clients commit through one [`History`], through crashes and lost replies as it likes, then
//! reads the whole log and asks [`History::check`]. The clients' own order of calls and answers is all that is known
//! of time, so the verdict holds whatever the clocks say.
//!
//! Rules: positions and versions have no gap; what was acknowledged stands exactly once, where the answer said, as it
//! was sent; what was refused is absent; what is unknown is there as a whole or not at all; nothing else is there;
//! expected versions and conditions hold for everything that came before; a commit that began after another was
//! acknowledged stands behind it; a refusal names a version that the stream had during the call.
//!
//! Not checked: records, which have no history to compare with.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ensue_core::{Commit, CommitError, Committed, Error, Kind, Recorded, Store};

mod deed;
mod rules;

/// What clients did and were told. Shared by all of them.
///
/// Event ids are unique over a history, but for a commit that is repeated as it was, to learn its outcome; such a
/// commit names its place by `NoStream` or an exact version.
#[derive(Debug, Default)]
pub struct History {
    ticks: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

/// One commit of one client.
#[derive(Debug)]
struct Call {
    commit: Commit,
    invoked: u64,
    answer: Answer,
}

/// What the client was told, and when.
#[derive(Clone, Debug)]
enum Answer {
    /// It is stored.
    Acknowledged { at: u64, committed: Committed },
    /// Nothing is stored.
    Refused { at: u64, error: CommitError },
    /// Nothing is known: no answer, or one that says so.
    Unknown,
}

/// A call that has begun. Dropped without an answer, its outcome is unknown.
#[derive(Debug)]
#[must_use = "a call without an answer counts as unknown"]
pub struct Invocation<'a> {
    history: &'a History,
    call: usize,
}

impl History {
    /// A history in which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits, and records call and answer. If the future is dropped, the outcome counts as unknown.
    pub async fn commit(&self, store: &dyn Store, commit: Commit) -> Result<Committed, CommitError> {
        let invocation = self.invoke(&commit);
        let outcome = store.commit(commit).await;
        invocation.answer(&outcome);
        outcome
    }

    /// Records that a commit is about to be sent.
    pub fn invoke(&self, commit: &Commit) -> Invocation<'_> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let invoked = self.tick();
        calls.push(Call { commit: commit.clone(), invoked, answer: Answer::Unknown });
        Invocation { history: self, call: calls.len() - 1 }
    }

    /// Compares with the whole log, oldest first, as it is read when all calls have ended.
    pub fn check(&self, log: &[Recorded]) -> Result<Summary, Violations> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        rules::check(&calls, log)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }
}

impl Invocation<'_> {
    /// Records what the client was told.
    pub fn answer(self, outcome: &Result<Committed, CommitError>) {
        let at = self.history.tick();
        let answer = match outcome {
            Ok(committed) => Answer::Acknowledged { at, committed: committed.clone() },
            Err(error) if is_unknown(error) => Answer::Unknown,
            Err(error) => Answer::Refused { at, error: error.clone() },
        };
        let mut calls = self.history.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get_mut(self.call).expect("calls are never removed").answer = answer;
    }
}

/// The port says after which errors a commit may still be stored.
fn is_unknown(error: &CommitError) -> bool {
    matches!(Error::from(error.clone()).kind(), Kind::Timeout | Kind::Poisoned)
}

/// What a history that holds was made of. A test asserts with it that its races and faults took place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Calls that were answered with success.
    pub acknowledged: usize,
    /// Of these, repeats of a commit that had been stored before.
    pub repeated: usize,
    /// Calls that were refused.
    pub refused: usize,
    /// Calls whose outcome the client never learned.
    pub unknown: usize,
    /// Commits that nobody was told of, but that are stored.
    pub unknown_but_stored: usize,
    /// Events in the log.
    pub events: usize,
}

/// Every broken rule.
#[derive(Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<String>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        writeln!(f, "{} rules are broken:", self.0.len())?;
        self.0.iter().take(SHOWN).try_for_each(|violation| writeln!(f, "- {violation}"))?;
        if self.0.len() > SHOWN {
            writeln!(f, "- and {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violations {}
