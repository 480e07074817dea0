//! Letters that were given up: kept aside with who did it, when and why.

use ensue_core::{Error, RecordScan, RecordWrite, Store, StoreExt, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{DeadLetter, Parked};
use crate::spaces::{self, DISCARDED};

/// A letter that was given up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discarded {
    /// The handler that has not processed it and never will.
    pub handler: SmolStr,
    /// Why it was given up.
    pub discard_reason: String,
    /// By whom.
    pub discarded_by: SmolStr,
    /// When.
    pub discarded_at: Timestamp,
    /// The letter as it was.
    #[serde(flatten)]
    pub parked: Parked,
}

impl Discarded {
    pub(super) fn new(letter: DeadLetter, by: SmolStr, at: Timestamp, reason: &str) -> Self {
        Self {
            handler: letter.handler,
            discard_reason: reason.to_owned(),
            discarded_by: by,
            discarded_at: at,
            parked: letter.parked,
        }
    }

    pub(super) fn write(&self) -> RecordWrite {
        let place = self.parked.place(&self.handler);
        RecordWrite::put(DISCARDED.clone(), place, spaces::encode(self))
    }
}

/// Every letter that was given up, by handler, key and position.
pub async fn discarded(store: &dyn Store) -> Result<Vec<Discarded>, Error> {
    let records = store.records(RecordScan::all(DISCARDED.clone())).await?;
    records.iter().map(|record| spaces::decode("discarded letter", &record.value)).collect()
}
