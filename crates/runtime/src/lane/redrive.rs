//! Letters of one key, tried again in order, in the lane that owns the key: dead ones when an operator asks for it,
//! deferred ones when they are due.

use ensue_core::{Failure, Position, RecordWrite, Revision};

use super::{Effects, Halt, Handled, Lane, Settlement, dead, spaces};
use crate::dead::{Parked, Redrive, RedriveState};
use crate::door;
use crate::subscription::Shared;

/// Whether there is more to try.
#[derive(PartialEq, Eq)]
enum Turn {
    Next,
    Over,
}

impl Lane {
    /// Works off what is parked under `key`, oldest first. A letter that fails again stays, with those behind it.
    pub(super) async fn redrive(&mut self, key: &str) -> Result<(), Halt> {
        let result = self.work_off(key).await;
        self.subscription.standing.settled(usize::from(self.number), Position::ZERO, 1);
        result
    }

    async fn work_off(&mut self, key: &str) -> Result<(), Halt> {
        let (store, name) = (self.subscription.shared.store.clone(), self.subscription.name.clone());
        // An operator may have discarded some of them.
        match self.until_read(|| dead::count(&*store, &name, key)).await? {
            0 => self.parked.remove(key),
            count => self.parked.insert(key.into(), count),
        };
        while self.try_front(key).await? == Turn::Next {}
        Ok(())
    }

    /// Tries the oldest letter of the key, read anew each time: an operator may have edited or discarded it meanwhile.
    async fn try_front(&mut self, key: &str) -> Result<Turn, Halt> {
        let (store, name) = (self.subscription.shared.store.clone(), self.subscription.name.clone());
        let request = self.until_read(|| Redrive::open(&*store, &name, key)).await?;
        let Some((asked, redrive)) = request else { return Ok(Turn::Over) };
        let front = self.until_read(|| dead::front(&*store, &name, key)).await?;
        let Some((revision, letter, has_more)) = front else {
            self.parked.remove(key);
            let end = redrive.end(asked, RedriveState::Done { ended_at: self.now() }, self.now());
            return self.settle_aside(effects_of(end), Turn::Over).await;
        };
        let recorded = self.until_read(|| dead::delivered(&*store, &name, &letter)).await?;
        let attempt = letter.until.map_or(1, |_| letter.attempts + 1);
        let worked = self.work(std::slice::from_ref(&recorded), attempt).await;
        let Handled { effects, failure, wait, .. } = match worked {
            Ok(handled) => handled,
            Err(panic) => Handled { failure: Some(Failure::Failed(panic)), ..Handled::default() },
        };
        if let Some(wait) = wait {
            self.pause(wait).await?;
            return Ok(Turn::Next);
        }
        let Some(failure) = failure else {
            return self.letter_done(effects, &letter, revision, (asked, redrive), has_more).await;
        };
        if let Some(effects) = self.deferred_again(&letter, revision, &failure) {
            let mut effects = effects;
            effects.put(redrive.served(asked));
            return self.settle_aside(effects, Turn::Over).await;
        }
        match failure {
            Failure::Later(pause) => {
                self.pause(pause).await?;
                Ok(Turn::Next)
            }
            Failure::Deferred(until) => {
                let pause = until.duration_since(self.now());
                self.pause(std::time::Duration::try_from(pause).unwrap_or_default()).await?;
                Ok(Turn::Next)
            }
            Failure::Failed(error) | Failure::Rejected(error) => {
                let state = RedriveState::failed_again(&letter, &error, self.now());
                let mut effects = effects_of(redrive.end(asked, state, self.now()));
                self.cancel_deferral(&letter, &mut effects);
                let again = letter.failed_again(&error, &self.subscription.shared);
                effects.put(again.write(&name).expect(revision));
                self.settle_aside(effects, Turn::Over).await
            }
        }
    }

    /// A letter is processed: it goes, with what it causes, in one commit.
    async fn letter_done(
        &mut self,
        mut effects: Effects,
        letter: &Parked,
        revision: Revision,
        (asked, redrive): (Revision, Redrive),
        has_more: bool,
    ) -> Result<Turn, Halt> {
        let place = letter.place(&self.subscription.name);
        effects.put(RecordWrite::delete(spaces::DEAD.clone(), place).expect(revision));
        self.let_go(letter, &mut effects).await?;
        self.cancel_deferral(letter, &mut effects);
        let redrive = redrive.one_done();
        if has_more {
            effects.put(redrive.go_on(asked));
        } else {
            let state = RedriveState::Done { ended_at: self.now() };
            redrive.end(asked, state, self.now()).into_iter().for_each(|write| effects.put(write));
        }
        let settlement = self.settle(effects, self.mark.position, 0).await?;
        if matches!(settlement, Settlement::Done) {
            match self.parked.get_mut(&letter.key) {
                Some(count) if has_more => *count = count.saturating_sub(1).max(1),
                _ => drop(self.parked.remove(&letter.key)),
            }
        }
        after(settlement, if has_more { Turn::Next } else { Turn::Over })
    }

    /// The door remembers the id of an event for as long as it is parked.
    pub(super) async fn hold(&self, letter: &Parked, effects: &mut Effects) -> Result<(), Halt> {
        let Some(source) = &letter.source else { return Ok(()) };
        let (store, name) = (&*self.subscription.shared.store, &self.subscription.name);
        let held = self.until_read(|| door::hold(store, source, &letter.event_id, name)).await?;
        held.into_iter().for_each(|write| effects.put(write));
        Ok(())
    }

    /// The event is parked here no longer: its id lapses when the window is over.
    async fn let_go(&self, letter: &Parked, effects: &mut Effects) -> Result<(), Halt> {
        let Some(source) = &letter.source else { return Ok(()) };
        let Shared { store, window, .. } = &*self.subscription.shared;
        let (name, lapses_at) = (&self.subscription.name, door::lapse(self.now(), *window));
        let let_go =
            self.until_read(|| door::let_go(&**store, source, &letter.event_id, name, lapses_at)).await?;
        let_go.into_iter().for_each(|write| effects.put(write));
        Ok(())
    }

    /// Commits without moving on, but fenced all the same.
    async fn settle_aside(&mut self, effects: Effects, turn: Turn) -> Result<Turn, Halt> {
        let settlement = self.settle(effects, self.mark.position, 0).await?;
        after(settlement, turn)
    }
}

/// What comes after a settlement. Out of date: somebody edited or discarded the letter, or asked anew, at the same
/// moment, so the front of the key is looked at again. Nothing was settled twice or lost.
fn after(settlement: Settlement, turn: Turn) -> Result<Turn, Halt> {
    match settlement {
        Settlement::Done => Ok(turn),
        Settlement::OutOfDate => Ok(Turn::Next),
        Settlement::Refused(error) => Err(Halt::Broken(error)),
    }
}

fn effects_of(writes: impl IntoIterator<Item = RecordWrite>) -> Effects {
    let mut effects = Effects::default();
    writes.into_iter().for_each(|write| effects.put(write));
    effects
}
