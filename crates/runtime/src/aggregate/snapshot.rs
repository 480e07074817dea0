//! Snapshots: the state of an aggregate kept beside its stream, so that a load reads only what has come since.
//!
//! A snapshot is a shortcut and never the truth: one that does not fit is ignored, with the reason, and the events are
//! folded from the first.

use std::sync::Mutex;

use ensue_core::{Aggregate, Error, RecordWrite, Store, StoreExt, StreamName, Version};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::progress::lock;
use crate::spaces::{self, SNAPSHOT};
use crate::tally;

/// What a load has made of the snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotUse {
    /// There is none.
    Absent,
    /// The state comes from it, as of this version; the events after it were folded.
    From(Version),
    /// It was ignored, for this reason; all events were folded.
    Ignored(String),
}

/// A snapshot as it is kept, whatever the type of its state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Kept {
    /// Which version of the stream it is the state of; zero if it cannot be read.
    pub version: Version,
    /// Which [`Aggregate::SNAPSHOT_VERSION`] wrote it; zero if it cannot be read.
    pub shape: u32,
    /// Its size.
    pub bytes: usize,
    /// Why nobody can use it.
    pub damage: Option<String>,
}

/// What the commands of an application have made of snapshots since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct SnapshotCounts {
    /// Loads that began with one.
    pub used: u64,
    /// Loads of aggregates that keep snapshots and had none yet.
    pub absent: u64,
    /// Loads that had to ignore one.
    pub ignored: u64,
    /// The stream whose snapshot was ignored last, and why.
    pub last_ignored: Option<(StreamName, String)>,
}

/// Counts what becomes of snapshots.
#[derive(Default)]
pub(crate) struct SnapshotLog(Mutex<SnapshotCounts>);

impl SnapshotLog {
    pub(crate) fn note(&self, stream: &StreamName, snapshot: &SnapshotUse) {
        let mut counts = lock(&self.0);
        match snapshot {
            SnapshotUse::Absent => counts.absent += 1,
            SnapshotUse::From(_) => counts.used += 1,
            SnapshotUse::Ignored(reason) => {
                counts.ignored += 1;
                counts.last_ignored = Some((stream.clone(), reason.clone()));
            }
        }
    }

    pub(crate) fn counts(&self) -> SnapshotCounts {
        lock(&self.0).clone()
    }
}

/// A stored state. One for each stream, always the newest.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: Version,
    shape: u32,
    /// Over version, shape and state: damage is noticed, also where it leaves valid JSON.
    sum: u64,
    state: Box<RawValue>,
}

impl Stored {
    /// Reads it, or says why it cannot be used by anybody.
    fn read(value: &[u8]) -> Result<Self, String> {
        let stored: Self =
            serde_json::from_slice(value).map_err(|cause| format!("it cannot be read: {cause}"))?;
        if stored.sum != sum(stored.version, stored.shape, &stored.state) {
            return Err("it is damaged: its sum does not fit".to_owned());
        }
        Ok(stored)
    }
}

fn sum(version: Version, shape: u32, state: &RawValue) -> u64 {
    let head = [version.0.to_be_bytes(), u64::from(shape).to_be_bytes()].concat();
    tally::hash(&head, state.get().as_bytes())
}

/// The write that keeps a state.
pub(super) fn write<A: Aggregate>(stream: &StreamName, version: Version, state: &A) -> RecordWrite {
    let state = serde_json::value::to_raw_value(state).expect("the state of an aggregate encodes");
    let shape = A::SNAPSHOT_VERSION;
    let stored = Stored { version, shape, sum: sum(version, shape, &state), state };
    RecordWrite::put(SNAPSHOT.clone(), stream.to_string(), spaces::encode(&stored))
}

/// The state in a snapshot, brought to the newest shape; or why it does not serve.
pub(super) fn read<A: Aggregate>(value: &[u8]) -> Result<(A, Version), String> {
    let Stored { version, shape, state, .. } = Stored::read(value)?;
    let unfit = |cause: serde_json::Error| format!("its state does not fit: {cause}");
    if shape > A::SNAPSHOT_VERSION {
        return Err(format!("it has shape {shape}, newer than {}", A::SNAPSHOT_VERSION));
    }
    if shape == A::SNAPSHOT_VERSION {
        return Ok((serde_json::from_str(state.get()).map_err(unfit)?, version));
    }
    let mut body = serde_json::from_str(state.get()).map_err(unfit)?;
    for from in shape..A::SNAPSHOT_VERSION {
        body = A::upcast_state(from, body)
            .ok_or_else(|| format!("it has shape {shape}, and nothing makes of {from} the next"))?;
    }
    Ok((A::deserialize(body).map_err(unfit)?, version))
}

/// The snapshot of a stream, for people and tools that do not know the type of its state; `None` if there is none.
pub async fn kept(store: &dyn Store, stream: &StreamName) -> Result<Option<Kept>, Error> {
    let record = store.record(SNAPSHOT.clone(), stream.to_string()).await?;
    Ok(record.map(|record| {
        let bytes = record.value.len();
        match Stored::read(&record.value) {
            Ok(Stored { version, shape, .. }) => Kept { version, shape, bytes, damage: None },
            Err(reason) => Kept { version: Version::ZERO, shape: 0, bytes, damage: Some(reason) },
        }
    }))
}
