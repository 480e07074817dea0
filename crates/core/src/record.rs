//! Keyed records: small mutable state that changes in the same commit as the events (checkpoints, inbox ids, saga
//! heads, snapshots, timers, read models).

use bytes::Bytes;
use jiff::Timestamp;

use crate::name::{Revision, Space};

/// One change to one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordWrite {
    /// The family.
    pub space: Space,
    /// Ordered bytewise inside its space; 1 to 1,024 bytes.
    pub key: Bytes,
    /// What to do.
    pub change: Change,
    /// The revision the record must have: `Some(Revision::ZERO)` means it must not exist, `None` that it does not matter.
    pub expected: Option<Revision>,
}

/// What a write does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Sets the value; after `expires_at` the record counts as absent.
    Put {
        /// The value.
        value: Bytes,
        /// When it lapses.
        expires_at: Option<Timestamp>,
    },
    /// Removes the record.
    Delete,
}

impl RecordWrite {
    /// Sets a value, whatever was there.
    pub fn put(space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let change = Change::Put { value: value.into(), expires_at: None };
        Self { space, key: key.into(), change, expected: None }
    }

    /// Removes a record, whether it was there or not.
    pub fn delete(space: Space, key: impl Into<Bytes>) -> Self {
        Self { space, key: key.into(), change: Change::Delete, expected: None }
    }

    /// Only if the record has this revision.
    #[must_use]
    pub fn expect(mut self, revision: Revision) -> Self {
        self.expected = Some(revision);
        self
    }

    /// The record lapses at this time. No effect on a delete.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        if let Change::Put { expires_at, .. } = &mut self.change {
            *expires_at = Some(at);
        }
        self
    }
}

/// A record as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Changed by every write.
    pub revision: Revision,
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
}

/// Which records to read: `from <= key < until`, in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordScan {
    /// The family.
    pub space: Space,
    /// First key, inclusive. Empty: from the start.
    pub from: Bytes,
    /// Last key, exclusive. `None`: to the end.
    pub until: Option<Bytes>,
    /// At most so many.
    pub limit: usize,
}

impl RecordScan {
    /// Everything in the space, a page at a time.
    pub fn all(space: Space) -> Self {
        Self { space, from: Bytes::new(), until: None, limit: 1_000 }
    }

    /// Exactly one key.
    pub fn key(space: Space, key: impl Into<Bytes>) -> Self {
        let key: Bytes = key.into();
        let until = Some(after(&key));
        Self { space, from: key, until, limit: 1 }
    }

    /// Every key that starts with these bytes.
    pub fn prefix(space: Space, prefix: impl Into<Bytes>) -> Self {
        let prefix: Bytes = prefix.into();
        let until = successor(&prefix);
        Self { space, from: prefix, until, limit: 1_000 }
    }

    /// At most so many in a page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The scan that goes on after the last key of a page.
    #[must_use]
    pub fn after(mut self, last: &Bytes) -> Self {
        self.from = after(last);
        self
    }
}

/// The smallest key greater than `key`.
fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// The smallest key greater than every key with this prefix; `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Bytes> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next.into());
        }
    }
    None
}

/// A page of records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecordPage {
    /// In key order; lapsed ones are left out.
    pub records: Vec<Record>,
    /// Where the next page starts, if there is more.
    pub next: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(successor(b"ab"), Some(Bytes::from_static(b"ac")));
        assert_eq!(successor(b"a\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(successor(b"\xff\xff"), None);
    }
}
