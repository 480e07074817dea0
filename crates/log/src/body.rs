//! The body of a commit as it lies in a frame: batches of events and writes of records, in order.
//!
//! ```text
//! commit  = length u32, entry*
//! append  = 1, first version u64, topic (u16 + text), batch length u32, RecordBatch v2
//! put     = 2, space (u16 + text), key (u16 + bytes), expiry, value (u32 + bytes)
//! delete  = 3, space (u16 + text), key (u16 + bytes)
//! expiry  = 0 | 1, seconds i64, nanoseconds i32
//! ```
//! Numbers of ours are little-endian. First version and base offset are patched by the sequencer's thread; nothing of
//! ours is checksummed here, the frame does that.

use bytes::Bytes;
use ensue_core::{Append, Change, RecordWrite, Space, StreamName, Timestamp, Topic};

use crate::batch::{self, Batch};
use crate::wire::{Malformed, Reader, patch, put_short_text};

const APPEND: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
/// Bytes of the length in front of a commit.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Where in a body the numbers of one append stand that only the sequencer knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Blank {
    version_at: usize,
    offset_at: usize,
}

impl Blank {
    pub(crate) fn fill(self, body: &mut [u8], first_version: u64, base_offset: u64) {
        patch(body, self.version_at, &first_version.to_le_bytes());
        patch(body, self.offset_at, &base_offset.to_be_bytes());
    }
}

/// Encodes a commit, with a blank for each append.
pub(crate) fn encode(appends: &[Append], records: &[RecordWrite]) -> (Vec<u8>, Vec<Blank>) {
    let mut body = Vec::with_capacity(512);
    body.extend_from_slice(&[0; LENGTH_BYTES]);
    let blanks = appends.iter().map(|append| encode_append(&mut body, append)).collect();
    for write in records {
        encode_record(&mut body, write);
    }
    let length = u32::try_from(body.len() - LENGTH_BYTES).expect("a commit is bounded below 4 GiB");
    patch(&mut body, 0, &length.to_le_bytes());
    (body, blanks)
}

fn encode_append(body: &mut Vec<u8>, append: &Append) -> Blank {
    body.push(APPEND);
    let version_at = body.len();
    body.extend_from_slice(&0u64.to_le_bytes());
    put_short_text(body, append.stream.topic.as_str());
    let length_at = body.len();
    body.extend_from_slice(&0u32.to_le_bytes());
    let offset_at = body.len();
    batch::encode(body, &append.stream.key, &append.events);
    let length = u32::try_from(body.len() - offset_at).expect("a commit is bounded below 4 GiB");
    patch(body, length_at, &length.to_le_bytes());
    Blank { version_at, offset_at }
}

fn encode_record(body: &mut Vec<u8>, write: &RecordWrite) {
    body.push(if write.change == Change::Delete { DELETE } else { PUT });
    put_short_text(body, write.space.as_str());
    let length = u16::try_from(write.key.len()).expect("keys of records are bounded below 64 KiB");
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&write.key);
    if let Change::Put { value, expires_at } = &write.change {
        put_expiry(body, *expires_at);
        let length = u32::try_from(value.len()).expect("a commit is bounded below 4 GiB");
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(value);
    }
}

/// Also the spelling of an expiry in the index.
pub(crate) fn put_expiry(to: &mut Vec<u8>, expires_at: Option<Timestamp>) {
    match expires_at {
        None => to.push(0),
        Some(at) => {
            to.push(1);
            to.extend_from_slice(&at.as_second().to_le_bytes());
            to.extend_from_slice(&at.subsec_nanosecond().to_le_bytes());
        }
    }
}

pub(crate) fn read_expiry(reader: &mut Reader) -> Result<Option<Timestamp>, Malformed> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    let second = reader.i64()?;
    let nanosecond = i32::from_le_bytes(reader.array()?);
    Timestamp::new(second, nanosecond).map(Some).map_err(|_| "an expiry is out of range")
}

/// One entry, taken apart.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Append { stream: StreamName, first_version: u64, batch: Batch },
    Record(RecordWrite),
}

/// One append, not yet decoded.
pub(crate) struct RawAppend {
    pub(crate) topic: Topic,
    pub(crate) first_version: u64,
    pub(crate) batch: Bytes,
}

impl RawAppend {
    pub(crate) fn decode(&self) -> Result<(StreamName, Batch), Malformed> {
        let batch = batch::decode(&self.batch)?;
        Ok((StreamName { topic: self.topic.clone(), key: batch.key.clone() }, batch))
    }
}

/// Walks the commits of a frame's payload, each as the bytes of its entries.
pub(crate) struct Commits(Reader);

impl Commits {
    pub(crate) fn new(payload: Bytes) -> Self {
        Self(Reader::new(payload))
    }
}

impl Iterator for Commits {
    type Item = Result<Bytes, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.0.u32().map(|length| length as usize);
        Some(length.and_then(|length| self.0.take(length)))
    }
}

/// Decodes every entry of one commit.
pub(crate) fn decode(commit: Bytes) -> Result<Vec<Entry>, Malformed> {
    let mut entries = Vec::new();
    let mut reader = Reader::new(commit);
    while !reader.is_empty() {
        entries.push(match reader.u8()? {
            APPEND => {
                let raw = read_append(&mut reader)?;
                let (stream, batch) = raw.decode()?;
                Entry::Append { stream, first_version: raw.first_version, batch }
            }
            kind => Entry::Record(read_record(&mut reader, kind)?),
        });
    }
    Ok(entries)
}

/// The appends of one commit; records are stepped over.
pub(crate) fn appends(commit: Bytes) -> Result<Vec<RawAppend>, Malformed> {
    let mut found = Vec::new();
    let mut reader = Reader::new(commit);
    while !reader.is_empty() {
        match reader.u8()? {
            APPEND => found.push(read_append(&mut reader)?),
            kind => drop(read_record(&mut reader, kind)?),
        }
    }
    Ok(found)
}

fn read_append(reader: &mut Reader) -> Result<RawAppend, Malformed> {
    let first_version = reader.u64()?;
    let topic = Topic::new(reader.short_text()?).map_err(|_| "a topic breaks the rule of topics")?;
    let length = reader.u32()? as usize;
    Ok(RawAppend { topic, first_version, batch: reader.take(length)? })
}

fn read_record(reader: &mut Reader, kind: u8) -> Result<RecordWrite, Malformed> {
    let space = Space::new(reader.short_text()?).map_err(|_| "a space breaks the rule of spaces")?;
    let length = usize::from(reader.u16()?);
    let key = reader.take(length)?;
    let change = match kind {
        PUT => {
            let expires_at = read_expiry(reader)?;
            let length = reader.u32()? as usize;
            Change::Put { value: reader.take(length)?, expires_at }
        }
        DELETE => Change::Delete,
        _ => return Err("an entry is of an unknown kind"),
    };
    Ok(RecordWrite { space, key, change, expected: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A commit as it lies in a frame: every kind of entry, with and without what is optional.
    fn sample() -> Vec<u8> {
        let space = || Space::new("view").expect("a space");
        let lapsing = RecordWrite::put(space(), "key", "value").expires_at(Timestamp::UNIX_EPOCH);
        let records = [lapsing, RecordWrite::put(space(), "key", ""), RecordWrite::delete(space(), "key")];
        encode(&[], &records).0.split_off(LENGTH_BYTES)
    }

    #[test]
    fn no_bytes_make_the_decoder_of_commits_panic() {
        let whole = sample();
        let length = whole.len();
        assert_eq!(decode(whole.clone().into()).map(|entries| entries.len()), Ok(3));
        let mut refused = 0;
        for at in 0..length {
            for flip in 1..=u8::MAX {
                let mut damaged = whole.clone();
                crate::wire::patch(&mut damaged, at, &[whole.get(at).copied().unwrap_or_default() ^ flip]);
                let damaged = Bytes::from(damaged);
                refused += usize::from(decode(damaged.clone()).is_err());
                drop((appends(damaged.clone()), Commits::new(damaged).collect::<Result<Vec<_>, _>>()));
            }
            drop(decode(whole.get(..at).unwrap_or_default().to_vec().into()));
        }
        assert!(refused > length, "lengths, kinds and names are checked: {refused}");
    }
}
