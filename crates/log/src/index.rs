//! The index on disk: where to find streams, types, tags, flows, records and frames that have left the window.
//!
//! One fjall keyspace, filled only by bulk ingestion: a flush is one sorted run that appears whole, together with the
//! frame up to which it reflects the journal. Nothing here is synced on the way to an acknowledgement, and all of it is
//! rebuilt from the journal when the folder is gone.
//!
//! | key | value |
//! |---|---|
//! | `h` mark | count, and the positions not yet moved into chunks |
//! | `c` mark, number u64 | a chunk of positions; the number is the first ordinal for streams, else the first position |
//! | `l` position u64 | places of a run of frames that begins with this event |
//! | `o` partition u32, topic | next offset |
//! | `r` space, 0, key | revision, expiry, value |
//! | `x` expiry, key as above | nothing: what to sweep when |
//! | `m` | how far it reflects the journal |

use std::path::Path;

use bytes::Bytes;
use ensue_core::{Error, Topic};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot};

use crate::errors;
use crate::journal::Tail;
use crate::mark::{Mark, Marker};
use crate::sequencer::Offsets;
use crate::window::{FramePlace, Stored};
use crate::wire::{Malformed, Reader, put_varint};

mod flush;
mod list;
mod sweep;
pub(crate) use list::Order;

/// Its folder.
pub(crate) const FOLDER: &str = "index";
const KEYSPACE: &str = "index-1";

const HEAD: u8 = b'h';
const CHUNK: u8 = b'c';
const FRAMES: u8 = b'l';
const OFFSET: u8 = b'o';
const RECORD: u8 = b'r';
const EXPIRY: u8 = b'x';
const META: u8 = b'm';

/// How far the index reflects the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) uuid: [u8; 16],
    pub(crate) tail: Tail,
    pub(crate) position: u64,
    pub(crate) commit: u64,
    pub(crate) streams: u64,
}

impl Applied {
    fn to_bytes(self) -> Vec<u8> {
        let mut text = self.uuid.to_vec();
        let tail = self.tail;
        for number in [
            tail.address,
            tail.sequence,
            u64::from(tail.checksum),
            tail.recorded_at.cast_unsigned(),
            tail.durable_sequence,
            self.position,
            self.commit,
            self.streams,
        ] {
            text.extend_from_slice(&number.to_le_bytes());
        }
        text
    }

    fn parse(text: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(text);
        let uuid = reader.array()?;
        let address = reader.u64()?;
        let sequence = reader.u64()?;
        let checksum = u32::try_from(reader.u64()?).map_err(|_| "a checksum is out of range")?;
        let recorded_at = reader.i64()?;
        let durable_sequence = reader.u64()?;
        let tail = Tail { address, sequence, checksum, recorded_at, durable_sequence };
        Ok(Self { uuid, tail, position: reader.u64()?, commit: reader.u64()?, streams: reader.u64()? })
    }
}

pub(crate) struct Index {
    database: Database,
    keyspace: Keyspace,
}

impl Index {
    pub(crate) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let database = Database::builder(folder)
            .cache_size(cache_bytes)
            .worker_threads(1)
            .max_cached_files(Some(64))
            .open()
            .map_err(errors::index)?;
        // Nothing is written but by ingestion, which passes the memtable by.
        let options = || KeyspaceCreateOptions::default().max_memtable_size(1 << 20);
        let keyspace = database.keyspace(KEYSPACE, options).map_err(errors::index)?;
        Ok(Self { database, keyspace })
    }

    /// A consistent view, unmoved by flushes.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.database.snapshot()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.keyspace.get(key).map_err(errors::index)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// `None` in an index that was never flushed.
    pub(crate) fn applied(&self) -> Result<Option<Applied>, Error> {
        self.get(&[META])?.map(|text| Applied::parse(text).map_err(damaged)).transpose()
    }

    /// How many records each topic-partition holds.
    pub(crate) fn offsets(&self, marker: &Marker) -> Result<Offsets, Error> {
        let mut offsets = Offsets::new();
        for item in self.keyspace.prefix([OFFSET]) {
            let (key, value) = item.into_inner().map_err(errors::index)?;
            let (topic, partition) = parse_offset_key(&key).map_err(damaged)?;
            let next = Reader::new(Bytes::copy_from_slice(&value)).varint().map_err(damaged)?;
            offsets.insert((marker.topic(&topic), partition), next);
        }
        Ok(offsets)
    }

    /// A record, lapsed or not.
    pub(crate) fn record(&self, key: &[u8]) -> Result<Option<Stored>, Error> {
        self.get(&prefixed(RECORD, key))?.map(|text| parse_record(text).map_err(damaged)).transpose()
    }

    /// Records from `from` on, below `until`, as far as the view has them.
    pub(crate) fn records(
        &self,
        view: &Snapshot,
        from: &[u8],
        until: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Stored), Error>> {
        let range = prefixed(RECORD, from)..prefixed(RECORD, until);
        view.range(&self.keyspace, range).map(|item| {
            let (key, value) = item.into_inner().map_err(errors::index)?;
            let key = Bytes::copy_from_slice(key.get(1..).unwrap_or_default());
            let stored = parse_record(Bytes::copy_from_slice(&value)).map_err(damaged)?;
            Ok((key, stored))
        })
    }

    /// The frame that holds this position.
    pub(crate) fn frame(&self, position: u64) -> Result<Option<FramePlace>, Error> {
        let range = prefixed(FRAMES, &[])..=prefixed(FRAMES, &position.to_be_bytes());
        let Some(item) = self.keyspace.range(range).next_back() else {
            return Ok(None);
        };
        let value = item.value().map_err(errors::index)?;
        let places = flush::parse_frames(Bytes::copy_from_slice(&value)).map_err(damaged)?;
        let holds = |place: &FramePlace| {
            (place.base_position..place.base_position + u64::from(place.events)).contains(&position)
        };
        Ok(places.into_iter().find(holds))
    }
}

fn prefixed(sort: u8, key: &[u8]) -> Vec<u8> {
    [&[sort], key].concat()
}

fn marked(sort: u8, mark: Mark, rest: &[u8]) -> Vec<u8> {
    [&[sort], &mark.to_bytes()[..], rest].concat()
}

fn offset_key(topic: &Topic, partition: u32) -> Vec<u8> {
    [&[OFFSET], &partition.to_be_bytes()[..], topic.as_str().as_bytes()].concat()
}

fn parse_offset_key(key: &[u8]) -> Result<(Topic, u32), Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(key));
    reader.u8()?;
    let partition = reader.u32_be()?;
    let topic =
        key.get(5..).and_then(|topic| std::str::from_utf8(topic).ok()).ok_or("a topic is not UTF-8")?;
    Ok((Topic::new(topic).map_err(|_| "a topic breaks the rule of topics")?, partition))
}

fn put_record(stored: &Stored) -> Vec<u8> {
    let mut text = Vec::with_capacity(stored.value.len() + 16);
    put_varint(&mut text, stored.revision);
    crate::body::put_expiry(&mut text, stored.lapse);
    text.extend_from_slice(&stored.value);
    text
}

fn parse_record(text: Bytes) -> Result<Stored, Malformed> {
    let mut reader = Reader::new(text);
    let revision = reader.varint()?;
    let lapse = crate::body::read_expiry(&mut reader)?;
    Ok(Stored { value: reader.rest(), revision, lapse })
}

fn damaged(why: Malformed) -> Error {
    Error::new(ensue_core::Code::CORRUPT, format!("the index is damaged: {why}"))
        .with_fix("close the store and delete its `index` folder; it is rebuilt from the journal")
}
