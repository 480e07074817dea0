//! Checkpoints: how far each lane is, who has it, and one record that says how many lanes there are.

use bytes::Bytes;
use ensue_core::{
    Commit, CommitError, Error, Position, Record, RecordScan, RecordWrite, Revision, Store, StoreExt,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::sharing::MemberId;
use crate::spaces::{self, CHECKPOINT, HALTED};

/// How many lanes there are, and where all of them began.
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
    /// Who may settle. With the count it tells a settlement of ours whose reply was lost from one by another process that
    /// did the same work.
    #[serde(default)]
    pub(crate) owner: MemberId,
    /// How often the lane has changed hands.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// Since when the owner has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

impl Mark {
    /// The same place in the hands of another.
    pub(crate) fn taken_by(self, owner: MemberId, now: Timestamp) -> Self {
        Self { owner, epoch: self.epoch + 1, since: Some(now), ..self }
    }

    /// The same place, free for anybody.
    pub(crate) fn released(self) -> Self {
        Self { owner: MemberId::NOBODY, since: None, settlements: self.settlements + 1, ..self }
    }
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
        // One scan for the record of the subscription and those of its lanes, so that they belong together.
        let until = spaces::within(&[name]).iter().copied().chain([u8::MAX]).collect::<Vec<u8>>();
        let all = RecordScan {
            from: spaces::join(&[name]),
            until: Some(until.into()),
            ..RecordScan::all(CHECKPOINT.clone())
        };
        let mut records = store.records(all).await?.into_iter().peekable();
        let head = records.next_if(|record| record.key.len() == name.len());
        let floor_revision = head.as_ref().map(|record| record.revision).unwrap_or_default();
        let floor: Option<Floor> =
            head.map(|record| spaces::decode("checkpoint", &record.value)).transpose()?;
        let count = floor.as_ref().map_or(0, |floor| floor.lanes);
        let mut lanes = vec![(Mark::default(), Revision::ZERO); usize::from(count)];
        for record in records {
            let mark = mark_of(&record)?;
            let digits = record.key.get(name.len() + 1..).unwrap_or_default();
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            if let Some(lane) = number.and_then(|number: usize| lanes.get_mut(number)) {
                *lane = (mark, record.revision);
            }
        }
        Ok(Self { name: name.clone(), floor, floor_revision, lanes })
    }

    pub(crate) fn has_run(&self) -> bool {
        self.floor.is_some()
    }

    /// Everything up to here is settled in every lane.
    pub(crate) fn floor(&self) -> Position {
        self.settled().into_iter().min().unwrap_or_default()
    }

    /// Where all lanes began.
    fn beginning(&self) -> Position {
        self.floor.as_ref().map(|floor| floor.position).unwrap_or_default()
    }

    pub(crate) fn lane_count(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    /// What each lane has settled.
    pub(crate) fn settled(&self) -> Vec<Position> {
        self.lanes.iter().map(|(mark, _)| mark.position.max(self.beginning())).collect()
    }

    /// What this lane begins with: its mark, not before the floor, and the revision that fences it.
    pub(crate) fn lane(&self, lane: u16) -> (Mark, Revision) {
        let (mark, revision) = self.lanes.get(usize::from(lane)).copied().unwrap_or_default();
        (Mark { position: mark.position.max(self.beginning()), ..mark }, revision)
    }

    /// Whether this process has every lane.
    pub(crate) fn are_all_of(&self, owner: MemberId) -> bool {
        self.lanes.iter().all(|(mark, _)| mark.owner == owner)
    }

    /// Writes a new owner into the records of these lanes, and forgets that one of them had stopped. Nothing is returned if
    /// somebody else was faster with one of them. From then on nobody else can settle there.
    pub(crate) async fn take(
        &self,
        store: &dyn Store,
        lanes: &[u16],
        owner: MemberId,
        now: Timestamp,
    ) -> Result<Vec<(u16, Mark, Revision)>, Error> {
        let marks = lanes.iter().map(|lane| (*lane, self.lane(*lane)));
        let taken: Vec<(u16, Mark, Revision)> =
            marks.map(|(lane, (mark, revision))| (lane, mark.taken_by(owner, now), revision)).collect();
        let mut records = Vec::new();
        for (lane, mark, revision) in &taken {
            let key = lane_key(&self.name, *lane);
            records.push(RecordWrite::delete(HALTED.clone(), key.clone()));
            records.push(move_lane(key, *mark, *revision));
        }
        match store.commit(Commit { records, ..Commit::default() }).await {
            Ok(committed) => {
                Ok(taken.into_iter().map(|(lane, mark, _)| (lane, mark, committed.revision)).collect())
            }
            Err(CommitError::RecordConflict { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins anew with this many lanes, all at one position, if nobody has touched one of the old ones since these
    /// checkpoints were loaded. Every lane gets a record, so that a process that still works with other lanes finds a
    /// revision it does not expect, in whatever lane.
    pub(crate) async fn restart(self, store: &dyn Store, lanes: u16, at: Position) -> Result<Self, Error> {
        let epoch = self.lanes.iter().map(|(mark, _)| mark.epoch).max().unwrap_or_default();
        let mark = Mark { position: at, epoch, ..Mark::default() };
        let records = (0..self.lane_count().max(lanes)).map(|lane| {
            let key = lane_key(&self.name, lane);
            let (_, revision) = self.lane(lane);
            if lane < lanes {
                move_lane(key, mark, revision)
            } else {
                RecordWrite::delete(CHECKPOINT.clone(), key).expect(revision)
            }
        });
        let mut records: Vec<RecordWrite> = records.collect();
        records.push(self.floor_write(&Floor { position: at, lanes }));
        match store.commit(Commit { records, ..Commit::default() }).await {
            // Another process was faster: what it wrote holds.
            Ok(_) | Err(CommitError::RecordConflict { .. }) => Self::load(store, &self.name).await,
            Err(error) => Err(error.into()),
        }
    }

    fn floor_write(&self, floor: &Floor) -> RecordWrite {
        RecordWrite::put(CHECKPOINT.clone(), spaces::join(&[&self.name]), spaces::encode(floor))
            .expect(self.floor_revision)
    }
}
