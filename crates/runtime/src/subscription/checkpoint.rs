//! Checkpoints: how far each lane is, and one floor for the whole subscription so that an idle lane costs no re-reading.

use bytes::Bytes;
use ensue_core::{
    Commit, CommitError, Error, Position, Record, RecordScan, RecordWrite, Revision, Store, StoreExt,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::spaces::{self, CHECKPOINT};
use crate::tally::Tally;

/// The floor: everything up to here is settled in every lane.
#[derive(Serialize, Deserialize)]
struct Floor {
    position: Position,
    lanes: u16,
}

/// One lane: everything of this lane up to here is settled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    /// How many settlements there were.
    pub(crate) settlements: u64,
    /// Drawn by the lane when it began. With the count it tells a settlement of ours whose reply was lost from one by
    /// another process that did the same work.
    #[serde(default)]
    pub(crate) owner: u64,
    /// What the lane of a read model has taken and keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tally: Option<Tally>,
}

/// The stored progress of one subscription.
pub(crate) struct Checkpoints {
    name: SmolStr,
    floor: Option<Floor>,
    /// Fences the floor: the number of lanes must not be changed by a process that does not know of it.
    floor_revision: Revision,
    lanes: Vec<(Mark, Revision)>,
}

/// The record of one lane.
pub(crate) fn lane_key(name: &str, lane: u16) -> Bytes {
    spaces::join(&[name, &format!("{lane:05}")])
}

/// The write that moves a lane on.
pub(crate) fn move_lane(key: Bytes, to: Mark, expected: Revision) -> RecordWrite {
    RecordWrite::put(CHECKPOINT.clone(), key, spaces::encode(&to)).expect(expected)
}

/// What a lane's record says.
pub(crate) fn mark_of(record: &Record) -> Result<Mark, Error> {
    spaces::decode("checkpoint", &record.value)
}

impl Checkpoints {
    pub(crate) async fn load(store: &dyn Store, name: &SmolStr) -> Result<Self, Error> {
        let floor = store.record(CHECKPOINT.clone(), spaces::join(&[name])).await?;
        let floor_revision = floor.as_ref().map(|record| record.revision).unwrap_or_default();
        let floor: Option<Floor> =
            floor.map(|record| spaces::decode("checkpoint", &record.value)).transpose()?;
        let count = floor.as_ref().map_or(0, |floor| floor.lanes);
        let mut lanes = vec![(Mark::default(), Revision::ZERO); usize::from(count)];
        for record in store.records(RecordScan::prefix(CHECKPOINT.clone(), spaces::within(&[name]))).await? {
            let mark = mark_of(&record)?;
            let number = record
                .key
                .get(name.len() + 1..)
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            if let Some(lane) = number.and_then(|number: usize| lanes.get_mut(number)) {
                *lane = (mark, record.revision);
            }
        }
        Ok(Self { name: name.clone(), floor, floor_revision, lanes })
    }

    pub(crate) fn has_run(&self) -> bool {
        self.floor.is_some()
    }

    pub(crate) fn floor(&self) -> Position {
        self.floor.as_ref().map(|floor| floor.position).unwrap_or_default()
    }

    pub(crate) fn lane_count(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    /// What each lane has settled.
    pub(crate) fn settled(&self) -> Vec<Position> {
        self.lanes.iter().map(|(mark, _)| mark.position.max(self.floor())).collect()
    }

    /// What this lane begins with: its mark, not before the floor, and the revision that fences it.
    pub(crate) fn lane(&self, lane: u16) -> (Mark, Revision) {
        let (mark, revision) = self.lanes.get(usize::from(lane)).copied().unwrap_or_default();
        (Mark { position: mark.position.max(self.floor()), ..mark }, revision)
    }

    /// The furthest position any lane has settled.
    pub(crate) fn furthest(&self) -> Position {
        self.settled().into_iter().max().unwrap_or_default()
    }

    /// Begins anew with this many lanes, all at one position. Every lane gets a record, so that a process that still works
    /// with other lanes finds a revision it does not expect, in whatever lane.
    pub(crate) async fn restart(self, store: &dyn Store, lanes: u16, at: Position) -> Result<Self, Error> {
        let documents = self.lanes.iter().filter_map(|(mark, _)| mark.tally).reduce(Tally::and);
        let mark = |lane| {
            // What there is of documents is counted with the first lane.
            let tally = documents.filter(|_| lane == 0).map(|documents| documents.documents_from(at));
            Mark { position: at, tally, ..Mark::default() }
        };
        let mut records: Vec<RecordWrite> = (lanes..self.lane_count().max(lanes))
            .map(|lane| RecordWrite::delete(CHECKPOINT.clone(), lane_key(&self.name, lane)))
            .collect();
        let begin = |lane| {
            let value = spaces::encode(&mark(lane));
            RecordWrite::put(CHECKPOINT.clone(), lane_key(&self.name, lane), value)
        };
        records.extend((0..lanes).map(begin));
        records.push(self.floor_write(&Floor { position: at, lanes }));
        match store.commit(Commit { records, ..Commit::default() }).await {
            // Another process began at the same moment: what it wrote holds.
            Ok(_) | Err(CommitError::RecordConflict { .. }) => Self::load(store, &self.name).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The writes that put every lane at one position, with these tallies, unless one of them has moved meanwhile.
    pub(crate) fn moved(&self, at: Position, tallies: &[Tally]) -> Vec<RecordWrite> {
        let lanes = u16::try_from(tallies.len()).unwrap_or(u16::MAX);
        let move_one = |lane| {
            let ((mark, revision), key) = (self.lane(lane), lane_key(&self.name, lane));
            match tallies.get(usize::from(lane)) {
                Some(tally) => {
                    let settlements = mark.settlements + 1;
                    let moved = Mark { position: at, settlements, tally: Some(*tally), ..mark };
                    move_lane(key, moved, revision)
                }
                None => RecordWrite::delete(CHECKPOINT.clone(), key).expect(revision),
            }
        };
        let mut writes: Vec<RecordWrite> = (0..self.lane_count().max(lanes)).map(move_one).collect();
        writes.push(self.floor_write(&Floor { position: at, lanes }));
        writes
    }

    fn floor_write(&self, floor: &Floor) -> RecordWrite {
        RecordWrite::put(CHECKPOINT.clone(), spaces::join(&[&self.name]), spaces::encode(floor))
            .expect(self.floor_revision)
    }

    /// Stores the floor; never goes back. It saves reading at the next start and nothing hangs on it, so a store that is
    /// away for a moment is no error. Another process that has made other lanes is one: `E0203`.
    pub(crate) async fn write_floor(&mut self, store: &dyn Store, position: Position) -> Result<(), Error> {
        if position <= self.floor() {
            return Ok(());
        }
        let floor = Floor { position, lanes: self.lane_count() };
        let commit = Commit { records: vec![self.floor_write(&floor)], ..Commit::default() };
        match store.commit(commit).await {
            Ok(committed) => {
                (self.floor, self.floor_revision) = (Some(floor), committed.revision);
                Ok(())
            }
            Err(CommitError::RecordConflict { .. }) => self.catch_up(store).await,
            Err(error) => Some(Error::from(error)).filter(|error| !error.is_retryable()).map_or(Ok(()), Err),
        }
    }

    /// Another process wrote the floor, or we did without hearing of it.
    async fn catch_up(&mut self, store: &dyn Store) -> Result<(), Error> {
        let stored = Self::load(store, &self.name).await?;
        if stored.lane_count() != self.lane_count() {
            return Err(super::fenced(&self.name, 0));
        }
        (self.floor, self.floor_revision) = (stored.floor, stored.floor_revision);
        Ok(())
    }
}
