//! One at a time under one id among the processes that share a store: whoever handles a command holds a claim to its id,
//! and the commit of the answer ends it. A claim that was taken away refuses that commit, so one answer stands.
//!
//! A claim whose holder is no longer among the members is taken over. One that was dropped without an answer is let go of
//! by a task of its own; if that is lost too, it lapses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{Commit, CommitError, Error, RecordWrite, Revision, Store, StoreExt};

use super::lapse;
use crate::sharing::{MemberId, is_member};
use crate::spaces::{self, CLAIM};
use crate::subscription::Shared;

/// The right to handle the command of an id.
pub(crate) struct Claim {
    store: Arc<dyn Store>,
    id: Bytes,
    /// Of its record; `None` once it has ended.
    revision: Option<Revision>,
}

impl Claim {
    /// Takes it, for at most so long. `None`: another process has it, and is alive.
    ///
    /// The caller holds the turn of the id, so a claim of this process is one that was left behind.
    pub(crate) async fn take(shared: &Shared, id: &Bytes, at_most: Duration) -> Result<Option<Self>, Error> {
        let (store, me) = (Arc::clone(&shared.store), shared.view.borrow().me);
        let found = store.record(CLAIM.clone(), id.clone()).await?;
        if let Some(record) = &found {
            let holder: MemberId = spaces::decode("claim", &record.value)?;
            if holder != me && is_member(&*store, holder).await? {
                return Ok(None);
            }
        }
        let expected = found.map_or(Revision::ZERO, |record| record.revision);
        let write = RecordWrite::put(CLAIM.clone(), id.clone(), spaces::encode(&me))
            .expect(expected)
            .expires_at(lapse(shared.press.host.clock.now(), at_most));
        match store.commit(Commit { records: vec![write], ..Commit::default() }).await {
            Ok(committed) => Ok(Some(Self { store, id: id.clone(), revision: Some(committed.revision) })),
            Err(CommitError::RecordConflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The write that ends it, for the commit of the answer, which it refuses if the claim was taken away.
    pub(crate) fn end(&self) -> Option<RecordWrite> {
        let revision = self.revision?;
        Some(RecordWrite::delete(CLAIM.clone(), self.id.clone()).expect(revision))
    }

    /// The commit of the answer was taken.
    pub(crate) fn ended(mut self) {
        self.revision = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (Some(write), Ok(runtime)) = (self.end(), tokio::runtime::Handle::try_current()) else { return };
        let store = Arc::clone(&self.store);
        runtime.spawn(async move {
            // If it was taken away or the store is gone, there is nothing to let go of, or it lapses.
            let _let_go = store.commit(Commit { records: vec![write], ..Commit::default() }).await.is_ok();
        });
    }
}
