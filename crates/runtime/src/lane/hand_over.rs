//! How a lane ends: told to, because another process should have it; without being asked, because another has it; or by
//! itself, because it cannot go on.

use ensue_core::{Code, Commit, Error, StoreExt};

use super::{CHECKPOINT, Halt, Lane, STORE_PAUSE, dead, mark_of, move_lane};

/// How often a lane tries to set itself free while the store is away; then its lease has to run out.
const RELEASE_ATTEMPTS: u32 = 20;

impl Lane {
    /// Resolves when the application closes or another process should have the lane.
    pub(super) async fn told_to_end(&self) {
        let mut leaving = self.leaving.clone();
        tokio::select! {
            biased;
            () = self.subscription.shared.closed() => {}
            // A sender that is gone tells nothing: the lane has been handed all it will get, and works that off.
            Ok(_) = leaving.wait_for(|leaving| *leaving) => {}
        }
    }

    /// Resolves when a lane that has stopped is of no use any more: it is told to end, or nobody hands it anything.
    async fn dismissed(&self) {
        let mut leaving = self.leaving.clone();
        tokio::select! {
            biased;
            () = self.subscription.shared.closed() => {}
            _told_or_gone = leaving.wait_for(|leaving| *leaving) => {}
        }
    }

    pub(super) fn is_told_to_end(&self) -> bool {
        *self.subscription.shared.closing.borrow() || *self.leaving.borrow()
    }

    /// Another process has the lane: where that can be, it is nothing to stop for.
    pub(super) fn taken_over(&self) -> Halt {
        if self.subscription.shared.is_shared() {
            return Halt::Lost;
        }
        let (number, name) = (self.number, &self.subscription.name);
        let error = Error::new(
            Code::STALE_RECORD,
            format!("lane {number} of {name} was taken over by another process"),
        );
        Halt::Broken(error.with_fix("nothing to do: the other process goes on from the checkpoint"))
    }

    /// Shows that the lane has stopped, and stays so until somebody takes it again: another process that should have it, or
    /// this one, when room was made for more dead letters.
    pub(super) async fn halt(&self, error: Error) {
        let is_full = error.code() == Code::DEAD_FULL;
        if is_full && self.is_room_asked_for().await {
            return;
        }
        // A lane that was taken over goes on elsewhere: nothing for operators to do.
        if error.code() != Code::STALE_RECORD {
            dead::record_halt(&self.subscription, self.number, &error).await;
        }
        self.subscription.standing.halt_lane(usize::from(self.number), error);
        // A request that came before we were known to have stopped was sent to a queue that nobody reads any more.
        if is_full && self.is_room_asked_for().await {
            return;
        }
        self.dismissed().await;
    }

    /// Whether a request waits for one of our keys: it is worked off first by whoever takes the lane, and may make room.
    async fn is_room_asked_for(&self) -> bool {
        let (store, name) = (&*self.subscription.shared.store, &self.subscription.name);
        let requested = self.until_read(|| dead::requested(store, name)).await;
        requested.is_ok_and(|requested| requested.iter().any(|(key, _)| self.parked.contains_key(key)))
    }

    /// Sets the lane free, so that another process goes on with it at once.
    pub(super) async fn release(&self) {
        let shared = &self.subscription.shared;
        if !self.is_told_to_end() || !shared.is_shared() {
            return;
        }
        for _ in 0..RELEASE_ATTEMPTS {
            match self.set_free().await {
                Err(error) if error.is_retryable() => shared.press.host.clock.sleep(STORE_PAUSE).await,
                // Free, or somebody else's already.
                _ => return,
            }
        }
    }

    /// The record is read once more, because our last settlement may have been taken without our hearing of it.
    async fn set_free(&self) -> Result<(), Error> {
        let store = &self.subscription.shared.store;
        let Some(record) = store.record(CHECKPOINT.clone(), self.checkpoint.clone()).await? else {
            return Ok(());
        };
        let mark = mark_of(&record)?;
        if (mark.owner, mark.epoch) != (self.mark.owner, self.mark.epoch) {
            return Ok(());
        }
        let free = move_lane(self.checkpoint.clone(), mark.released(), record.revision);
        store.commit(Commit { records: vec![free], ..Commit::default() }).await?;
        Ok(())
    }
}
