//! Ids of parked events. The door remembers them for as long as a letter of theirs lives, whatever the window: what is
//! repeated while the original waits must not come in a second time. When the last letter goes, the window begins anew.

use ensue_core::{Change, Error, EventId, RecordWrite, Source, Store, StoreExt, Timestamp};

use super::Earlier;
use crate::spaces::{self, INBOX};

/// The write that keeps an id remembered while `handler` has its event parked; none if the door does not know it.
pub(crate) async fn hold(
    store: &dyn Store,
    source: &Source,
    id: &EventId,
    handler: &str,
) -> Result<Option<RecordWrite>, Error> {
    change(store, source, id, |earlier| {
        if !earlier.held_by.iter().any(|holder| holder == handler) {
            earlier.held_by.push(handler.into());
        }
        None
    })
    .await
}

/// The write that lets an id go again: it lapses at `lapses_at`, unless another handler has the event parked too.
pub(crate) async fn let_go(
    store: &dyn Store,
    source: &Source,
    id: &EventId,
    handler: &str,
    lapses_at: Timestamp,
) -> Result<Option<RecordWrite>, Error> {
    change(store, source, id, |earlier| {
        earlier.held_by.retain(|holder| holder != handler);
        earlier.held_by.is_empty().then_some(lapses_at)
    })
    .await
}

async fn change(
    store: &dyn Store,
    source: &Source,
    id: &EventId,
    change: impl FnOnce(&mut Earlier) -> Option<Timestamp>,
) -> Result<Option<RecordWrite>, Error> {
    let place = super::inbox_key(source, id);
    let Some(record) = store.record(INBOX.clone(), place).await? else { return Ok(None) };
    let mut earlier: Earlier = spaces::decode("inbox", &record.value)?;
    let expires_at = change(&mut earlier);
    let change = Change::Put { value: spaces::encode(&earlier), expires_at };
    Ok(Some(RecordWrite { space: INBOX.clone(), key: record.key, change, expected: Some(record.revision) }))
}
