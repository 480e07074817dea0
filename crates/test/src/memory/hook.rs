//! Faults armed from outside: a hook is asked about every commit.

use ensue_core::{Code, Commit, CommitError, Committed, Error};

/// What becomes of a commit.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is taken as it comes.
    Proceed,
    /// Nothing of it is stored, and the caller gets this error.
    Refuse(Error),
    /// It is stored if it can be, but the caller gets this error, whose kind should be
    /// [`Timeout`](ensue_core::Kind::Timeout): the outcome is unknown.
    LoseReply(Error),
}

/// Asked about every commit. A closure of `(number, commit)` is a hook.
///
/// Commits are numbered from 1 over the life of the store, refused ones included.
pub trait CommitHook: Send + Sync {
    /// Called before the commit is looked at.
    fn decide(&self, number: u64, commit: &Commit) -> Verdict;

    /// Called after the commit with its true outcome, also where the reply is lost; not called after a refusal by
    /// this hook.
    fn settled(&self, _number: u64, _commit: &Commit, _outcome: &Result<Committed, CommitError>) {}
}

impl<F: Fn(u64, &Commit) -> Verdict + Send + Sync> CommitHook for F {
    fn decide(&self, number: u64, commit: &Commit) -> Verdict {
        self(number, commit)
    }
}

/// Refuses one commit.
pub(super) fn fail_commit(doomed: u64) -> impl CommitHook {
    move |number, _: &Commit| {
        if number == doomed {
            let message = format!("commit {number} was refused by the test");
            Verdict::Refuse(Error::new(Code::BUSY, message))
        } else {
            Verdict::Proceed
        }
    }
}

/// Loses the reply to one commit.
pub(super) fn lose_reply(doomed: u64) -> impl CommitHook {
    move |number, _: &Commit| {
        if number == doomed {
            let message = format!("the reply to commit {number} was lost by the test");
            Verdict::LoseReply(Error::new(Code::OUTCOME_UNKNOWN, message))
        } else {
            Verdict::Proceed
        }
    }
}
