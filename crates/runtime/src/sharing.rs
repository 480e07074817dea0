//! Several processes on one store: who they are, who is alive, and who should work on what.
//!
//! Membership decides who *should* work on a lane; the compare-and-set on the lane's checkpoint decides who *may* settle.
//! So a wrong view of the members costs time and never a second settlement.
//!
//! Each process has a record that it writes again and again. A process is dead when somebody has removed its record, which
//! is one compare-and-set and therefore one moment for everybody. It is removed by whoever has seen it unchanged for the
//! length of a lease by his own monotonic clock: wall clocks of two machines are never compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{Error, Record, RecordScan, Store, StoreExt, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::spaces::{self, MEMBER};

mod lanes;
mod membership;
mod needs;
mod view;

pub use lanes::{LaneStatus, lanes};
pub(crate) use membership::{Membership, Seat};
pub use needs::{Need, Reason, needs};
pub(crate) use view::View;

/// How processes that share a store keep track of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sharing {
    /// How often a process says that it is alive: one small commit each time.
    pub heartbeat: Duration,
    /// A process that has not been heard of for so long is dead; its work goes to the others. Also how long a process works
    /// on without reaching the store.
    pub lease: Duration,
    /// How often a process looks at the others while there are any: a small read each time. Alone it looks once a
    /// heartbeat.
    pub look: Duration,
}

impl Default for Sharing {
    /// A killed process is replaced within five seconds, one that shuts down within a tenth of one.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(3),
            look: Duration::from_millis(40),
        }
    }
}

/// A process, by a random number that it draws when it joins. Zero is nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(u64);

impl MemberId {
    /// No process.
    pub const NOBODY: Self = Self(0);

    /// A fresh one.
    pub(crate) fn draw(host: &ensue_core::Host) -> Self {
        Self(host.below(u64::MAX) + 1)
    }

    /// As it is stored in the key of its record.
    fn key(self) -> Bytes {
        self.to_string().into_bytes().into()
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A process that shares the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Which.
    pub id: MemberId,
    /// The name of its application.
    pub application: SmolStr,
    /// Since when it takes part.
    pub since: Timestamp,
    /// It is shutting down: it finishes what it has in hand and takes nothing more.
    pub is_leaving: bool,
    /// The subscriptions it mounts, with the number of lanes it wants.
    pub subscriptions: BTreeMap<SmolStr, u16>,
}

/// The processes that share the store, by id. One that was killed is listed until its lease is over.
pub async fn members(store: &dyn Store) -> Result<Vec<Member>, Error> {
    records(store).await?.iter().map(member_of).collect()
}

/// Whether a process is among those that share the store.
pub(crate) async fn is_member(store: &dyn Store, id: MemberId) -> Result<bool, Error> {
    Ok(store.record(MEMBER.clone(), id.key()).await?.is_some())
}

async fn records(store: &dyn Store) -> Result<Vec<Record>, Error> {
    store.records(RecordScan::all(MEMBER.clone())).await
}

fn member_of(record: &Record) -> Result<Member, Error> {
    spaces::decode("member", &record.value)
}
