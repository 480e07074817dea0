//! What one delivery changes, gathered before it is settled.

use ensue_core::{Append, Commit, Position, RecordWrite, Transaction};

use crate::projection::fence;
use crate::tally::Tally;

/// Something to run after a commit.
pub(crate) type Hook = Box<dyn FnOnce() + Send>;

/// Everything that one delivery changes; committed together with the checkpoint.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) appends: Vec<Append>,
    pub(crate) records: Vec<RecordWrite>,
    /// The transaction that takes all of it, where the handler has worked in one.
    pub(crate) transaction: Option<Box<dyn Transaction>>,
    /// Run once the commit is durable; must not fail. For cache invalidation and wake-ups.
    pub(crate) after: Vec<Hook>,
    /// No inline read model may have been switched since this position: what is written was computed for it as it was.
    pub(crate) fence: Option<Position>,
    /// What is added to the tally of the lane, where it keeps one.
    pub(crate) tally: Tally,
}

/// A batch that changes more than this is settled before more is added.
const WEIGHT_MAX: usize = 2_048;

impl Effects {
    /// Adds what a later delivery of the same batch changes.
    pub(crate) fn absorb(&mut self, later: Effects) {
        self.appends.extend(later.appends);
        if self.records.is_empty() {
            self.records = later.records;
        } else {
            later.records.into_iter().for_each(|write| self.put(write));
        }
        self.transaction = later.transaction.or(self.transaction.take());
        self.after.extend(later.after);
        self.fence = self.fence.into_iter().chain(later.fence).min();
        self.tally = self.tally.and(later.tally);
    }

    /// Whether a later delivery was computed without a document of an inline read model that this one changes, so that they
    /// cannot share a commit.
    pub(crate) fn is_unseen_by(&self, later: &Effects) -> bool {
        let is_ours = |write: &RecordWrite| {
            self.records.iter().any(|known| known.key == write.key && known.space == write.space)
        };
        self.fence.is_some()
            && later.fence.is_some()
            && later.records.iter().any(|write| write.expected.is_some() && is_ours(write))
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_nothing(&self) -> bool {
        self.appends.is_empty() && self.records.is_empty() && self.transaction.is_none()
    }

    /// The commit of it all, the transaction that takes it, and what to run once it is durable.
    pub(crate) fn into_commit(self) -> (Commit, Option<Box<dyn Transaction>>, Vec<Hook>) {
        let Self { appends, records, transaction, after, fence, tally: _ } = self;
        let condition = fence.map(fence::condition);
        (Commit { appends, records, condition, ..Commit::default() }, transaction, after)
    }

    /// Adds a record write. One key is written once in a commit: a later write replaces an earlier one, but keeps what
    /// the earlier one expected to find.
    pub(crate) fn put(&mut self, mut write: RecordWrite) {
        let earlier =
            self.records.iter_mut().rev().find(|known| known.key == write.key && known.space == write.space);
        match earlier {
            Some(known) => {
                write.expected = known.expected;
                *known = write;
            }
            None => self.records.push(write),
        }
    }

    /// Whether a batch that has grown this far should be settled.
    pub(crate) fn is_heavy(&self) -> bool {
        self.transaction.is_some() || self.appends.len() + self.records.len() > WEIGHT_MAX
    }
}
