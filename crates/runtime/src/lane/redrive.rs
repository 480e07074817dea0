//! Letters of one key, tried again in order, in the lane that owns the key: dead ones when an operator asks for it,
//! deferred ones when they are due.

use ensue_core::{Code, Error, Failure, Position, Read, Record, RecordWrite, StoreExt};

use super::deferral::error_of;
use super::{Effects, Halt, Handled, Lane, Settlement, dead, spaces};
use crate::dead::Parked;
use crate::timer::Timer;

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
        let request = store.record(spaces::REDRIVE.clone(), spaces::join(&[&name, key])).await;
        // Only the request that is served here is taken back: one that comes meanwhile is served after it.
        let done = request.map_err(Halt::Broken)?.map(|request| {
            RecordWrite::delete(spaces::REDRIVE.clone(), request.key).expect(request.revision)
        });
        for (record, letter) in dead::letters_of(&*store, &name, key).await.map_err(Halt::Broken)? {
            let recorded = self.parked_event(letter.position).await.map_err(Halt::Broken)?;
            let attempt = if letter.until.is_some() { letter.attempts + 1 } else { 1 };
            let Handled { mut effects, failure, .. } =
                match self.work(std::slice::from_ref(&recorded), attempt).await {
                    Ok(handled) => handled,
                    Err(panic) => Handled { failure: Some(Failure::Failed(panic)), ..Handled::default() },
                };
            if let Some(failure) = failure {
                let mut effects = self.still_waits(&record, &letter, &failure);
                done.into_iter().for_each(|done| effects.put(done));
                return self.settle_aside(effects).await;
            }
            effects
                .put(RecordWrite::delete(spaces::DEAD.clone(), record.key.clone()).expect(record.revision));
            if let Some(until) = letter.until {
                effects.put(Timer::deferral(&name, &letter, until).cancel());
            }
            self.settle_aside(effects).await?;
            if let Some(count) = self.parked.get_mut(key) {
                *count = count.saturating_sub(1);
            }
        }
        // Letters that an operator discarded meanwhile are gone as well: the key is free.
        self.parked.remove(key);
        let mut effects = Effects::default();
        done.into_iter().for_each(|done| effects.put(done));
        self.settle_aside(effects).await
    }

    /// A letter that has failed again: one that waits for its turn is tried again as its policy says, one that an operator
    /// has sent stays dead.
    fn still_waits(&self, record: &Record, letter: &Parked, failure: &Failure) -> Effects {
        let attempts = letter.attempts + u32::from(matches!(failure, Failure::Failed(_)));
        let is_dead = letter.is_cause() && letter.until.is_none();
        let again = self.again(failure, attempts).filter(|_| !is_dead && self.may_set_aside());
        let mut effects = match (again, error_of(failure)) {
            (Some((until, _)), _) => {
                let letter =
                    Parked { attempts, ..letter.clone() }.until(until, failure, &self.subscription.shared);
                self.deferral(&letter, until)
            }
            (None, Some(error)) => {
                let mut effects = Effects::default();
                effects.put(
                    letter
                        .clone()
                        .failed_again(&error, &self.subscription.shared)
                        .write(&self.subscription.name),
                );
                effects
            }
            // Asked to wait where nothing waits: an operator tries again.
            (None, None) => return Effects::default(),
        };
        if let Some(write) = effects.records.first_mut() {
            write.expected = Some(record.revision);
        }
        if let Some(until) = letter.until.filter(|until| again.is_none_or(|(next, _)| next != *until)) {
            effects.put(Timer::deferral(&self.subscription.name, letter, until).cancel());
        }
        effects
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

    /// Commits without moving on, but fenced all the same.
    async fn settle_aside(&mut self, effects: Effects) -> Result<(), Halt> {
        match self.settle(effects, self.mark.position, 0).await? {
            // Out of date: an operator discarded the letter at the same moment. Nothing was settled twice or lost.
            Settlement::Done | Settlement::OutOfDate => Ok(()),
            Settlement::Refused(error) => Err(Halt::Broken(error)),
        }
    }
}
