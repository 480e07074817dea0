//! Every lane of a store as its checkpoint has it: how far it is and who has it. For operators.

use std::collections::HashMap;

use bytes::Bytes;
use ensue_core::{Error, Position, RecordScan, Store, StoreExt, Timestamp};
use serde::Serialize;
use smol_str::SmolStr;

use super::MemberId;
use crate::dead::Halted;
use crate::spaces::CHECKPOINT;
use crate::subscription::{lane_key, mark_of};

/// Where a lane stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LaneStatus {
    /// Whose lane.
    pub subscription: SmolStr,
    /// Which.
    pub lane: u16,
    /// Every event of the lane up to here is settled.
    pub position: Position,
    /// How many settlements there were.
    pub settlements: u64,
    /// Who may settle; `None` if nobody has it.
    pub owner: Option<MemberId>,
    /// How often it has changed hands.
    pub epoch: u64,
    /// Since when the owner has it.
    pub since: Option<Timestamp>,
    /// Why it has stopped: code and reason.
    pub halted: Option<(String, String)>,
}

/// Every lane of the store, by subscription and number.
pub async fn lanes(store: &dyn Store) -> Result<Vec<LaneStatus>, Error> {
    let halted = crate::dead::halted(store).await?.into_iter();
    let mut halted: HashMap<Bytes, Halted> =
        halted.map(|halted| (lane_key(&halted.handler, halted.lane), halted)).collect();
    let mut lanes = Vec::new();
    for record in store.records(RecordScan::all(CHECKPOINT.clone())).await? {
        // The record of a subscription as a whole is under the name alone.
        let Some((subscription, lane)) = parts(&record.key) else { continue };
        let mark = mark_of(&record)?;
        lanes.push(LaneStatus {
            subscription,
            lane,
            position: mark.position,
            settlements: mark.settlements,
            owner: Some(mark.owner).filter(|owner| *owner != MemberId::NOBODY),
            epoch: mark.epoch,
            since: mark.since,
            halted: halted.remove(&record.key).map(|halted| (halted.code, halted.reason)),
        });
    }
    Ok(lanes)
}

fn parts(key: &[u8]) -> Option<(SmolStr, u16)> {
    let (name, lane) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some((name.into(), lane.parse().ok()?))
}
