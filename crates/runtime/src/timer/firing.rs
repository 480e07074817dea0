//! Fires timers when they are due: in bounded batches, each timer in the commit that removes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensue_core::{
    Append, Commit, CommitError, Error, Expected, Record, RecordScan, RecordWrite, StoreExt, Timestamp,
};

use super::{Action, Timer, due_of};
use crate::dead;
use crate::effects::Effects;
use crate::message::Origin;
use crate::schedule;
use crate::spaces::{self, TIMER, TIMER_BROKEN, TIMER_NAME};
use crate::subscription::Shared;

/// Timers that fire in one commit.
const FIRED_TOGETHER: usize = 256;
/// The clock is looked at this often, so that a jump of the wall clock is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Fires timers until the application closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let woken = shared.timers.notified();
        let fired = tokio::select! {
            biased;
            () = shared.closed() => return,
            fired = fire_if_ours(&shared) => fired,
        };
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

async fn fire_if_ours(shared: &Arc<Shared>) -> Result<Duration, Error> {
    if is_ours(shared) { fire_due(shared).await } else { Ok(LOOK_AGAIN) }
}

/// Fires everything that is due, and says how long to wait for the next one.
async fn fire_due(shared: &Arc<Shared>) -> Result<Duration, Error> {
    loop {
        let now = shared.press.host.clock.now();
        let page = shared.store.scan(RecordScan::all(TIMER.clone()).limit(FIRED_TOGETHER)).await?.records;
        let (due, later): (Vec<Record>, Vec<Record>) =
            page.into_iter().partition(|record| due_of(record) <= now);
        if due.is_empty() {
            // Time went on while the store was read.
            let now = shared.press.host.clock.now();
            let next = later.first().map(|record| due_of(record).duration_since(now));
            let next = next.map(|pause| Duration::try_from(pause).unwrap_or_default());
            return Ok(next.map_or(LOOK_AGAIN, |pause| pause.min(LOOK_AGAIN)));
        }
        fire_all(shared, &due, now).await?;
        // However many are due, everybody else has a turn between two batches.
        tokio::task::yield_now().await;
    }
}

async fn fire_all(shared: &Arc<Shared>, due: &[Record], now: Timestamp) -> Result<(), Error> {
    if fire(shared, due, now).await.is_ok() {
        return Ok(());
    }
    // One of them was cancelled at this moment, or cannot fire; the others do not wait for it.
    for one in due {
        match fire(shared, std::slice::from_ref(one), now).await {
            Ok(()) | Err(CommitError::RecordConflict { .. }) => {}
            Err(error) => {
                let error = Error::from(error);
                if error.is_retryable() || error.code() == ensue_core::Code::CLOSED {
                    return Err(error);
                }
                set_aside(shared, one, &error).await?;
            }
        }
    }
    Ok(())
}

/// Everything that these timers do, and their removal, in one commit.
async fn fire(shared: &Arc<Shared>, due: &[Record], now: Timestamp) -> Result<(), CommitError> {
    let mut effects = Effects::default();
    for record in due {
        let timer: Timer = spaces::decode("timer", &record.value)?;
        effects.records.push(RecordWrite::delete(TIMER.clone(), record.key.clone()).expect(record.revision));
        if is_current(shared, &timer, &mut effects).await? {
            act(shared, timer, now, &mut effects).await?;
        }
    }
    let commit = Commit { appends: effects.appends, records: effects.records, ..Commit::default() };
    shared.store.commit(commit).await?;
    effects.after.into_iter().for_each(|hook| hook());
    Ok(())
}

/// Whether the timer is still meant: nobody took its name, and what it waits for still waits.
async fn is_current(shared: &Shared, timer: &Timer, effects: &mut Effects) -> Result<bool, Error> {
    if let Action::Deliver { key, position } = &timer.action {
        return dead::is_deferred(&*shared.store, &timer.owner, key, *position).await;
    }
    if !timer.is_named {
        return Ok(true);
    }
    let Some(held) = shared.store.record(TIMER_NAME.clone(), timer.name_key()).await? else {
        return Ok(false);
    };
    let is_held = held.value == spaces::encode(&timer.holder());
    if is_held {
        effects.records.push(RecordWrite::delete(TIMER_NAME.clone(), held.key).expect(held.revision));
    }
    Ok(is_held)
}

async fn act(shared: &Arc<Shared>, timer: Timer, now: Timestamp, effects: &mut Effects) -> Result<(), Error> {
    match timer.action {
        Action::Redrive(redrive) => {
            dead::take_turn(shared, *redrive, effects).await?;
            let (shared, handler) = (Arc::clone(shared), timer.owner);
            effects.after.push(Box::new(move || shared.board.tell(&handler)));
        }
        Action::Tick => schedule::tick(shared, &timer, now, effects).await?,
        Action::Wake => {
            let draft = crate::saga::timer_draft(&timer)?;
            let origin = Origin {
                cause: timer.cause,
                flow: timer.flow,
                trace: None,
                handler: format!("timer.{}.{}", timer.owner, timer.name).into(),
            };
            let (stream, envelope) = shared.press.caused(draft, &origin, 0);
            effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
        }
        Action::Append { stream, mut event } => {
            event.time = now;
            effects.appends.push(Append { stream, expected: Expected::Any, events: vec![*event] });
        }
        Action::Deliver { key, .. } => {
            let request = dead::Redrive::due(&timer.owner, &key, &timer.cause, now);
            effects.put(request);
            let (shared, handler) = (Arc::clone(shared), timer.owner);
            effects.after.push(Box::new(move || shared.board.tell(&handler)));
        }
    }
    Ok(())
}

/// A timer that cannot be read or fired must not hold up the others: it is kept aside with the reason.
async fn set_aside(shared: &Shared, record: &Record, error: &Error) -> Result<(), Error> {
    let aside = serde_json::json!({
        "timer": String::from_utf8_lossy(&record.value), "code": error.code().to_string(), "reason": error.message(),
    });
    let records = vec![
        RecordWrite::delete(TIMER.clone(), record.key.clone()).expect(record.revision),
        RecordWrite::put(TIMER_BROKEN.clone(), record.key.clone(), spaces::encode(&aside)),
    ];
    match shared.store.commit(Commit { records, ..Commit::default() }).await {
        Ok(_) | Err(CommitError::RecordConflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
