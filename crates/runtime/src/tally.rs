//! Tallies: how many events a lane of a read model has taken and how many documents it keeps, each with a sum of hashes.
//! They change in the commit that moves the checkpoint, and are what an audit compares with the log and the documents.

use ensue_core::{Position, Recorded};
use serde::{Deserialize, Serialize};

/// Counts and sums of hashes. The sums do not depend on the order and can be taken back, so that a document that changes
/// costs the hash of what it was and of what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Events after this position are counted.
    pub(crate) since: Position,
    pub(crate) events: u64,
    pub(crate) events_sum: u64,
    /// Of the events: those that were given up for good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) skipped: u64,
    pub(crate) documents: u64,
    pub(crate) documents_sum: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tally {
    /// Counts an event.
    pub(crate) fn take(&mut self, position: Position, id: &str) {
        self.events += 1;
        self.events_sum = self.events_sum.wrapping_add(hash(&position.0.to_be_bytes(), id.as_bytes()));
    }

    /// The tally of these events.
    pub(crate) fn of(events: &[Recorded]) -> Self {
        let mut tally = Self::default();
        events.iter().for_each(|event| tally.take(event.position, event.envelope.id.as_str()));
        tally
    }

    /// Counts a document that is there now.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.documents = self.documents.wrapping_add(1);
        self.documents_sum = self.documents_sum.wrapping_add(hash(key, value));
    }

    /// Takes back a document that was there before.
    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.documents = self.documents.wrapping_sub(1);
        self.documents_sum = self.documents_sum.wrapping_sub(hash(key, value));
    }

    /// Both together; `since` stays.
    #[must_use]
    pub(crate) fn and(self, more: Self) -> Self {
        Self {
            since: self.since,
            events: self.events + more.events,
            events_sum: self.events_sum.wrapping_add(more.events_sum),
            skipped: self.skipped + more.skipped,
            documents: self.documents.wrapping_add(more.documents),
            documents_sum: self.documents_sum.wrapping_add(more.documents_sum),
        }
    }

    /// What of it belongs to the documents, counted on from a position.
    #[must_use]
    pub(crate) fn documents_from(self, since: Position) -> Self {
        Self { since, events: 0, events_sum: 0, ..self }
    }
}

/// FNV-1a over both parts and a mark between them, finished so that sums of hashes do not cancel out.
pub(crate) fn hash(first: &[u8], second: &[u8]) -> u64 {
    let bytes = first.iter().chain(&[0xff]).chain(second);
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_order_and_can_be_taken_back() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for (key, value) in [("a", "1"), ("b", "2")] {
            one.put(key.as_bytes(), value.as_bytes());
        }
        for (key, value) in [("b", "2"), ("c", "3"), ("a", "1")] {
            other.put(key.as_bytes(), value.as_bytes());
        }
        assert_ne!(one, other);
        other.remove(b"c", b"3");
        assert_eq!(one, other);
        other.remove(b"a", b"1");
        other.put(b"a1", b"");
        assert_ne!(one, other, "the border between key and value counts");
    }
}
