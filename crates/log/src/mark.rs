//! Marks: keyed 128-bit hashes under which the index files streams, types, tags, flows and records.
//!
//! A mark is not a name: whatever is found under one is compared with the real name. The hash is keyed with a secret of
//! the store, so that nobody outside can build names that collide.
//!
//! Invariant: marks are derived state. The journal holds names only, so the hash may change with the index's format.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ensue_core::{EventId, EventType, Space, StreamName, Tag, Topic};
use siphasher::sip128::{Hasher128, SipHasher13};

/// The hash of one thing of one sort.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mark(pub(crate) u128);

impl Mark {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// What an event is filed under, besides its stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EventMarks {
    pub(crate) flow: Mark,
    pub(crate) event_type: Mark,
    pub(crate) tags: Box<[Mark]>,
}

/// Makes marks with the secret of one store.
#[derive(Clone, Copy)]
pub(crate) struct Marker {
    secret: [u8; 16],
}

impl Marker {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    pub(crate) fn stream(&self, name: &StreamName) -> Mark {
        self.mark(b's', name.topic.as_str().as_bytes(), name.key.as_str().as_bytes())
    }

    pub(crate) fn topic(&self, topic: &Topic) -> Mark {
        self.mark(b'o', topic.as_str().as_bytes(), b"")
    }

    pub(crate) fn event_type(&self, event_type: &EventType) -> Mark {
        self.mark(b't', event_type.as_str().as_bytes(), b"")
    }

    pub(crate) fn tag(&self, tag: &Tag) -> Mark {
        self.mark(b'g', tag.name().as_bytes(), tag.value().as_bytes())
    }

    pub(crate) fn flow(&self, id: &EventId) -> Mark {
        self.mark(b'f', id.as_str().as_bytes(), b"")
    }

    pub(crate) fn record(&self, space: &Space, key: &[u8]) -> Mark {
        self.mark(b'r', space.as_str().as_bytes(), key)
    }

    pub(crate) fn event(&self, envelope: &ensue_core::Envelope) -> EventMarks {
        EventMarks {
            flow: self.flow(envelope.flow()),
            event_type: self.event_type(&envelope.event_type),
            tags: envelope.tags.iter().map(|tag| self.tag(tag)).collect(),
        }
    }

    /// Neither part holds a zero byte but the last one of a record, so the pair is unambiguous.
    fn mark(&self, sort: u8, first: &[u8], second: &[u8]) -> Mark {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(&[sort]);
        hasher.write(first);
        hasher.write(&[0]);
        hasher.write(second);
        Mark(hasher.finish128().as_u128())
    }
}

/// A map by mark. Marks are hashes already, so the map takes their low bits as they are.
pub(crate) type MarkMap<V> = HashMap<Mark, V, BuildHasherDefault<LowBits>>;

#[derive(Default)]
pub(crate) struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, mark: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the low half of a hash is as good a hash")]
        let low = mark as u64;
        self.0 ^= low;
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(5) ^ number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_secrets_keep_marks_apart() {
        let marker = Marker::new([1; 16]);
        let id = EventId::new("x").expect("a plain id");
        let event_type = EventType::new("x").expect("a plain type");
        assert_ne!(marker.flow(&id), marker.event_type(&event_type));
        assert_ne!(marker.flow(&id), Marker::new([2; 16]).flow(&id));
        assert_eq!(marker.flow(&id), Marker::new([1; 16]).flow(&id));
    }
}
