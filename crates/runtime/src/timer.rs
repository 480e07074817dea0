//! Timers: records ordered by due time. Firing removes the timer in the same commit as its effect, so that a timer is
//! cancelled or fired, never both, and never twice.
//!
//! A timer belongs to (owner, generation, name). What an earlier life of its owner has set is of no effect: it goes
//! silently when it is due.

use std::collections::HashMap;

use bytes::Bytes;
use ensue_core::{
    Envelope, Error, EventId, Position, Record, RecordScan, RecordWrite, Store, StoreExt, StreamName,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::dead::Redrive;
use crate::message::Origin;
use crate::spaces::{self, TIMER, TIMER_NAME};

pub(crate) mod delayed;
mod firing;
mod operate;
mod publish;
mod stored;

pub(crate) use firing::{is_ours, run};
pub(crate) use operate::CHANGES;
pub use operate::{Broken, Filter, TimerChanged, Timers};
pub use publish::{Delay, Publish, Scheduled};

/// A timer: at `due` its action is taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// Whose: the stream of a saga's instance, the stream a delayed event goes to, or a handler.
    pub owner: SmolStr,
    /// Which life of the owner: the id of what began it.
    pub generation: EventId,
    /// Which of the owner's timers.
    pub name: SmolStr,
    /// When.
    pub due: Timestamp,
    /// The flow it belongs to.
    pub flow: EventId,
    /// What set it.
    pub cause: EventId,
    /// What is done then.
    pub action: Action,
    /// Whether it was given a name: then it is the only one of it, and set again under it, it is replaced.
    #[serde(default, rename = "named")]
    pub is_named: bool,
}

/// What a timer does when it is due.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The saga's instance, which is the owner, goes on.
    Wake,
    /// An event or a command is appended.
    Append {
        /// Where it goes.
        stream: StreamName,
        /// With its id, cause and flow; its time is when it is appended.
        #[serde(with = "stored")]
        event: Box<Envelope>,
    },
    /// A delivery that was deferred is made again, to the handler that is the owner.
    Deliver {
        /// The key that waits.
        key: SmolStr,
        /// The event that was deferred.
        position: Position,
    },
    /// A key that is redriven at a rate has its turn; its handler is the owner.
    Redrive(Box<Redrive>),
    /// The schedule whose stream is the owner has a tick, and the next one is set.
    Tick,
}

/// What a timer is called: by this it is listed, shown and cancelled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TimerId {
    /// Whose.
    pub owner: SmolStr,
    /// Which of the owner's.
    pub name: SmolStr,
}

impl TimerId {
    fn name_key(&self) -> Bytes {
        spaces::join(&[&self.owner, &self.name])
    }
}

/// The timer that holds a name.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    generation: EventId,
    due: Timestamp,
}

impl Timer {
    /// What it is called.
    pub fn id(&self) -> TimerId {
        TimerId { owner: self.owner.clone(), name: self.name.clone() }
    }

    /// Where it is stored.
    fn key(&self) -> Bytes {
        spaces::at_time(self.due, &[&self.owner, &self.name])
    }

    fn name_key(&self) -> Bytes {
        self.id().name_key()
    }

    fn holder(&self) -> Holder {
        Holder { generation: self.generation.clone(), due: self.due }
    }

    /// The write that sets the timer; for a named one, see [`Timer::writes`].
    pub(crate) fn set(&self) -> RecordWrite {
        RecordWrite::put(TIMER.clone(), self.key(), spaces::encode(self))
    }

    /// The write that cancels it; does no harm when it has fired.
    pub(crate) fn cancel(&self) -> RecordWrite {
        RecordWrite::delete(TIMER.clone(), self.key())
    }

    /// The writes that set the timer, and make it the one that holds its name.
    pub(crate) fn writes(&self) -> impl Iterator<Item = RecordWrite> {
        let take_name =
            || RecordWrite::put(TIMER_NAME.clone(), self.name_key(), spaces::encode(&self.holder()));
        std::iter::once(self.set()).chain(self.is_named.then(take_name))
    }

    /// A saga's timer: its instance goes on when it is due.
    pub(crate) fn waking(
        stream: &StreamName,
        begun: Option<&EventId>,
        origin: &Origin,
        name: SmolStr,
        due: Timestamp,
    ) -> Self {
        Self {
            owner: stream.to_string().into(),
            generation: begun.unwrap_or(&origin.cause).clone(),
            name,
            due,
            flow: origin.flow.clone(),
            cause: origin.cause.clone(),
            action: Action::Wake,
            is_named: false,
        }
    }

    /// The write that cancels a saga's timer.
    pub(crate) fn cancel_waking(stream: &StreamName, name: &str, due: Timestamp) -> RecordWrite {
        RecordWrite::delete(TIMER.clone(), spaces::at_time(due, &[&stream.to_string(), name]))
    }

    /// A deferred delivery: the event at `position` waits for `until` and the rest of its key behind it.
    pub(crate) fn deferral(handler: &str, letter: &crate::dead::Parked, until: Timestamp) -> Self {
        Self {
            owner: handler.into(),
            generation: letter.event_id.clone(),
            name: letter.position.to_string().into(),
            due: until,
            flow: letter.flow.clone(),
            cause: letter.event_id.clone(),
            action: Action::Deliver { key: letter.key.clone(), position: letter.position },
            is_named: false,
        }
    }
}

/// Every timer that is set, by due time. Those that lost their name to a newer one are among them until they are due.
pub async fn list(store: &dyn Store) -> Result<Vec<Timer>, Error> {
    let records = store.records(RecordScan::all(TIMER.clone())).await?;
    records.iter().map(|record| spaces::decode("timer", &record.value)).collect()
}

/// When the next timer of the store is due.
pub(crate) async fn next_due(store: &dyn Store) -> Result<Option<Timestamp>, Error> {
    let page = store.scan(RecordScan::all(TIMER.clone()).limit(1)).await?;
    Ok(page.records.first().map(due_of))
}

/// The timers that are set and admitted, by due time, without those that lost their name to a newer one.
pub(crate) async fn held(store: &dyn Store, admits: impl Fn(&Timer) -> bool) -> Result<Vec<Timer>, Error> {
    let mut timers = list(store).await?;
    timers.retain(admits);
    if timers.iter().any(|timer| timer.is_named) {
        let names = store.records(RecordScan::all(TIMER_NAME.clone())).await?;
        let holders: HashMap<Bytes, Bytes> =
            names.into_iter().map(|record| (record.key, record.value)).collect();
        let is_held = |timer: &Timer| {
            holders.get(&timer.name_key()).is_some_and(|held| *held == spaces::encode(&timer.holder()))
        };
        timers.retain(|timer| !timer.is_named || is_held(timer));
    }
    Ok(timers)
}

/// When the timer that holds a name is due; none if there is none.
pub(crate) async fn due_of_name(store: &dyn Store, id: &TimerId) -> Result<Option<Timestamp>, Error> {
    let held = store.record(TIMER_NAME.clone(), id.name_key()).await?;
    let holder: Option<Holder> = held.map(|held| spaces::decode("timer name", &held.value)).transpose()?;
    Ok(holder.map(|holder| holder.due))
}

/// The writes that take a name, and the timer that holds it, away.
pub(crate) async fn remove_name(store: &dyn Store, id: &TimerId) -> Result<Vec<RecordWrite>, Error> {
    let Some(due) = due_of_name(store, id).await? else { return Ok(Vec::new()) };
    let timer = RecordWrite::delete(TIMER.clone(), spaces::at_time(due, &[&id.owner, &id.name]));
    Ok(vec![timer, RecordWrite::delete(TIMER_NAME.clone(), id.name_key())])
}

/// When the timer of this record is due. One that cannot be read is due at the millisecond its key says.
fn due_of(record: &Record) -> Timestamp {
    spaces::decode("timer", &record.value)
        .map_or_else(|_| spaces::time_of(&record.key), |timer: Timer| timer.due)
}
