//! Recovery: from what lies on the disk to a window, an index and a tail to go on from.
//!
//! Frames are replayed from where the index ends, each checked by itself and against the one before. Where they stop, the
//! question is why:
//!
//! - nothing but zeros: the end;
//! - a *torn tail*: the last write, which nobody was told of. No later frame exists, nothing says that it was synced, and
//!   the damage looks as a tear does: some sector still is zeros, as the file was before;
//! - everything else is *rot* in acknowledged data: the store is not opened, and the error names the exact range.
//!
//! Invariant: nothing that may have been acknowledged is dropped silently.

use ensue_core::{Change, Error};

use crate::body::{self, Commits, Entry};
use crate::errors;
use crate::frames::{Loaded, recorded, recorded_at};
use crate::journal::{Layout, Tail, Written};
use crate::mark::Marker;
use crate::partition::partition_of;
use crate::window::{Advance, Published, Stored, record_key};
use crate::wire::Malformed;

mod scan;
pub(crate) use scan::{End, Scan};

/// Turns a frame into what the window takes. `tail` is where the journal stands after it.
pub(crate) fn replay(marker: &Marker, frame: &Loaded) -> Result<Vec<Published>, Malformed> {
    let header = &frame.header;
    let mut position = header.base_position;
    let mut commit = header.base_commit;
    let mut published = Vec::with_capacity(header.commits as usize);
    for entries in Commits::new(frame.payload.clone()) {
        let entries = body::decode(entries?)?;
        published.push(replay_commit(marker, frame, entries, commit, &mut position)?);
        commit += 1;
    }
    let counts =
        (header.base_position + u64::from(header.events), header.base_commit + u64::from(header.commits));
    if (position, commit) != counts {
        return Err("the frame does not hold what its header counts");
    }
    Ok(published)
}

fn replay_commit(
    marker: &Marker,
    frame: &Loaded,
    entries: Vec<Entry>,
    commit: u64,
    position: &mut u64,
) -> Result<Published, Malformed> {
    let recorded_at = recorded_at(&frame.header);
    let mut events = Vec::new();
    let mut marks = Vec::new();
    let mut streams = Vec::new();
    let mut records = Vec::new();
    let mut offsets = Vec::new();
    for entry in entries {
        match entry {
            Entry::Append { stream, first_version, batch } => {
                let count = batch.events.len() as u64;
                let base = u64::try_from(batch.base_offset).map_err(|_| "an offset is negative")?;
                offsets.push(Advance {
                    topic: stream.topic.clone(),
                    partition: partition_of(stream.key.as_str().as_bytes()),
                    records: count,
                    next_offset: base + count,
                });
                let mark = marker.stream(&stream);
                for (version, envelope) in (first_version..).zip(batch.events) {
                    marks.push(marker.event(&envelope));
                    streams.push(mark);
                    events.push(recorded((*position, version), &stream, recorded_at, envelope));
                    *position += 1;
                }
            }
            Entry::Record(write) => {
                let stored = match write.change {
                    Change::Put { value, expires_at } => {
                        Some(Stored { value, revision: commit, lapse: expires_at })
                    }
                    Change::Delete => None,
                };
                records.push((record_key(write.space.as_str(), &write.key), stored));
            }
        }
    }
    Ok(Published { commit, events, marks: marks.into(), streams, records, offsets })
}

/// Where a frame lies, as the window wants to know it.
pub(crate) fn written(layout: Layout, frame: &Loaded) -> Written {
    let header = frame.header;
    Written { header, address: layout.start_of(header.generation) + header.offset }
}

/// Where the journal stands after a frame.
pub(crate) fn tail_after(layout: Layout, frame: &Loaded, durable_sequence: u64) -> Tail {
    let header = frame.header;
    Tail {
        address: written(layout, frame).address + header.frame_bytes() as u64,
        sequence: header.sequence,
        checksum: header.checksum(),
        recorded_at: header.recorded_at,
        durable_sequence,
    }
}

/// A frame whose bytes check out, but do not decode.
pub(crate) fn undecodable(frame: &Loaded, why: Malformed) -> Error {
    let header = frame.header;
    let until = header.offset + header.frame_bytes() as u64;
    errors::corrupt(&crate::journal::file_name(header.generation), header.offset, until, why)
}
