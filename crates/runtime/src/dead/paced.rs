//! Redrives at a rate: the turn of each key is a timer, so that the pace outlives whoever asked for it, and whatever
//! application runs on the store carries it out.

use std::num::NonZeroU32;
use std::time::Duration;

use ensue_core::{Error, Position, RecordWrite, Store, Timestamp};
use smol_str::SmolStr;

use super::letters::KEYS_PER_COMMIT;
use super::redrive::Asker;
use super::which::chosen;
use super::{DeadLetter, DeadLetters, Redrive, Requested, Which};
use crate::effects::Effects;
use crate::spaces::{self, REDRIVE};
use crate::subscription::Shared;
use crate::timer::{self, Action, Timer, TimerId};

/// How long it takes until the last of so many keys has its turn.
pub fn pace(keys: usize, keys_per_second: NonZeroU32) -> Duration {
    Duration::from_secs(1) * u32::try_from(keys.saturating_sub(1)).unwrap_or(u32::MAX) / keys_per_second.get()
}

impl DeadLetters<'_> {
    /// Asks as [`DeadLetters::redrive`] does, for at most so many keys a second, so that what the handlers call is not flooded.
    /// Returns at once: each key's turn is a timer, which any application that runs on the store fires. Keys whose letters
    /// are gone by then are left out. Asked again, a key has its new turn instead.
    ///
    /// Cancellation leaves some keys asked for and others not; asking again does no harm.
    pub async fn redrive_at(&self, which: &Which, keys_per_second: NonZeroU32) -> Result<Requested, Error> {
        let keys = chosen(&*self.store, which).await?;
        let asker = Asker::new(&self.host, self.by.clone());
        let turns: Vec<Timer> = (1..)
            .zip(&keys)
            .filter_map(|(number, letters)| {
                let due = asker.at().checked_add(pace(number, keys_per_second)).unwrap_or(Timestamp::MAX);
                turn(&asker, letters, due)
            })
            .collect();
        for some in turns.chunks(KEYS_PER_COMMIT) {
            self.write(some.iter().flat_map(Timer::writes).collect()).await?;
        }
        if let Some(running) = self.running {
            running.wake_timers();
        }
        let letters = keys.iter().map(Vec::len).sum();
        Ok(Requested { request: asker.request().clone(), keys: keys.len(), letters })
    }
}

/// What the timer of a key's turn is called: it is named after the letter that the key waits for.
fn turn_of(handler: &SmolStr, first: Position) -> TimerId {
    TimerId { owner: handler.clone(), name: format!("redrive.{first}").into() }
}

/// The writes that take a turn back which has not come: the key is asked for at once, or the letter is gone.
pub(super) async fn take_back(
    store: &dyn Store,
    handler: &SmolStr,
    first: Position,
) -> Result<Vec<RecordWrite>, Error> {
    timer::remove_name(store, &turn_of(handler, first)).await
}

/// The timer of a key's turn.
fn turn(asker: &Asker, letters: &[DeadLetter], due: Timestamp) -> Option<Timer> {
    let DeadLetter { handler, parked, .. } = letters.first()?;
    let redrive = asker.redrive(handler, &parked.key, letters.len());
    Some(Timer {
        owner: handler.clone(),
        generation: asker.request().clone(),
        name: turn_of(handler, parked.position).name,
        due,
        flow: parked.flow.clone(),
        cause: parked.event_id.clone(),
        action: Action::Redrive(Box::new(redrive)),
        is_named: true,
    })
}

/// What the timer of a turn does: the key is asked for, if it still has letters.
pub(crate) async fn take_turn(shared: &Shared, redrive: Redrive, effects: &mut Effects) -> Result<(), Error> {
    let letters = super::count(&*shared.store, &redrive.handler, &redrive.key).await?;
    if letters > 0 {
        let redrive = Redrive { letters, ..redrive };
        let place = spaces::join(&[&redrive.handler, &redrive.key]);
        effects.put(RecordWrite::put(REDRIVE.clone(), place, spaces::encode(&redrive)));
    }
    Ok(())
}
