//! Keeps the flow index of a running application near the end of the log.
//!
//! It is no subscription: nothing waits for it, and it commits once for many thousand events, so that it costs the work of
//! the application next to nothing. Whoever asks reads what is stored and the rest of the log.

use std::sync::Arc;

use ensue_core::{Error, Position, Store};

use super::index::{Index, Reached};
use super::progress::Progress;
use crate::lane::STORE_PAUSE;
use crate::subscription::Shared;

/// Events between two saves, unless the application says otherwise.
pub(crate) const SAVE_EVERY: u64 = 16_384;
/// Events that are read at once, at most: so few that the store mostly has them in memory.
const READ_EVERY: u64 = 2_048;

/// Follows until the application closes, or the store fails for good. A short log is never written to.
pub(crate) async fn run(shared: Arc<Shared>, save_every: u64) {
    while let Err(error) = follow(&shared, save_every).await {
        // The subscriptions report a store that is broken; the index is made of what it still holds.
        if !error.is_retryable() {
            return;
        }
        tokio::select! {
            biased;
            () = shared.closed() => return,
            () = shared.press.host.clock.sleep(STORE_PAUSE) => {}
        }
    }
}

async fn follow(shared: &Shared, save_every: u64) -> Result<(), Error> {
    let store = &*shared.store;
    let (mut index, mut revision) = Index::take_up(store).await?;
    let mut saved_at = index.position;
    loop {
        let enough = Position(index.position.0 + save_every.min(READ_EVERY) - 1);
        let head = tokio::select! {
            biased;
            () = shared.closed() => return Ok(()),
            head = store.advanced(enough) => head?,
        };
        let reached = index.advance(store, head).await?;
        if reached == Reached::Target && index.position.0 - saved_at.0 < save_every {
            continue;
        }
        end_flows(&mut index, store).await?;
        match index.save(store, revision).await? {
            Some(saved) => revision = saved,
            // Another process has saved meanwhile: go on from what it has.
            None => (index, revision) = Index::take_up(store).await?,
        }
        saved_at = index.position;
    }
}

/// Lets go of the flows that are over by now.
pub(super) async fn end_flows(index: &mut Index, store: &dyn Store) -> Result<(), Error> {
    // Progress first: what is parked after it was read is not settled by it.
    let progress = Progress::load(store, index.catalogue()).await?;
    index.end(&progress.settlements(index.catalogue()), &progress.held());
    Ok(())
}
