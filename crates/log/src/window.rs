//! The window: everything since the last flush of the index, in memory, decoded, ready to be read without a disk.
//!
//! Three generations: the active one takes what is published, the next is being flushed, the last has been flushed and
//! stays readable until the one after it has, so that whoever is a little behind still reads from memory. Below them
//! lies the index. A reader that holds the window sees one moment between commits.
//!
//! Invariants: the generations follow each other without a gap; only what may be read is in here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Recorded, Topic};

use crate::journal::{Tail, Written};
use crate::mark::{EventMarks, Mark, MarkMap};
use crate::sequencer::Lapse;

mod postings;
pub(crate) use postings::Postings;

/// Memory an event takes besides its text: the structs around it, and its places in the maps.
const EVENT_BYTES: usize = 640;
const RECORD_BYTES: usize = 160;

/// The key of a record among all records: space, a zero byte, key. A space has no zero byte.
pub(crate) fn record_key(space: &str, key: &[u8]) -> Vec<u8> {
    [space.as_bytes(), &[0], key].concat()
}

/// A record that was put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
    pub(crate) lapse: Lapse,
}

/// Where the events of a frame lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FramePlace {
    pub(crate) base_position: u64,
    pub(crate) events: u32,
    pub(crate) address: u64,
    pub(crate) frame_bytes: u32,
}

/// One commit as the window takes it.
pub(crate) struct Published {
    pub(crate) commit: u64,
    pub(crate) events: Vec<Recorded>,
    /// One for each event.
    pub(crate) marks: Arc<[EventMarks]>,
    /// The stream of each event.
    pub(crate) streams: Vec<Mark>,
    /// Keys as [`record_key`] makes them; `None`: deleted.
    pub(crate) records: Vec<(Vec<u8>, Option<Stored>)>,
    /// Where topic-partitions stand afterwards.
    pub(crate) offsets: Vec<Advance>,
}

/// How far a topic-partition has come.
pub(crate) struct Advance {
    pub(crate) topic: Topic,
    pub(crate) partition: u32,
    /// By so many.
    pub(crate) records: u64,
    pub(crate) next_offset: u64,
}

/// What was published between two flushes.
pub(crate) struct Generation {
    /// The position of its first event.
    pub(crate) first_position: u64,
    pub(crate) events: Vec<Recorded>,
    pub(crate) streams: MarkMap<Postings>,
    pub(crate) flows: MarkMap<Postings>,
    pub(crate) types: MarkMap<Postings>,
    pub(crate) tags: MarkMap<Postings>,
    pub(crate) records: BTreeMap<Vec<u8>, Option<Stored>>,
    pub(crate) offsets: BTreeMap<(Topic, u32), u64>,
    pub(crate) frames: Vec<FramePlace>,
    /// The last commit in it.
    pub(crate) commit: u64,
    pub(crate) tail: Tail,
    /// Streams that began in it.
    pub(crate) streams_begun: u64,
    pub(crate) bytes: usize,
}

impl Generation {
    fn new(first_position: u64, commit: u64, tail: Tail) -> Self {
        Self {
            first_position,
            events: Vec::new(),
            streams: MarkMap::default(),
            flows: MarkMap::default(),
            types: MarkMap::default(),
            tags: MarkMap::default(),
            records: BTreeMap::new(),
            offsets: BTreeMap::new(),
            frames: Vec::new(),
            commit,
            tail,
            streams_begun: 0,
            bytes: 0,
        }
    }

    pub(crate) fn last_position(&self) -> u64 {
        self.first_position + self.events.len() as u64 - 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn event(&self, position: u64) -> Option<&Recorded> {
        let index = usize::try_from(position.checked_sub(self.first_position)?).ok()?;
        self.events.get(index)
    }

    /// The version of a stream that has changed in here.
    fn version(&self, stream: Mark) -> Option<u64> {
        let last = self.streams.get(&stream)?.last();
        self.event(last).map(|event| event.version.0)
    }

    fn publish(&mut self, published: Published) {
        let events = published.events.into_iter().zip(published.marks.iter()).zip(published.streams);
        for ((event, marks), stream) in events {
            let position = event.position.0;
            assert_eq!(position, self.last_position() + 1, "positions have no gap");
            self.bytes += EVENT_BYTES + event.envelope.size();
            self.streams_begun += u64::from(event.version.0 == 1);
            Postings::add(&mut self.streams, stream, position);
            Postings::add(&mut self.flows, marks.flow, position);
            Postings::add(&mut self.types, marks.event_type, position);
            for tag in &marks.tags {
                Postings::add(&mut self.tags, *tag, position);
            }
            self.events.push(event);
        }
        for (key, stored) in published.records {
            self.put(key, stored);
        }
        for advance in published.offsets {
            self.offsets.insert((advance.topic, advance.partition), advance.next_offset);
        }
        self.commit = published.commit;
    }

    /// A record that is written again and again takes the room of one.
    fn put(&mut self, key: Vec<u8>, stored: Option<Stored>) {
        let size = |stored: &Option<Stored>| stored.as_ref().map_or(0, |stored| stored.value.len());
        let key_bytes = key.len();
        let added = size(&stored);
        let replaced = match self.records.insert(key, stored) {
            Some(before) => size(&before),
            None => {
                self.bytes += RECORD_BYTES + key_bytes;
                0
            }
        };
        self.bytes = (self.bytes + added).saturating_sub(replaced);
    }
}

/// The generations, newest first.
pub(crate) struct Window {
    pub(crate) active: Generation,
    pub(crate) flushing: Option<Arc<Generation>>,
    /// In the index already; kept for readers.
    kept: Option<Arc<Generation>>,
}

impl Window {
    /// Starts empty after what the index holds.
    pub(crate) fn new(last_position: u64, commit: u64, tail: Tail) -> Self {
        Self { active: Generation::new(last_position + 1, commit, tail), flushing: None, kept: None }
    }

    pub(crate) fn commit(&self) -> u64 {
        self.active.commit
    }

    pub(crate) fn head(&self) -> u64 {
        self.active.last_position()
    }

    /// The first position that is in the window; everything before is in the index.
    pub(crate) fn first_position(&self) -> u64 {
        let oldest = self.kept.as_ref().or(self.flushing.as_ref());
        oldest.map_or(self.active.first_position, |oldest| oldest.first_position)
    }

    /// Newest first.
    pub(crate) fn generations(&self) -> impl DoubleEndedIterator<Item = &Generation> {
        [Some(&self.active), self.flushing.as_deref(), self.kept.as_deref()].into_iter().flatten()
    }

    pub(crate) fn version(&self, stream: Mark) -> Option<u64> {
        self.generations().find_map(|generation| generation.version(stream))
    }

    /// A record that has changed in the window; if it was deleted, that is what is found.
    pub(crate) fn record(&self, key: &[u8]) -> Option<&Option<Stored>> {
        self.generations().find_map(|generation| generation.records.get(key))
    }

    pub(crate) fn event(&self, position: u64) -> Option<&Recorded> {
        self.generations().find_map(|generation| generation.event(position))
    }

    /// Takes a frame in.
    pub(crate) fn publish(&mut self, written: &Written, tail: Tail, commits: Vec<Published>) {
        for commit in commits {
            self.active.publish(commit);
        }
        let header = written.header;
        self.active.frames.push(FramePlace {
            base_position: header.base_position,
            events: header.events,
            address: written.address,
            frame_bytes: u32::try_from(header.frame_bytes()).expect("a frame is bounded below 4 GiB"),
        });
        self.active.tail = tail;
    }

    /// Makes the active generation the one to flush, and begins a new one.
    pub(crate) fn rotate(&mut self) -> Arc<Generation> {
        assert!(self.flushing.is_none(), "one flush at a time");
        let active = &self.active;
        let next = Generation::new(active.last_position() + 1, active.commit, active.tail);
        let full = Arc::new(std::mem::replace(&mut self.active, next));
        self.flushing = Some(Arc::clone(&full));
        full
    }

    /// The generation that was being flushed is in the index. Returns the one that was kept before it, to be dropped
    /// outside of the lock.
    pub(crate) fn keep_flushed(&mut self) -> Option<Arc<Generation>> {
        std::mem::replace(&mut self.kept, self.flushing.take())
    }
}
