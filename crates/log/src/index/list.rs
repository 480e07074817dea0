//! Lists of positions under one mark: a head with the newest few, and chunks with the rest.
//!
//! Most streams, tags and flows are short and live in their head, which one point lookup finds, or a filter refuses
//! without touching a disk. The long ones spill into chunks that can be entered in the middle.

use bytes::Bytes;
use ensue_core::Error;

use super::{CHUNK, HEAD, Index, damaged, marked};
use crate::errors;
use crate::mark::Mark;
use crate::wire::{Malformed, Reader, put_varint};

/// From this length on the tail of a head becomes chunks.
const TAIL_MAX: usize = 128;
/// Positions in a chunk at most.
const CHUNK_MAX: usize = 2048;

/// By what a list can be entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// By ordinal, which for a stream is the version.
    Ordinal,
    /// By position.
    Position,
}

/// A head: how many there are, and the newest of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct List {
    pub(crate) count: u64,
    tail: Vec<u64>,
}

impl List {
    fn parse(text: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(text);
        Ok(Self { count: reader.varint()?, tail: read_positions(&mut reader)? })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16);
        put_varint(&mut text, self.count);
        put_positions(&mut text, &self.tail);
        text
    }

    /// Adds newer positions; returns the chunks that spill, each with its number. The newest position always stays, so
    /// that the last match of a query is in the head.
    pub(crate) fn extend(
        &mut self,
        positions: impl Iterator<Item = u64>,
        order: Order,
    ) -> Vec<(u64, Vec<u8>)> {
        let before = self.tail.len();
        self.tail.extend(positions);
        self.count += (self.tail.len() - before) as u64;
        if self.tail.len() <= TAIL_MAX {
            return Vec::new();
        }
        let kept = self.tail.split_off(self.tail.len() - 1);
        let spilled = std::mem::replace(&mut self.tail, kept);
        let first_ordinal = self.count - self.tail.len() as u64 - spilled.len() as u64 + 1;
        let numbered = spilled.chunks(CHUNK_MAX).zip((first_ordinal..).step_by(CHUNK_MAX));
        numbered.map(|(chunk, ordinal)| number_chunk(chunk, ordinal, order)).collect()
    }
}

fn number_chunk(chunk: &[u64], ordinal: u64, order: Order) -> (u64, Vec<u8>) {
    let mut text = Vec::with_capacity(chunk.len() * 2 + 16);
    put_varint(&mut text, ordinal);
    put_positions(&mut text, chunk);
    let number = match order {
        Order::Ordinal => ordinal,
        Order::Position => chunk.first().copied().unwrap_or_default(),
    };
    (number, text)
}

/// The first as it is, then the differences.
fn put_positions(text: &mut Vec<u8>, positions: &[u64]) {
    put_varint(text, positions.len() as u64);
    let mut before = 0;
    for position in positions {
        put_varint(text, position - before);
        before = *position;
    }
}

fn read_positions(reader: &mut Reader) -> Result<Vec<u64>, Malformed> {
    let mut before = 0u64;
    (0..reader.varint()?)
        .map(|_| {
            before = before.checked_add(reader.varint()?).ok_or("a position is out of range")?;
            Ok(before)
        })
        .collect()
}

/// Positions with their ordinals.
type Numbered = Vec<(u64, u64)>;

impl Index {
    pub(crate) fn list(&self, mark: Mark) -> Result<Option<List>, Error> {
        self.get(&marked(HEAD, mark, &[]))?.map(|text| List::parse(text).map_err(damaged)).transpose()
    }

    /// The first `limit` entries, or the last, whose ordinal or position (as `order` says) lies in `low..=high`:
    /// ascending, or descending if `is_backward`.
    pub(crate) fn entries(
        &self,
        mark: Mark,
        order: Order,
        (low, high): (u64, u64),
        limit: usize,
        is_backward: bool,
    ) -> Result<Vec<u64>, Error> {
        let Some(list) = self.list(mark)? else {
            return Ok(Vec::new());
        };
        let first_in_tail = list.count - list.tail.len() as u64 + 1;
        let tail: Numbered = list.tail.iter().copied().zip(first_in_tail..).collect();
        let fits = |entry: &(u64, u64)| (low..=high).contains(&by(order, *entry));
        let mut found = Vec::new();
        if is_backward {
            found.extend(tail.iter().rev().filter(|entry| fits(entry)).map(|entry| entry.0).take(limit));
        }
        let mut chunks = self.chunks(mark, (low, high), is_backward);
        while first_in_tail > 1 && found.len() < limit {
            let Some(chunk) = chunks.next().transpose()? else { break };
            let fitting = chunk.iter().copied().filter(fits).map(|entry| entry.0);
            let missing = limit - found.len();
            if is_backward {
                found.extend(fitting.rev().take(missing));
            } else {
                found.extend(fitting.take(missing));
            }
        }
        if !is_backward {
            let missing = limit - found.len();
            found.extend(tail.iter().filter(|entry| fits(entry)).map(|entry| entry.0).take(missing));
        }
        Ok(found)
    }

    /// The chunks that may hold something of `low..=high`, in the direction of the read.
    fn chunks(
        &self,
        mark: Mark,
        (low, high): (u64, u64),
        is_backward: bool,
    ) -> impl Iterator<Item = Result<Numbered, Error>> {
        let start = marked(CHUNK, mark, &[]);
        // The chunk that `low` falls into begins at or before it.
        let entry = self
            .keyspace
            .range(start.clone()..=marked(CHUNK, mark, &low.to_be_bytes()))
            .next_back()
            .and_then(|item| item.key().ok())
            .map_or(start, |key| key.to_vec());
        let mut range = self.keyspace.range(entry..=marked(CHUNK, mark, &high.to_be_bytes()));
        std::iter::from_fn(move || if is_backward { range.next_back() } else { range.next() }).map(|item| {
            let value = item.value().map_err(errors::index)?;
            parse_chunk(Bytes::copy_from_slice(&value)).map_err(damaged)
        })
    }
}

fn by(order: Order, (position, ordinal): (u64, u64)) -> u64 {
    match order {
        Order::Ordinal => ordinal,
        Order::Position => position,
    }
}

fn parse_chunk(text: Bytes) -> Result<Numbered, Malformed> {
    let mut reader = Reader::new(text);
    let first = reader.varint()?;
    Ok(read_positions(&mut reader)?.into_iter().zip(first..).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_spills_once_and_keeps_its_last() {
        let mut list = List::default();
        assert!(list.extend([2, 4].into_iter(), Order::Position).is_empty());
        assert_eq!(List::parse(list.to_bytes().into()), Ok(list.clone()));
        let chunks = list.extend(5..=5_000, Order::Ordinal);
        assert_eq!((list.count, list.tail.as_slice()), (4_998, &[5_000][..]));
        assert_eq!(chunks.iter().map(|chunk| chunk.0).collect::<Vec<_>>(), [1, 2_049, 4_097]);
        let all: Vec<_> =
            chunks.into_iter().flat_map(|chunk| parse_chunk(chunk.1.into()).expect("our own")).collect();
        assert_eq!((all.first(), all.get(2)), (Some(&(2, 1)), Some(&(5, 3))));
        assert_eq!(all.last(), Some(&(4_999, 4_997)));
    }
}
