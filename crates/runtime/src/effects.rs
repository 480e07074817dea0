//! What one delivery changes, gathered before it is settled.

use ensue_core::{Append, RecordWrite};

/// Everything that one delivery changes; committed together with the checkpoint.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) appends: Vec<Append>,
    pub(crate) records: Vec<RecordWrite>,
    /// Run after the commit is durable; must not fail. For cache invalidation and wake-ups.
    pub(crate) after: Vec<Box<dyn FnOnce() + Send>>,
}

impl Effects {
    /// Adds what a later delivery of the same batch changes. A record written by both keeps the later write.
    pub(crate) fn absorb(&mut self, later: Effects) {
        self.appends.extend(later.appends);
        for write in later.records {
            self.put(write);
        }
        self.after.extend(later.after);
    }

    /// Adds a record write; one key is written once in a commit, so a later write replaces an earlier one but keeps
    /// what the earlier one expected to find.
    pub(crate) fn put(&mut self, mut write: RecordWrite) {
        let earlier = self.records.iter_mut().rev().find(|known| known.space == write.space && known.key == write.key);
        match earlier {
            Some(known) => {
                write.expected = known.expected;
                *known = write;
            }
            None => self.records.push(write),
        }
    }

    /// Whether a batch that has grown this far should be settled.
    pub(crate) fn weight(&self) -> usize {
        self.appends.len() + self.records.len()
    }
}
