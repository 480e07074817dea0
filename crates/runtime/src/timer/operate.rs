//! What operators, and handlers, do with timers: find, cancel, put off, fire now. Each change is conditional on the
//! timer being what it was when it was found, so that it is changed or fired, never both.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    Append, Code, Commit, CommitError, Draft, Error, Event, EventId, EventType, Expected, Host, Record,
    RecordScan, RecordWrite, Source, Store, StoreExt, StreamName, Timestamp, event,
};
use serde::Serialize;
use smol_str::SmolStr;

use super::{Action, Holder, Timer, TimerId};
use crate::dead::Parked;
use crate::message::{Origin, Press};
use crate::spaces::{self, DEAD, TIMER, TIMER_BROKEN, TIMER_NAME};

/// The timers of a store. Cheap to clone; a handler has it as [`State<Timers>`](crate::State).
#[derive(Clone)]
pub struct Timers {
    store: Arc<dyn Store>,
    press: Press,
    /// Wakes who fires timers, where they run in this process.
    wake: Arc<tokio::sync::Notify>,
}

/// Which timers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Of this flow.
    pub flow: Option<EventId>,
    /// Of this owner: a stream such as `Order/ORD-1` or `saga.fulfil/ORD-1`, or a handler.
    pub owner: Option<SmolStr>,
    /// Due by this time.
    pub due_by: Option<Timestamp>,
}

impl Filter {
    fn admits(&self, timer: &Timer) -> bool {
        self.flow.as_ref().is_none_or(|flow| timer.flow == *flow)
            && self.owner.as_ref().is_none_or(|owner| timer.owner == *owner)
            && self.due_by.is_none_or(|by| timer.due <= by)
    }
}

/// A timer that could not fire, kept aside so that it holds up no other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, serde::Deserialize)]
pub struct Broken {
    /// Its record as it was.
    pub timer: String,
    /// Why: the code.
    pub code: String,
    /// Why, in words.
    pub reason: String,
}

/// The topic of what was done to timers.
pub(crate) const CHANGES: &str = "ensue.timer";

/// What somebody did to a timer, as an event of the timer's flow, in a stream of the topic `ensue.timer`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, serde::Deserialize)]
pub struct TimerChanged {
    /// Which.
    pub timer: TimerId,
    /// When it was due.
    pub due: Timestamp,
    /// When it is due now; none if it was cancelled.
    pub now_due: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl Timers {
    /// The timers of a store that nothing runs on here; `source` names who changes them.
    pub fn of(store: Arc<dyn Store>, host: Host, source: Source) -> Self {
        Self { store, press: Press { host, source }, wake: Arc::default() }
    }

    pub(crate) fn new(store: Arc<dyn Store>, press: Press, wake: Arc<tokio::sync::Notify>) -> Self {
        Self { store, press, wake }
    }

    /// The timers that are set, by due time.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Timer>, Error> {
        super::held(&*self.store, |timer| filter.admits(timer)).await
    }

    /// One timer; `E0414` if it is not set: it has fired, was cancelled, or never was.
    pub async fn get(&self, id: &TimerId) -> Result<Timer, Error> {
        self.find(id).await.map(|(_, timer)| timer)
    }

    /// The timers that could not fire.
    pub async fn broken(&self) -> Result<Vec<Broken>, Error> {
        let records = self.store.records(RecordScan::all(TIMER_BROKEN.clone())).await?;
        records.iter().map(|record| spaces::decode("broken timer", &record.value)).collect()
    }

    /// Cancels a timer: it does not fire any more. `E0414` if it is not set, so whoever cancels knows that it did not
    /// fire. A saga's own timer and a deferred delivery are refused with `E0309`: something waits for them.
    pub async fn cancel(&self, id: &TimerId, reason: &str) -> Result<Timer, Error> {
        loop {
            let (record, timer) = self.find(id).await?;
            timer.can_be_cancelled()?;
            let mut records = vec![removal(&record)];
            records.extend(timer.is_named.then(|| RecordWrite::delete(TIMER_NAME.clone(), timer.name_key())));
            if self.change(&timer, None, reason, records).await? {
                return Ok(timer);
            }
        }
    }

    /// Lets a timer be due at another time. `E0414` if it is not set.
    pub async fn reschedule(&self, id: &TimerId, due: Timestamp, reason: &str) -> Result<Timer, Error> {
        loop {
            let (record, timer) = self.find(id).await?;
            let later = Timer { due, ..timer.clone() };
            let mut records: Vec<RecordWrite> = later.writes().collect();
            if later.key() != record.key {
                records.push(removal(&record));
            } else if let Some(write) = records.first_mut() {
                write.expected = Some(record.revision);
            }
            records.extend(self.put_off_letter(&timer, due).await?);
            if self.change(&timer, Some(due), reason, records).await? {
                return Ok(later);
            }
        }
    }

    /// Lets a timer be due now; a running application fires it at once. `E0414` if it is not set.
    pub async fn fire(&self, id: &TimerId, reason: &str) -> Result<Timer, Error> {
        self.reschedule(id, self.press.host.clock.now(), reason).await
    }

    /// Gives a delayed event another body. It must be of the same type and go to the same stream (`E0106`).
    pub async fn edit<E: Event>(&self, id: &TimerId, event: &E, reason: &str) -> Result<Timer, Error> {
        crate::door::check_rules(event)?;
        let draft = Draft::of(event)?;
        loop {
            let (record, timer) = self.find(id).await?;
            let edited = edited(timer.clone(), &draft)?;
            let records = vec![edited.set().expect(record.revision)];
            if self.change(&timer, Some(timer.due), reason, records).await? {
                return Ok(edited);
            }
        }
    }

    /// The record of a timer. A named one is found by who holds the name.
    async fn find(&self, id: &TimerId) -> Result<(Record, Timer), Error> {
        let parts = [id.owner.as_str(), id.name.as_str()];
        let record = match self.store.record(TIMER_NAME.clone(), spaces::join(&parts)).await? {
            Some(holder) => {
                let holder: Holder = spaces::decode("timer name", &holder.value)?;
                self.store.record(TIMER.clone(), spaces::at_time(holder.due, &parts)).await?
            }
            None => self.search(&spaces::join(&parts)).await?,
        };
        let found = record.and_then(|record| {
            let timer: Timer = spaces::decode("timer", &record.value).ok()?;
            Some((record, timer))
        });
        found.ok_or_else(|| {
            Error::new(Code::NOT_FOUND, format!("no timer `{}` of {} is set", id.name, id.owner))
                .with_fix("it has fired or was cancelled; `ensue timer ls` lists those that are set")
        })
    }

    /// A timer without a name of its own is found by its key, which says all but when it is due: page by page, as many as are
    /// due before it. An index would cost every sleep of a saga a record more, and only operators ask like this.
    async fn search(&self, who: &Bytes) -> Result<Option<Record>, Error> {
        let mut scan = RecordScan::all(TIMER.clone());
        loop {
            let page = self.store.scan(scan.clone()).await?;
            let found = page.records.into_iter().find(|record| {
                record.key.get(spaces::TIME_BYTES..) == Some(who)
                    && spaces::decode("timer", &record.value).is_ok_and(|timer: Timer| !timer.is_named)
            });
            match (found, page.next) {
                (None, Some(next)) => scan.from = next,
                (found, _) => return Ok(found),
            }
        }
    }

    /// A deferred delivery is told when it is made.
    async fn put_off_letter(&self, timer: &Timer, due: Timestamp) -> Result<Option<RecordWrite>, Error> {
        let Action::Deliver { key, position } = &timer.action else { return Ok(None) };
        let place = spaces::at_position(&[&timer.owner, key], *position);
        let Some(record) = self.store.record(DEAD.clone(), place).await? else { return Ok(None) };
        let letter: Parked = spaces::decode("dead letter", &record.value)?;
        let letter = Parked { until: letter.until.map(|_| due), ..letter };
        Ok(Some(letter.write(&timer.owner).expect(record.revision)))
    }

    /// Commits a change with the event that tells of it. False: the timer is not what it was.
    async fn change(
        &self,
        timer: &Timer,
        now_due: Option<Timestamp>,
        reason: &str,
        records: Vec<RecordWrite>,
    ) -> Result<bool, Error> {
        let changed = TimerChanged { timer: timer.id(), due: timer.due, now_due, reason: reason.to_owned() };
        let append = self.told(timer, &changed)?;
        match self.store.commit(Commit { appends: vec![append], records, ..Commit::default() }).await {
            Ok(_) => {
                self.wake.notify_one();
                Ok(true)
            }
            Err(CommitError::RecordConflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn told(&self, timer: &Timer, changed: &TimerChanged) -> Result<Append, Error> {
        let event_type =
            if changed.now_due.is_some() { "ensue.TimerChanged" } else { "ensue.TimerCancelled" };
        let key = EventId::derived(&timer.generation, &format!("{}\0{}", timer.owner, timer.name), 0);
        let stream = StreamName::new(CHANGES, key.as_str())?;
        let draft = Draft {
            stream: stream.clone(),
            event_type: EventType::new(event_type)?,
            schema_version: 1,
            tags: Vec::new(),
            data: event::to_json(event_type, changed)?,
            later: None,
        };
        let origin = Origin {
            cause: timer.cause.clone(),
            flow: timer.flow.clone(),
            trace: None,
            // Each change is an event of its own, whoever repeats it.
            handler: format!("timer/{}", self.press.host.event_id()).into(),
        };
        let (_, envelope) = self.press.caused(draft, &origin, 0);
        Ok(Append { stream, expected: Expected::Any, events: vec![envelope] })
    }
}

impl TimerId {
    /// The timer of a name in the stream of this event and key.
    pub fn event<E: Event>(key: &str, name: &str) -> Self {
        Self { owner: format!("{}/{key}", E::INFO.topic).into(), name: name.into() }
    }
}

impl Timer {
    /// Whether nothing waits for it: `E0309` for a saga's own timer, a deferred delivery, and the next tick of a schedule.
    pub fn can_be_cancelled(&self) -> Result<(), Error> {
        let (what, fix) = match &self.action {
            Action::Append { .. } | Action::Redrive(_) => return Ok(()),
            Action::Tick => (
                "the schedule would end",
                "start the application without the schedule to end it, or put the tick off",
            ),
            Action::Wake => ("the saga would wait for ever", "cancel the saga, or fire the timer"),
            Action::Deliver { .. } => (
                "the delivery would wait for ever",
                "discard the delivery with `ensue dead discard`, or fire the timer",
            ),
        };
        Err(Error::new(Code::TIMER_AWAITED, format!("without its timer `{}` {what}", self.name))
            .with_fix(fix))
    }
}

fn removal(record: &Record) -> RecordWrite {
    RecordWrite::delete(TIMER.clone(), record.key.clone()).expect(record.revision)
}

fn edited(mut timer: Timer, draft: &Draft) -> Result<Timer, Error> {
    let Action::Append { stream, event } = &mut timer.action else {
        return Err(Error::new(Code::RULE_BROKEN, format!("timer `{}` appends no event", timer.name)));
    };
    if (&*stream, &event.event_type) != (&draft.stream, &draft.event_type) {
        return Err(Error::new(
            Code::RULE_BROKEN,
            format!(
                "the timer appends {} to {stream}, not {} to {}",
                event.event_type, draft.event_type, draft.stream
            ),
        ));
    }
    event.schema_version = draft.schema_version;
    event.tags.clone_from(&draft.tags);
    event.data = draft.data.clone();
    Ok(timer)
}
