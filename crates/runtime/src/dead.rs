//! Dead letters: events that a handler could not process, parked with everything behind them of the same key.
//!
//! A letter names its event by position; the event itself stays where it is, in the log.

use std::collections::HashMap;

use ensue_core::{
    Commit, Error, Position, Record, RecordScan, RecordWrite, Revision, Store, StoreExt, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::catalogue::Catalogue;
use crate::spaces::{self, DEAD, HALTED, REDRIVE};
use crate::subscription::Subscription;

mod discard;
mod edit;
mod group;
mod letter;
mod letters;
mod outlived;
mod paced;
mod redrive;
mod which;
pub use discard::{Discarded, discarded};
pub(crate) use edit::{EDITED, delivered};
pub use edit::{Edit, edits};
pub use group::{Group, GroupId, groups};
pub use letter::{DeadLetter, Parked};
pub use letters::{DeadLetters, Requested};
pub use outlived::{Outlived, outlived};
pub use paced::pace;
pub(crate) use paced::take_turn;
pub(crate) use redrive::front;
pub use redrive::{Redrive, RedriveState, redrives};
pub use which::{Planned, Which, plan};

/// A lane that has stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Halted {
    /// Whose.
    pub handler: SmolStr,
    /// Which.
    pub lane: u16,
    /// Why: the code.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Every dead letter of the store, by handler, key and position.
pub async fn list(store: &dyn Store) -> Result<Vec<DeadLetter>, Error> {
    Ok(waiting_keys(store)
        .await?
        .into_iter()
        .filter(|letters| !is_due_by_itself(letters))
        .flatten()
        .collect())
}

/// Every delivery that is deferred, with what waits behind it, by handler, key and position.
pub async fn deferred(store: &dyn Store) -> Result<Vec<DeadLetter>, Error> {
    Ok(waiting_keys(store).await?.into_iter().filter(|letters| is_due_by_itself(letters)).flatten().collect())
}

/// Whether what a key waits for is a time, not an operator.
fn is_due_by_itself(letters: &[DeadLetter]) -> bool {
    letters.first().is_some_and(|letter| letter.parked.until.is_some())
}

/// Whether the event at this position is set aside for a time.
pub(crate) async fn is_deferred(
    store: &dyn Store,
    handler: &str,
    key: &str,
    position: Position,
) -> Result<bool, Error> {
    let letter = store.record(DEAD.clone(), spaces::at_position(&[handler, key], position)).await?;
    let letter: Option<Parked> =
        letter.map(|record| spaces::decode("dead letter", &record.value)).transpose()?;
    Ok(letter.is_some_and(|letter| letter.until.is_some()))
}

/// What waits, dead or deferred, in one piece for each key.
async fn waiting_keys(store: &dyn Store) -> Result<Vec<Vec<DeadLetter>>, Error> {
    let letters = letters(store).await?;
    let same_key = |one: &DeadLetter, other: &DeadLetter| {
        (&one.handler, &one.parked.key) == (&other.handler, &other.parked.key)
    };
    Ok(letters.chunk_by(same_key).map(<[DeadLetter]>::to_vec).collect())
}

/// Everything that waits, dead or deferred.
pub(crate) async fn letters(store: &dyn Store) -> Result<Vec<DeadLetter>, Error> {
    let records = store.records(RecordScan::all(DEAD.clone())).await?;
    let catalogue = if records.is_empty() { Catalogue::default() } else { Catalogue::merged(store).await? };
    let letter = |record: &Record| {
        let (handler, parked) = (handler_of(&record.key), spaces::decode("dead letter", &record.value)?);
        let owner = catalogue.owner_of(&handler).map(SmolStr::from);
        Ok(DeadLetter { handler, owner, parked, revision: record.revision })
    };
    records.iter().map(letter).collect()
}

/// Every lane that has stopped.
pub async fn halted(store: &dyn Store) -> Result<Vec<Halted>, Error> {
    let records = store.records(RecordScan::all(HALTED.clone())).await?;
    records.iter().map(|record| spaces::decode("halted lane", &record.value)).collect()
}

/// How many letters a key holds.
pub(crate) async fn count(store: &dyn Store, handler: &str, key: &str) -> Result<usize, Error> {
    let records = store.records(RecordScan::prefix(DEAD.clone(), spaces::within(&[handler, key]))).await?;
    Ok(records.len())
}

/// The keys that are parked, with how many letters each.
pub(crate) async fn parked_keys(store: &dyn Store, handler: &str) -> Result<HashMap<SmolStr, usize>, Error> {
    let records = store.records(RecordScan::prefix(DEAD.clone(), spaces::within(&[handler]))).await?;
    let mut keys = HashMap::new();
    for record in records {
        let letter: Parked = spaces::decode("dead letter", &record.value)?;
        *keys.entry(letter.key).or_default() += 1;
    }
    Ok(keys)
}

/// Keys for which somebody asked for a redrive, each with the revision of the request.
pub(crate) async fn requested(store: &dyn Store, handler: &str) -> Result<Vec<(SmolStr, Revision)>, Error> {
    let prefix = spaces::within(&[handler]);
    let records = store.records(RecordScan::prefix(REDRIVE.clone(), prefix.clone())).await?;
    let request = |record: &Record| {
        let key = String::from_utf8_lossy(record.key.get(prefix.len()..)?).into_owned();
        Some((SmolStr::from(key), record.revision))
    };
    Ok(records.iter().filter_map(request).collect())
}

/// Remembers that a lane has stopped, as well as the store still can.
pub(crate) async fn record_halt(subscription: &Subscription, lane: u16, error: &Error) {
    let halted = Halted {
        handler: subscription.name.clone(),
        lane,
        code: error.code().to_string(),
        reason: error.message().to_owned(),
        since: subscription.shared.press.host.clock.now(),
    };
    let key = crate::subscription::lane_key(&subscription.name, lane);
    let record = RecordWrite::put(HALTED.clone(), key, spaces::encode(&halted));
    // When the store itself is what failed, the running application still shows the halt.
    let _stored =
        subscription.shared.store.commit(Commit { records: vec![record], ..Commit::default() }).await.is_ok();
}

/// Forgets earlier halts of a handler: it is about to try again.
pub(crate) async fn clear_halts(store: &dyn Store, handler: &str) -> Result<(), Error> {
    let records = store.records(RecordScan::prefix(HALTED.clone(), spaces::within(&[handler]))).await?;
    forget(store, records).await
}

/// Forgets that these lanes had stopped: they are about to go on.
pub(crate) async fn clear_halts_of(store: &dyn Store, handler: &str, lanes: &[u16]) -> Result<(), Error> {
    let mut records = store.records(RecordScan::prefix(HALTED.clone(), spaces::within(&[handler]))).await?;
    let keys: Vec<_> = lanes.iter().map(|lane| crate::subscription::lane_key(handler, *lane)).collect();
    records.retain(|record| keys.contains(&record.key));
    forget(store, records).await
}

async fn forget(store: &dyn Store, records: Vec<Record>) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    let records = records.into_iter().map(|record| RecordWrite::delete(HALTED.clone(), record.key)).collect();
    store.commit(Commit { records, ..Commit::default() }).await?;
    Ok(())
}

/// The first part of a key.
pub(crate) fn handler_of(key: &[u8]) -> SmolStr {
    let first = key.split(|byte| *byte == 0).next().unwrap_or_default();
    SmolStr::from(String::from_utf8_lossy(first))
}
