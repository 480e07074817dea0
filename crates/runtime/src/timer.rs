//! Timers: records ordered by due time. Firing removes the timer in the same commit as its effect, so that a timer can
//! be cancelled or fire, never both, and never twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    Append, Commit, CommitError, Error, EventId, Expected, Record, RecordScan, RecordWrite, Store, StoreExt,
    StreamName, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::effects::Effects;
use crate::message::Origin;
use crate::spaces::{self, TIMER};
use crate::subscription::Shared;

/// Timers that fire in one commit.
const FIRED_TOGETHER: usize = 256;
/// The clock is looked at this often, so that a jump of the wall clock is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A timer: at `due`, its owner's stream is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// The stream that gets the `TimerFired`.
    pub owner: StreamName,
    /// Which of the owner's timers; never used again by the same owner.
    pub name: SmolStr,
    /// When.
    pub due: Timestamp,
    /// The flow it belongs to.
    pub flow: EventId,
    /// What set it.
    pub cause: EventId,
}

impl Timer {
    fn key(&self) -> Bytes {
        spaces::at_time(self.due, &[&self.owner.to_string(), &self.name])
    }

    /// The write that sets the timer.
    pub(crate) fn set(&self) -> RecordWrite {
        RecordWrite::put(TIMER.clone(), self.key(), spaces::encode(self))
    }

    /// The write that cancels it; does no harm when it has fired.
    pub(crate) fn cancel(&self) -> RecordWrite {
        RecordWrite::delete(TIMER.clone(), self.key())
    }
}

/// Every timer that is set, by due time.
pub async fn list(store: &dyn Store) -> Result<Vec<Timer>, Error> {
    let records = store.records(RecordScan::all(TIMER.clone())).await?;
    records.iter().map(|record| spaces::decode("timer", &record.value)).collect()
}

/// The next timer of the store.
pub(crate) async fn next_due(store: &dyn Store) -> Result<Option<Timestamp>, Error> {
    let page = store.scan(RecordScan::all(TIMER.clone()).limit(1)).await?;
    let first: Option<Timer> =
        page.records.first().map(|record| spaces::decode("timer", &record.value)).transpose()?;
    Ok(first.map(|timer| timer.due))
}

/// Fires timers until the application closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let woken = shared.timers.notified();
        let fired = if is_ours(&shared) { fire_due(&shared).await } else { Ok(LOOK_AGAIN) };
        // The store is away for a moment or for good; the subscriptions report it, timers only wait.
        shared.timers_wait.store(fired.is_err(), Ordering::Release);
        let pause = fired.unwrap_or(LOOK_AGAIN).min(look_again(&shared));
        tokio::select! {
            biased;
            () = shared.closed() => return,
            () = woken => {}
            () = shared.press.host.clock.sleep(pause) => {}
        }
        shared.timers_wait.store(false, Ordering::Release);
    }
}

/// Whether this process is the one that fires. When two believe it, for a moment, the timers' records decide.
pub(crate) fn is_ours(shared: &Shared) -> bool {
    shared.view.borrow().is_ours("timers")
}

/// How long to wait at most: others set timers too, and may leave firing to us.
fn look_again(shared: &Shared) -> Duration {
    if shared.view.borrow().has_others() { shared.sharing.look } else { LOOK_AGAIN }
}

/// Fires everything that is due, and says how long the next one takes.
async fn fire_due(shared: &Shared) -> Result<Duration, Error> {
    loop {
        let now = shared.press.host.clock.now();
        let scan = RecordScan::all(TIMER.clone()).limit(FIRED_TOGETHER);
        let mut due = Vec::new();
        let mut pause = LOOK_AGAIN;
        for record in shared.store.scan(scan).await?.records {
            let timer: Timer = spaces::decode("timer", &record.value)?;
            if timer.due > now {
                // Time went on while the store was read.
                let left = timer.due.duration_since(shared.press.host.clock.now());
                pause = Duration::try_from(left).unwrap_or_default().min(LOOK_AGAIN);
                break;
            }
            due.push((record, timer));
        }
        if due.is_empty() {
            return Ok(pause);
        }
        if fire(shared, &due).await.is_err() {
            // One of them was cancelled at this moment; the others do not wait for it.
            for one in due.chunks(1) {
                match fire(shared, one).await {
                    Ok(()) | Err(CommitError::RecordConflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

async fn fire(shared: &Shared, due: &[(Record, Timer)]) -> Result<(), CommitError> {
    let mut effects = Effects::default();
    for (record, timer) in due {
        let draft = crate::saga::timer_draft(timer)?;
        let origin = Origin {
            cause: timer.cause.clone(),
            flow: timer.flow.clone(),
            trace: None,
            handler: format!("timer.{}.{}", timer.owner, timer.name).into(),
        };
        let (stream, envelope) = shared.press.caused(draft, &origin, 0);
        effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
        effects.records.push(RecordWrite::delete(TIMER.clone(), record.key.clone()).expect(record.revision));
    }
    let commit = Commit { appends: effects.appends, records: effects.records, ..Commit::default() };
    shared.store.commit(commit).await.map(|_| ())
}
