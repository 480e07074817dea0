//! A flush: one generation of the window becomes one sorted run of the index.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensue_core::{Error, Timestamp};

use super::{
    Applied, CHUNK, FRAMES, HEAD, Index, META, OFFSET, Order, RECORD, marked, offset_key, prefixed,
    put_record, sweep,
};
use crate::errors;
use crate::mark::{Mark, MarkMap};
use crate::window::{FramePlace, Generation, Postings, Stored};
use crate::wire::{Malformed, Reader, put_varint};

/// Frames whose places share a value.
const FRAMES_MAX: usize = 128;

/// What a flush writes. Lists are by far the most, so they are sorted as numbers and not as text.
#[derive(Default)]
pub(super) struct Run {
    /// Chunks and heads, each sorted once the run is complete.
    chunks: Vec<(Vec<u8>, Vec<u8>)>,
    heads: Vec<(Vec<u8>, Vec<u8>)>,
    /// Everything else, by key; `None` removes.
    pub(super) rest: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// The order in which a run is written is the order of its keys.
const _: () = assert!(CHUNK < HEAD && HEAD < FRAMES && FRAMES < META && META < OFFSET && OFFSET < RECORD);

impl Index {
    /// Takes a generation in, and sweeps records that have lapsed. Everything in it must be durable.
    pub(crate) fn flush(
        &self,
        uuid: [u8; 16],
        generation: &Generation,
        now: Timestamp,
    ) -> Result<Applied, Error> {
        let before = self.applied()?.unwrap_or_default();
        let mut run = Run::default();
        self.add_lists(&mut run, generation)?;
        self.add_records(&mut run, &generation.records, now)?;
        self.sweep(&mut run, now)?;
        add_frames(&mut run, &generation.frames);
        for ((topic, partition), next) in &generation.offsets {
            let mut text = Vec::new();
            put_varint(&mut text, *next);
            run.rest.insert(offset_key(topic, *partition), Some(text));
        }
        let applied = Applied {
            uuid,
            tail: generation.tail,
            position: generation.last_position(),
            commit: generation.commit,
            streams: before.streams + generation.streams_begun,
        };
        run.rest.insert(vec![META], Some(applied.to_bytes()));
        self.ingest(run)?;
        Ok(applied)
    }

    fn add_lists(&self, run: &mut Run, generation: &Generation) -> Result<(), Error> {
        let mut lists: Vec<(Mark, &Postings, Order)> = with_order(&generation.streams, Order::Ordinal)
            .chain(with_order(&generation.flows, Order::Position))
            .chain(with_order(&generation.types, Order::Position))
            .chain(with_order(&generation.tags, Order::Position))
            .collect();
        // In the order of the index, neighbours are looked up one after the other.
        lists.sort_unstable_by_key(|(mark, _, _)| *mark);
        for (mark, postings, order) in lists {
            self.add_list(run, mark, postings, order)?;
        }
        run.chunks.sort_unstable();
        Ok(())
    }

    fn add_list(&self, run: &mut Run, mark: Mark, postings: &Postings, order: Order) -> Result<(), Error> {
        let mut list = self.list(mark)?.unwrap_or_default();
        for (number, chunk) in list.extend(postings.iter(), order) {
            run.chunks.push((marked(CHUNK, mark, &number.to_be_bytes()), chunk));
        }
        run.heads.push((marked(HEAD, mark, &[]), list.to_bytes()));
        Ok(())
    }

    fn add_records(
        &self,
        run: &mut Run,
        records: &BTreeMap<Vec<u8>, Option<Stored>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        for (key, stored) in records {
            let live = stored.as_ref().filter(|stored| stored.lapse.is_none_or(|at| at > now));
            if let Some(at) = live.and_then(|stored| stored.lapse) {
                run.rest.insert(sweep::expiry_key(at, key), Some(Vec::new()));
            }
            // Removing what never was would leave a tombstone for nothing.
            if live.is_some() || self.record(key)?.is_some() {
                run.rest.insert(prefixed(RECORD, key), live.map(put_record));
            }
        }
        Ok(())
    }

    fn ingest(&self, run: Run) -> Result<(), Error> {
        let mut ingestion = self.keyspace.start_ingestion().map_err(errors::index)?;
        for (key, value) in run.chunks.into_iter().chain(run.heads) {
            ingestion.write(key, value).map_err(errors::index)?;
        }
        for (key, value) in run.rest {
            match value {
                Some(value) => ingestion.write(key, value).map_err(errors::index)?,
                None => ingestion.write_tombstone(key).map_err(errors::index)?,
            }
        }
        ingestion.finish().map_err(errors::index)
    }
}

fn with_order(lists: &MarkMap<Postings>, order: Order) -> impl Iterator<Item = (Mark, &Postings, Order)> {
    lists.iter().map(move |(mark, postings)| (*mark, postings, order))
}

fn add_frames(run: &mut Run, frames: &[FramePlace]) {
    let with_events: Vec<&FramePlace> = frames.iter().filter(|frame| frame.events > 0).collect();
    for places in with_events.chunks(FRAMES_MAX) {
        let Some(first) = places.first() else { continue };
        let mut text = Vec::with_capacity(places.len() * 8);
        put_varint(&mut text, places.len() as u64);
        put_varint(&mut text, first.base_position);
        let mut end = 0;
        for place in places {
            put_varint(&mut text, u64::from(place.events));
            put_varint(&mut text, place.address - end);
            put_varint(&mut text, u64::from(place.frame_bytes));
            end = place.address + u64::from(place.frame_bytes);
        }
        run.rest.insert(prefixed(FRAMES, &first.base_position.to_be_bytes()), Some(text));
    }
}

pub(super) fn parse_frames(text: Bytes) -> Result<Vec<FramePlace>, Malformed> {
    const RANGE: Malformed = "the place of a frame is out of range";
    let mut reader = Reader::new(text);
    let count = reader.varint()?;
    let mut base_position = reader.varint()?;
    let mut end = 0u64;
    (0..count)
        .map(|_| {
            let events = u32::try_from(reader.varint()?).map_err(|_| RANGE)?;
            let address = end.checked_add(reader.varint()?).ok_or(RANGE)?;
            let frame_bytes = u32::try_from(reader.varint()?).map_err(|_| RANGE)?;
            let place = FramePlace { base_position, events, address, frame_bytes };
            base_position = base_position.checked_add(u64::from(events)).ok_or(RANGE)?;
            end = address.checked_add(u64::from(frame_bytes)).ok_or(RANGE)?;
            Ok(place)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_frames_come_back() {
        let place =
            |base_position, events, address| FramePlace { base_position, events, address, frame_bytes: 4096 };
        let frames = [place(5, 2, 0), place(7, 0, 4096), place(7, 1, 8192), place(8, 3, 1 << 40)];
        let mut run = Run::default();
        add_frames(&mut run, &frames);
        let (key, text) = run.rest.pop_first().expect("one run of frames");
        assert_eq!(key, prefixed(FRAMES, &5u64.to_be_bytes()));
        let found = parse_frames(text.expect("not removed").into()).expect("our own");
        assert_eq!(found, [frames[0], frames[2], frames[3]]);
    }
}
