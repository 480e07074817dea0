//! Schedules: reactions to time, again and again, as a cron expression says.
//!
//! The next tick of a schedule is a timer. When it is due, the commit that removes it puts a [`Tick`] into the log and sets
//! the timer of the tick after that; so a tick comes once, however many processes run, and no failure of a handler ends
//! its schedule. When it is due is on record, so that any process that fires timers can go on with it.

use std::fmt;

use ensue_core::{
    Append, Code, Commit, Draft, Error, Event, EventInfo, Expected, RecordScan, RecordWrite, Recorded, Store,
    StoreExt, Timestamp,
};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::effects::Effects;
use crate::spaces::{self, SCHEDULE};
use crate::subscription::Shared;
use crate::timer::{self, Action, Timer, TimerId};

mod cron;
mod mount;

use cron::Cron;
pub(crate) use mount::{TicksOf, subscription_name};

/// Most ticks that are made up for one by one; of more, the latest are.
pub const CAUGHT_UP_MAX: usize = 1_000;
/// A tick that is later than this was missed.
const LATE_MAX: SignedDuration = SignedDuration::from_secs(60);
/// The name of the timer of the next tick.
const NEXT: &str = "next";

/// What happens to ticks that came due while nothing ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// The latest of them comes, late, for all.
    #[default]
    Once,
    /// Each of them comes, late; at most the latest [`CAUGHT_UP_MAX`].
    All,
    /// None of them comes. One that is at most a minute late was not missed.
    Skip,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Once => "once",
            Self::All => "all",
            Self::Skip => "skip",
        })
    }
}

/// When something is due, again and again. A cron expression alone is in UTC, and makes up for missed ticks once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    cron: String,
    zone: String,
    missed: Missed,
}

impl From<&str> for Schedule {
    fn from(cron: &str) -> Self {
        Self::cron(cron)
    }
}

impl Schedule {
    /// Five fields: minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`, `@monthly`,
    /// `@yearly`.
    pub fn cron(cron: &str) -> Self {
        Self { cron: cron.to_owned(), zone: "UTC".to_owned(), missed: Missed::default() }
    }

    /// By the clock on the wall of this time zone, such as `Europe/Zurich`. A time that the change to summer time skips is due
    /// when the clocks have moved; one that comes twice is due once, unless every hour is meant. The rules of time zones
    /// are part of the program, the same on every machine.
    #[must_use]
    pub fn zone(mut self, name: &str) -> Self {
        name.clone_into(&mut self.zone);
        self
    }

    /// What happens to ticks that came due while nothing ran.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// The rule behind the words; `E0111` if they are none.
    fn rule(&self) -> Result<Rule, Error> {
        let zone = TimeZone::get(&self.zone).map_err(|_| {
            Error::new(
                Code::INVALID_SCHEDULE,
                format!("there is no time zone `{}`", self.zone.escape_debug()),
            )
            .with_fix("use a name of the IANA database, such as `Europe/Zurich` or `UTC`")
        })?;
        Ok(Rule { cron: self.cron.parse()?, zone, missed: self.missed })
    }

    /// Whether it can be a schedule of this name; `E0111` if not, with the place where the expression is wrong.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.rule().map(|_| ()).map_err(|error| {
            let message = format!("schedule `{name}`: {}", error.message());
            Error::new(error.code(), message).with_fix(error.fix())
        })
    }
}

/// When a schedule is due.
struct Rule {
    cron: Cron,
    zone: TimeZone,
    missed: Missed,
}

impl Rule {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next_after(after, &self.zone)
    }

    /// The ticks that come at `now`, where the first that has not come was due at `since`.
    fn ticks(&self, schedule: &str, since: Timestamp, now: Timestamp) -> Vec<Tick> {
        let count = if self.missed == Missed::All { CAUGHT_UP_MAX } else { 1 };
        let mut due = self.cron.latest(since, now, &self.zone, count);
        if due.len() < count {
            due.insert(0, since);
        }
        due.retain(|due| self.missed != Missed::Skip || now.duration_since(*due) <= LATE_MAX);
        let ticks = due.iter().enumerate().map(|(index, due)| Tick {
            schedule: schedule.to_owned(),
            due: *due,
            missed_since: Some(since)
                .filter(|since| index == 0 && since < due && self.missed != Missed::Skip),
        });
        ticks.collect()
    }
}

/// A tick of a schedule: an event in the schedule's stream `ensue.schedule/NAME`, which begins a flow of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tick {
    /// Which schedule.
    pub schedule: String,
    /// When it was due.
    pub due: Timestamp,
    /// If it stands for earlier ones that were missed: when the first of those was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<Timestamp>,
}

impl Event for Tick {
    const INFO: EventInfo =
        EventInfo { event_type: "ensue.Tick", version: 1, topic: "ensue.schedule", key_field: "schedule" };

    fn key(&self) -> String {
        self.schedule.clone()
    }
}

/// A schedule as it is on record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stored {
    application: SmolStr,
    #[serde(flatten)]
    when: Schedule,
}

/// A schedule as it is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub schedule: SmolStr,
    /// The application that declares it.
    pub application: SmolStr,
    /// The expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// What happens to missed ticks.
    pub missed: Missed,
    /// When it is due next.
    pub next: Option<Timestamp>,
}

/// Every schedule of a store, by name.
pub async fn list(store: &dyn Store) -> Result<Vec<Listed>, Error> {
    let mut all = Vec::new();
    for record in store.records(RecordScan::all(SCHEDULE.clone())).await? {
        let Stored { application, when } = spaces::decode("schedule", &record.value)?;
        let schedule = SmolStr::from(String::from_utf8_lossy(&record.key));
        let next = timer::due_of_name(store, &timer_id(&schedule)).await?;
        let Schedule { cron, zone, missed } = when;
        all.push(Listed { schedule, application, cron, zone, missed, next });
    }
    Ok(all)
}

/// Whether an event is a tick.
pub(crate) fn is_tick(recorded: &Recorded) -> bool {
    recorded.envelope.event_type.as_str() == Tick::INFO.event_type
}

fn timer_id(schedule: &str) -> TimerId {
    TimerId::event::<Tick>(schedule, NEXT)
}

/// Puts the schedules of an application on record in place of those that it had. One that is new, or due at other times than
/// before, begins now; one that is no longer there ends. Of processes with different ones, the one that started last has its
/// way.
pub(crate) async fn declare(shared: &Shared, schedules: &[(String, Schedule)]) -> Result<(), Error> {
    let store = &*shared.store;
    let application = SmolStr::from(shared.press.source.as_str());
    let mut records = Vec::new();
    for record in store.records(RecordScan::all(SCHEDULE.clone())).await? {
        let name = String::from_utf8_lossy(&record.key).into_owned();
        let stored: Stored = spaces::decode("schedule", &record.value)?;
        let is_over = stored.application == application && schedules.iter().all(|(kept, _)| *kept != name);
        if is_over {
            records.push(RecordWrite::delete(SCHEDULE.clone(), record.key));
            records.extend(timer::remove_name(store, &timer_id(&name)).await?);
        }
    }
    for (name, when) in schedules {
        let stored = Stored { application: application.clone(), when: when.clone() };
        records.extend(begin(shared, name, &stored).await?);
    }
    if !records.is_empty() {
        store.commit(Commit { records, ..Commit::default() }).await?;
    }
    Ok(())
}

/// The writes that put a schedule on record and set its next tick; none if it is there as it should be.
async fn begin(shared: &Shared, name: &str, stored: &Stored) -> Result<Vec<RecordWrite>, Error> {
    let store = &*shared.store;
    let earlier = store.record(SCHEDULE.clone(), name.to_owned()).await?;
    let earlier: Option<Stored> =
        earlier.map(|record| spaces::decode("schedule", &record.value)).transpose()?;
    let times = |stored: &Stored| (stored.when.cron.clone(), stored.when.zone.clone());
    let is_set = timer::due_of_name(store, &timer_id(name)).await?.is_some();
    let mut records = Vec::new();
    if earlier.as_ref() != Some(stored) {
        records.push(RecordWrite::put(SCHEDULE.clone(), name.to_owned(), spaces::encode(stored)));
    }
    if !is_set || earlier.as_ref().map(times) != Some(times(stored)) {
        records.extend(timer::remove_name(store, &timer_id(name)).await?);
        let due = stored.when.rule()?.next_after(shared.press.host.clock.now());
        let next = due.map(|due| next_tick(shared, name, due));
        // The new timer may be due when the old one was: one record is written once.
        let mut effects = Effects { records, ..Effects::default() };
        next.iter().flat_map(Timer::writes).for_each(|write| effects.put(write));
        records = effects.records;
    }
    Ok(records)
}

fn next_tick(shared: &Shared, schedule: &str, due: Timestamp) -> Timer {
    let TimerId { owner, name } = timer_id(schedule);
    let life = shared.press.host.event_id();
    let (generation, flow, cause) = (life.clone(), life.clone(), life);
    Timer { owner, generation, name, due, flow, cause, action: Action::Tick, is_named: true }
}

/// What the timer of a schedule does: ticks go into the log, and the next timer is set. Nothing, if the schedule is over.
pub(crate) async fn tick(
    shared: &Shared,
    timer: &Timer,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), Error> {
    let name = timer.owner.split_once('/').map_or("", |(_, name)| name);
    let Some(record) = shared.store.record(SCHEDULE.clone(), name.to_owned()).await? else {
        return Ok(());
    };
    let stored: Stored = spaces::decode("schedule", &record.value)?;
    let rule = stored.when.rule()?;
    for tick in rule.ticks(name, timer.due, now) {
        let (stream, envelope) = shared.press.first(Draft::of(&tick)?, None);
        effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
    }
    if let Some(due) = rule.next_after(now) {
        next_tick(shared, name, due).writes().for_each(|write| effects.put(write));
    }
    Ok(())
}
