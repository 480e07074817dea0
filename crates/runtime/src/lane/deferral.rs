//! Deliveries that are set aside until a time: by their handler, or because the pause before the next attempt is longer
//! than a lane should be held.
//!
//! They wait where dead letters wait, with what is behind them of the same key, and a timer asks for their redrive. So
//! a deferral is one record and one timer, and its order is the order that parking keeps.

use std::time::Duration;

use ensue_core::{Error, Failure, Recorded, Revision, Timestamp};

use super::{Halt, Lane, Settlement};
use crate::dead::Parked;
use crate::effects::Effects;
use crate::policy::OnFailure;
use crate::timer::{Timer, delayed};

/// A lane is held for a pause up to this long. A longer one is a timer, so that other keys of the lane go on.
pub(super) const HELD_MAX: Duration = Duration::from_secs(5);

impl Lane {
    /// How a delivery goes on that has failed, if not by being given up: when it is made again, and which attempt
    /// that is.
    pub(super) fn again(&self, failure: &Failure, attempt: u32) -> Option<(Timestamp, u32)> {
        match failure {
            Failure::Later(pause) => Some((self.in_a_while(*pause), attempt)),
            Failure::Deferred(until) => Some((*until, attempt)),
            Failure::Rejected(_) => None,
            Failure::Failed(_) => {
                let pause = self.subscription.settings.retry.pause_after(attempt)?;
                Some((self.in_a_while(self.jittered(pause)), attempt + 1))
            }
        }
    }

    fn in_a_while(&self, pause: Duration) -> Timestamp {
        self.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// Whether deliveries of this lane may be set aside, which lets other keys overtake them.
    pub(super) fn may_set_aside(&self) -> bool {
        self.subscription.settings.on_failure != OnFailure::Stop
    }

    /// Sets the delivery in hand aside until a time. Later ones of its key wait behind it.
    pub(super) async fn set_aside(
        &mut self,
        failed: &Recorded,
        failure: &Failure,
        attempts: u32,
        until: Timestamp,
    ) -> Result<(), Halt> {
        let shared = &self.subscription.shared;
        let letter =
            Parked::deferred(failed, self.key(failed), attempts, shared).until(until, failure, shared);
        self.admit(failed)?;
        loop {
            let effects = self.deferral(&letter, until);
            match self.settle(effects, failed.position, 1).await? {
                Settlement::Done => return Ok(()),
                // It was computed from nothing that could have changed meanwhile.
                Settlement::OutOfDate => {}
                Settlement::Refused(error) => return Err(Halt::Broken(error)),
            }
        }
    }

    /// The writes of a deferral: the letter that waits, and the timer that ends the wait.
    pub(super) fn deferral(&self, letter: &Parked, until: Timestamp) -> Effects {
        let mut effects = Effects::default();
        effects.put(letter.write(&self.subscription.name));
        let timer = Timer::deferral(&self.subscription.name, letter, until);
        delayed::set(&self.subscription.shared, &mut effects, &timer);
        effects
    }

    /// The writes by which a letter that has failed again waits for another time, as its policy says. `None`: it is for an
    /// operator, or has failed for good.
    pub(super) fn deferred_again(
        &self,
        letter: &Parked,
        revision: Revision,
        failure: &Failure,
    ) -> Option<Effects> {
        let is_dead = letter.is_cause() && letter.until.is_none();
        if !self.may_set_aside() || (is_dead && !matches!(failure, Failure::Deferred(_))) {
            return None;
        }
        let attempts = letter.attempts + u32::from(matches!(failure, Failure::Failed(_)));
        let (until, _) = self.again(failure, attempts)?;
        let shared = &self.subscription.shared;
        let again = Parked { attempts, ..letter.clone() }.until(until, failure, shared);
        let mut effects = Effects::default();
        self.cancel_deferral(letter, &mut effects);
        let deferral = self.deferral(&again, until);
        deferral.records.into_iter().for_each(|write| effects.put(write));
        effects.after.extend(deferral.after);
        let place = letter.place(&self.subscription.name);
        for write in effects.records.iter_mut().filter(|write| write.key == place) {
            write.expected = Some(revision);
        }
        Some(effects)
    }

    /// Removes the timer of a letter that waits no more; does no harm when it has fired.
    pub(super) fn cancel_deferral(&self, letter: &Parked, effects: &mut Effects) {
        if let Some(until) = letter.until {
            effects.put(Timer::deferral(&self.subscription.name, letter, until).cancel());
        }
    }
}

/// What a failure says, where it is an error.
pub(super) fn error_of(failure: &Failure) -> Option<Error> {
    match failure {
        Failure::Failed(error) | Failure::Rejected(error) => Some(error.clone()),
        Failure::Later(_) | Failure::Deferred(_) => None,
    }
}
