//! Dead letters of one key, tried again in order, in the lane that owns the key.

use ensue_core::{Code, Error, Failure, Position, Read, RecordWrite, StoreExt};

use super::{Effects, Halt, Handled, Lane, Settlement, dead, spaces};

impl Lane {
    /// Works off what is parked under `key`, oldest first. A letter that fails again stays, with those behind it.
    pub(super) async fn redrive(&mut self, key: &str) -> Result<(), Halt> {
        let result = self.work_off(key).await;
        self.subscription.standing.settled(usize::from(self.number), Position::ZERO, 1);
        result
    }

    async fn work_off(&mut self, key: &str) -> Result<(), Halt> {
        let name = self.subscription.name.clone();
        let store = self.subscription.shared.store.clone();
        for (record, letter) in dead::letters_of(&*store, &name, key).await.map_err(Halt::Broken)? {
            let recorded = self.parked_event(letter.position).await.map_err(Halt::Broken)?;
            let Handled { mut effects, failure, .. } =
                match self.work(std::slice::from_ref(&recorded), 1).await {
                    Ok(handled) => handled,
                    Err(panic) => Handled { failure: Some(Failure::Failed(panic)), ..Handled::default() },
                };
            match failure {
                None => {
                    effects.put(
                        RecordWrite::delete(spaces::DEAD.clone(), record.key.clone()).expect(record.revision),
                    );
                    self.settle_aside(effects).await?;
                }
                Some(Failure::Later(_)) => return self.clear_request(key).await,
                Some(Failure::Failed(error) | Failure::Rejected(error)) => {
                    let mut effects = Effects::default();
                    effects.put(
                        letter
                            .failed_again(&error, &self.subscription.shared)
                            .write(&name)
                            .expect(record.revision),
                    );
                    self.settle_aside(effects).await?;
                    return self.clear_request(key).await;
                }
            }
            if let Some(count) = self.parked.get_mut(key) {
                *count = count.saturating_sub(1);
            }
        }
        // Letters that an operator discarded meanwhile are gone as well: the key is free.
        self.parked.remove(key);
        self.clear_request(key).await
    }

    /// The event that a letter names.
    async fn parked_event(&self, at: Position) -> Result<ensue_core::Recorded, Error> {
        let read = Read::all().after(at.previous()).until(at);
        self.subscription.shared.store.collect(read).await?.pop().ok_or_else(|| {
            let name = &self.subscription.name;
            Error::new(
                Code::CORRUPT,
                format!("the dead letter at position {at} of {name} names an event that is not in the log"),
            )
        })
    }

    async fn clear_request(&mut self, key: &str) -> Result<(), Halt> {
        let mut effects = Effects::default();
        effects
            .put(RecordWrite::delete(spaces::REDRIVE.clone(), spaces::join(&[&self.subscription.name, key])));
        self.settle_aside(effects).await
    }

    /// Commits without moving on, but fenced all the same.
    async fn settle_aside(&mut self, effects: Effects) -> Result<(), Halt> {
        match self.settle(effects, self.mark.position, 0).await? {
            // Out of date: an operator discarded the letter at the same moment. Nothing was settled twice or lost.
            Settlement::Done | Settlement::OutOfDate => Ok(()),
            Settlement::Refused(error) => Err(Halt::Broken(error)),
        }
    }
}
