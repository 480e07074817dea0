//! Schedules: what comes again and again, once each time, whatever happens to processes and clocks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensue_core::{Code, Outcome, Timestamp};
use ensue_macros::Event;
use ensue_runtime::timer::Filter;
use ensue_runtime::{App, Missed, Reaction, Schedule, Tick, schedule};
use ensue_test::{Harness, crash_everywhere};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::words::OrderPlaced;

mod processes;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What a tick became.
#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Report", key = schedule)]
struct Reported {
    schedule: String,
    due: Timestamp,
    missed_since: Option<Timestamp>,
}

async fn report(tick: Tick) -> Reported {
    Reported { schedule: tick.schedule, due: tick.due, missed_since: tick.missed_since }
}

/// The schedules that the next start of an application declares.
#[derive(Clone, Default)]
struct Declared(Arc<Mutex<Vec<(&'static str, Schedule)>>>);

impl Declared {
    fn set(&self, schedules: impl IntoIterator<Item = (&'static str, Schedule)>) {
        *self.0.lock().expect("no test panics with it") = schedules.into_iter().collect();
    }

    fn mount(&self, app: App) -> App {
        let schedules = self.0.lock().expect("no test panics with it").clone();
        schedules.into_iter().fold(app, |app, (name, when)| app.schedule(name, when, report))
    }
}

fn declaring(schedules: impl IntoIterator<Item = (&'static str, Schedule)>) -> (Harness, Declared) {
    let declared = Declared::default();
    declared.set(schedules);
    let given = declared.clone();
    (Harness::new(move |app: App| given.mount(app)), declared)
}

fn nightly() -> (Harness, Declared) {
    declaring([("nightly", "0 3 * * *".into())])
}

/// What was reported: when it was due, and since when ticks had been missed.
async fn reports(harness: &Harness) -> Vec<String> {
    let recorded = harness.recorded().await;
    let reported = recorded.iter().filter(|event| event.envelope.event_type.as_str() == "Reported");
    let in_words = |report: Reported| match report.missed_since {
        Some(since) => format!("{} since {}", report.due, since),
        None => report.due.to_string(),
    };
    reported.map(|event| in_words(serde_json::from_slice(&event.envelope.data).expect("a report"))).collect()
}

async fn next_of(harness: &Harness) -> Vec<String> {
    let all = schedule::list(&**harness.store()).await.expect("memory can be read");
    all.iter().map(|one| format!("{} {}", one.schedule, one.next.expect("it goes on"))).collect()
}

// The clock of a harness begins at 10:30 on 15 January 2024, a Monday.

#[tokio::test]
async fn a_schedule_ticks_at_its_times_and_its_next_is_listed() {
    let (mut harness, _) = nightly();
    harness.settle().await;
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-16T03:00:00Z"]);
    harness.advance(16 * HOUR).await;
    assert_eq!(reports(&harness).await, Vec::<String>::new(), "half an hour is left");
    harness.advance(2 * DAY).await;
    assert_eq!(reports(&harness).await, ["2024-01-16T03:00:00Z", "2024-01-17T03:00:00Z"]);
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-18T03:00:00Z"]);
    let recorded = harness.recorded().await;
    let [tick, report, ..] = recorded.as_slice() else { panic!("{recorded:?}") };
    assert_eq!(tick.stream.to_string(), "ensue.schedule/nightly");
    assert_eq!(report.envelope.flow(), &tick.envelope.id, "each tick begins a flow");
    assert_eq!(tick.envelope.time.to_string(), "2024-01-16T03:00:00Z");
    let flows = harness.running().await.flows().await.expect("memory can be read");
    let listed = flows.list(None, 10).await.expect("memory can be read");
    assert_eq!(listed.iter().filter(|flow| flow.flow == tick.envelope.id).count(), 1, "{listed:?}");
}

#[tokio::test]
async fn a_tick_comes_once_whatever_crashes() {
    let crashes = crash_everywhere(
        || nightly().0,
        async |harness: &mut Harness| {
            harness.settle().await;
            harness.advance(2 * DAY).await;
            assert_eq!(reports(harness).await, ["2024-01-16T03:00:00Z", "2024-01-17T03:00:00Z"]);
            assert_eq!(next_of(harness).await, ["nightly 2024-01-18T03:00:00Z"]);
        },
    )
    .await;
    assert!(crashes >= 10, "start, tick and report are commits, each crashed at twice: {crashes}");
}

/// Three schedules of an hour, stopped from 10:30 to 15:00:30.
async fn missed_by(missed: Missed) -> Vec<String> {
    let (mut harness, _) = declaring([("hourly", Schedule::cron("@hourly").missed(missed))]);
    harness.settle().await;
    harness.stop().await;
    harness.clock().advance(4 * HOUR + 30 * MINUTE + Duration::from_secs(30));
    harness.settle().await;
    harness.advance(HOUR).await;
    reports(&harness).await
}

#[tokio::test]
async fn missed_ticks_come_once_all_or_not_at_all() {
    assert_eq!(
        missed_by(Missed::Once).await,
        ["2024-01-15T15:00:00Z since 2024-01-15T11:00:00Z", "2024-01-15T16:00:00Z"]
    );
    let all: Vec<String> = (11..17).map(|hour| format!("2024-01-15T{hour}:00:00Z")).collect();
    assert_eq!(missed_by(Missed::All).await, all);
    let not_missed = ["2024-01-15T15:00:00Z", "2024-01-15T16:00:00Z"];
    assert_eq!(missed_by(Missed::Skip).await, not_missed, "half a minute late is not missed");
}

#[tokio::test]
async fn a_tick_that_is_skipped_is_skipped_although_no_other_has_come_since() {
    let (mut harness, _) = declaring([("nightly", Schedule::cron("0 3 * * *").missed(Missed::Skip))]);
    harness.settle().await;
    harness.stop().await;
    harness.clock().advance(17 * HOUR);
    harness.settle().await;
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-17T03:00:00Z"]);
    harness.advance(DAY).await;
    assert_eq!(reports(&harness).await, ["2024-01-17T03:00:00Z"]);
}

#[tokio::test]
async fn of_too_many_missed_ticks_the_latest_come() {
    let (mut harness, _) = declaring([("often", Schedule::cron("* * * * *").missed(Missed::All))]);
    harness.settle().await;
    harness.stop().await;
    harness.clock().advance(30 * DAY);
    harness.settle().await;
    let reports = reports(&harness).await;
    assert_eq!(reports.len(), schedule::CAUGHT_UP_MAX);
    assert_eq!(reports.first().map(String::as_str), Some("2024-02-13T17:51:00Z since 2024-01-15T10:31:00Z"));
    assert_eq!(reports.last().map(String::as_str), Some("2024-02-14T10:30:00Z"));
}

#[tokio::test]
async fn another_expression_counts_from_the_start_that_brings_it_and_a_schedule_that_is_gone_ends() {
    let (mut harness, declared) =
        declaring([("nightly", "0 3 * * *".into()), ("weekly", "0 9 * * mon".into())]);
    harness.settle().await;
    harness.restart().await;
    harness.settle().await;
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-16T03:00:00Z", "weekly 2024-01-22T09:00:00Z"]);
    declared.set([("nightly", Schedule::cron("0 4 * * *").zone("Europe/Zurich"))]);
    harness.restart().await;
    harness.settle().await;
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-16T03:00:00Z"], "three in UTC is four in Zurich");
    declared.set([("nightly", "0 5 * * *".into())]);
    harness.restart().await;
    harness.advance(10 * DAY).await;
    let reports = reports(&harness).await;
    assert!(reports.iter().all(|due| due.ends_with("T05:00:00Z")) && reports.len() == 10, "{reports:?}");
    declared.set([]);
    harness.restart().await;
    harness.advance(10 * DAY).await;
    let ticks = harness.recorded().await.len();
    assert_eq!((ticks, next_of(&harness).await), (20, Vec::new()), "ten ticks, ten reports, and then none");
}

#[tokio::test]
async fn by_the_clock_on_the_wall_it_is_half_past_two_also_when_the_clocks_change() {
    let (mut harness, _) = declaring([("nightly", Schedule::cron("30 2 * * *").zone("Europe/Zurich"))]);
    harness.settle().await;
    for _ in 0..300 {
        harness.clock().advance(DAY);
        harness.settle().await;
    }
    let reports = reports(&harness).await;
    assert_eq!(reports.len(), 300, "once a day");
    let around = |day: &str| reports.iter().find(|due| due.starts_with(day)).map_or("", |due| &due[11..16]);
    assert_eq!(
        [around("2024-03-30"), around("2024-03-31"), around("2024-04-01")],
        ["01:30", "01:30", "00:30"]
    );
    assert_eq!(
        [around("2024-10-26"), around("2024-10-27"), around("2024-10-28")],
        ["00:30", "00:30", "01:30"]
    );
}

#[tokio::test]
async fn a_wall_clock_that_jumps_brings_no_tick_twice() {
    let (mut harness, _) = nightly();
    harness.settle().await;
    harness.advance(17 * HOUR).await;
    assert_eq!(reports(&harness).await, ["2024-01-16T03:00:00Z"]);
    // Back to before the tick: it has come.
    harness.clock().set_wall_clock(SignedDuration::from_hours(-12));
    harness.advance(13 * HOUR).await;
    assert_eq!(reports(&harness).await, ["2024-01-16T03:00:00Z"]);
    // Three days ahead, within a second one comes for all.
    harness.clock().set_wall_clock(SignedDuration::from_hours(72));
    harness.advance(Duration::from_secs(1)).await;
    assert_eq!(
        reports(&harness).await,
        ["2024-01-16T03:00:00Z", "2024-01-19T03:00:00Z since 2024-01-17T03:00:00Z"]
    );
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-20T03:00:00Z"]);
}

#[tokio::test]
async fn a_tick_that_fails_is_a_dead_letter_and_the_schedule_goes_on() {
    async fn fussy(tick: Tick) -> Outcome {
        if tick.due.to_string().starts_with("2024-01-16") {
            Outcome::Reject("not on a Tuesday".to_owned())
        } else {
            Outcome::Ack
        }
    }
    let mut harness = Harness::new(|app: App| app.schedule("nightly", "0 3 * * *", fussy.retry(1)));
    harness.settle().await;
    harness.advance(DAY).await;
    let letters = harness.dead_letters().await;
    assert_eq!(
        letters.iter().map(|letter| letter.handler.as_str()).collect::<Vec<_>>(),
        ["schedule.nightly"]
    );
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-17T03:00:00Z"]);
}

#[tokio::test]
async fn an_operator_brings_a_tick_at_once_and_cannot_cancel_the_schedule_by_its_timer() {
    let (mut harness, _) = nightly();
    harness.settle().await;
    let timers = harness.running().await.timers();
    let [timer] = timers.list(&Filter::default()).await.expect("memory can be read").try_into().expect("one");
    let refused = timers.cancel(&timer.id(), "no more").await.expect_err("the schedule would end");
    assert_eq!(refused.code(), Code::TIMER_AWAITED);
    timers.fire(&timer.id(), "a report for the visitors").await.expect("it is set");
    harness.settle().await;
    assert_eq!(reports(&harness).await, ["2024-01-15T10:30:00Z"]);
    assert_eq!(next_of(&harness).await, ["nightly 2024-01-16T03:00:00Z"]);
}

async fn other(_: OrderPlaced) {}

#[tokio::test]
async fn what_is_no_schedule_is_refused_by_check_and_shown() {
    let refusal =
        |when: Schedule| App::new("shop").schedule("nightly", when, report).check().expect_err("wrong");
    let error = refusal("0 25 * * *".into());
    assert_eq!(error.code(), Code::INVALID_SCHEDULE);
    assert_eq!(error.message(), "schedule `nightly`: no hour: use 0 to 23\n  0 25 * * *\n    ^^");
    let error = refusal(Schedule::cron("@daily").zone("Europe/Zurick"));
    assert_eq!(error.message(), "schedule `nightly`: there is no time zone `Europe/Zurick`");
    let error = App::new("shop").schedule("nightly", "@daily", other).check().expect_err("no tick");
    assert_eq!(error.message(), "schedule `nightly`: its reaction takes OrderPlaced, not a tick");
    let error = App::new("shop").schedule("by night", "@daily", report).check().expect_err("no name");
    assert_eq!(error.code(), Code::INVALID_NAME);
}
