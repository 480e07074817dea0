//! The traps of event-driven systems, and for each the tests that turn red when its guard is removed from the runtime:
//! each was seen to. Tests without a file are below.
//!
//! - *Parallel relays reorder a key*, here lanes: `lanes_that_have_everything_in_hand_at_once_keep_the_order_of_each_key`.
//! - *One poison row blocks an outbox*, *poison blocks a partition or is skipped silently*:
//!   `delivery::later_events_of_a_parked_key_wait_and_other_keys_go_on`.
//! - *Effects published before the state is visible*, *checkpoint and effect in two places*:
//!   `choreography::events_and_checkpoint_are_one_commit_and_a_refused_one_leaves_neither`.
//! - *Effects never published, after retries run out*: `what_a_handler_causes_is_not_lost_when_its_retries_run_out`.
//! - *Zombie consumers commit*: `choreography::of_two_processes_on_one_store_only_one_settles`,
//!   `sharing::chance::whatever_happens_to_processes_each_event_is_settled_once_and_in_order`; and one that is taken for a
//!   zombie though it is none: `choreography::a_lost_reply_of_a_settlement_doubles_nothing`.
//! - *One tenant's flood holds up the others*: `pressure::fair::one_event_waits_for_one_turn_of_a_tenant_with_a_hundred_thousand`,
//!   `pressure::fair::a_tenant_over_its_quota_lets_the_others_go_on_in_the_same_lane`.
//! - *Timers fire twice*: `timers::misfortune::two_processes_that_fire_at_the_same_moment_fire_once`,
//!   `timers::misfortune::cancelled_while_it_fires_it_is_cancelled_or_fired_and_never_both`, `a_deadline_ends_a_wait_once_whatever_goes_wrong`,
//!   `saga::waiting::a_sleep_ends_once_at_its_time_whatever_crashes`; *after completion*:
//!   `a_timer_of_what_is_over_changes_nothing_whatever_goes_wrong`; *for a recycled id*: the same,
//!   `timers::delayed::a_name_is_held_by_the_newest_timer`, and
//!   `saga::late::the_deadline_of_one_attempt_does_not_end_the_next`.
//! - *Compensation races a late success*: `saga::late::a_success_after_the_deadline_is_undone_too`,
//!   `saga::late::a_success_at_the_moment_of_the_deadline_is_used_or_undone`.
//! - *Deduplication window shorter than the dead-letter age*: at the door
//!   `repetitions::the_id_of_a_parked_event_does_not_lapse_while_its_letter_lives`, and for effects outside the store
//!   `a_dead_letter_older_than_any_deduplication_window_is_still_recognised`.
//! - *Replay sends e-mails again*: `a_rebuilt_read_model_sends_no_mail_again`,
//!   `fork::a_fork_without_a_change_is_the_same_and_touches_nothing`,
//!   `fork::the_code_of_a_saga_runs_in_a_fork_and_its_effects_come_from_the_record`.
//! - *A filtered subscription never advances*: `a_subscription_stores_that_it_is_past_events_that_are_not_its_own`,
//!   `choreography::a_subscription_moves_on_over_events_that_are_not_its_own`.
//! - *Upcasting forgotten on dead letters*: `upcasting::a_dead_letter_is_redriven_in_the_newest_version`; *on snapshots*:
//!   `upcasting::an_aggregate_and_its_snapshot_hold_the_newest_version`,
//!   `aggregates::a_snapshot_saves_reading_and_one_of_another_shape_is_ignored`; *on saga state*:
//!   `upcasting::a_saga_starts_with_the_newest_version`,
//!   `upcasting::a_saga_that_waits_gets_the_newest_version_also_when_it_is_replayed`.
//! - *Trace context taken at dispatch instead of at append*:
//!   `the_trace_of_an_event_is_that_of_its_cause_however_late_it_is_handled`,
//!   `what_a_saga_does_after_a_sleep_is_in_the_trace_of_what_began_it`.
//! - *Saga not found treated as success*: `an_answer_to_a_saga_that_nobody_started_is_not_taken_for_success`,
//!   `a_redrive_of_something_that_is_not_there_is_not_taken_for_success`.
//! - *Retry in memory holding a slot*, here a lane: `timers::deferred::a_long_pause_between_attempts_does_not_hold_the_lane`.
//!
//! Not here: *sequence gaps on SQL stores skip events* comes with the stores on SQL, and the slots of brokers with the links.

use std::time::Duration;

use ensue_core::{
    Append, Commit, ContentType, Envelope, EventId, EventType, Expected, RecordWrite, Source, Space, Store,
    StreamName, Trace,
};
use ensue_runtime::projection::Load;
use ensue_runtime::saga::SagaStatus;
use ensue_runtime::{App, Cause, Projection, Reaction, Saga, SagaError, State, context, dead, sharing};
use ensue_test::{Harness, explore};

use crate::words::{Broken, Diary, OrderPlaced, PaymentCompleted, StockReserved, Tick, placed};

const DAY: Duration = Duration::from_hours(24);

/// An envelope as somebody else may have written it.
fn foreign(id: &str, event_type: &str, body: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("valid"),
        source: Source::new("elsewhere").expect("valid"),
        event_type: EventType::new(event_type).expect("valid"),
        schema_version: 1,
        time: ensue_core::Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: body.to_owned().into(),
    }
}

fn tick_of(key: &str, number: u32) -> (StreamName, Envelope) {
    let body = format!(r#"{{"key":"{key}","number":{number}}}"#);
    (StreamName::new("Tick", key).expect("valid"), foreign(&format!("tick-{key}{number}"), "Tick", &body))
}

/// Stores events in one commit, so that whoever reads them finds all of them at once.
async fn store(harness: &Harness, events: Vec<(StreamName, Envelope)>) {
    let append = |(stream, envelope)| Append { stream, expected: Expected::Any, events: vec![envelope] };
    let commit = Commit { appends: events.into_iter().map(append).collect(), ..Commit::default() };
    harness.store().commit(commit).await.expect("a store takes every event");
}

/// Takes money, and breaks down until it is mended: in the diary stands what was asked for under which key.
async fn charge(
    State(diary): State<Diary>,
    cause: Cause,
    placed: OrderPlaced,
) -> Result<PaymentCompleted, Broken> {
    diary.note(cause.idempotency_key());
    if diary.count("mended") == 0 {
        return Err(Broken("the provider is away"));
    }
    Ok(PaymentCompleted { order: placed.order })
}

fn shop(diary: &Diary) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        app.state(diary.clone()).external::<OrderPlaced>().react("charge", charge.retry(2))
    })
}

#[tokio::test]
async fn what_a_handler_causes_is_not_lost_when_its_retries_run_out() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.assert_events(["OrderPlaced"]).await;
    shop.assert_parked(["charge/ORD-1: E0301"]).await;
    diary.note("mended");
    assert_eq!(shop.redrive("charge", "ORD-1").await, 1);
    shop.settle().await;
    shop.assert_events(["OrderPlaced", "PaymentCompleted"]).await;
}

#[tokio::test]
async fn a_dead_letter_older_than_any_deduplication_window_is_still_recognised() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    let id = EventId::new("evt-1").expect("valid");
    shop.publish_as(id, placed("ORD-1")).await.expect("it is taken");
    shop.settle().await;
    shop.advance(DAY * 400).await;
    diary.note("mended");
    shop.redrive("charge", "ORD-1").await;
    shop.settle().await;
    shop.assert_events(["OrderPlaced", "PaymentCompleted"]).await;
    let mut keys = diary.lines();
    keys.retain(|line| line != "mended");
    assert_eq!(keys.len(), 3, "two attempts, and the redrive");
    assert!(keys.iter().all(|key| *key == "charge/evt-1"), "one key for the provider to recognise: {keys:?}");
}

/// A read model: the cents of each order.
struct Cents;

impl Projection for Cents {
    const NAME: &'static str = "cents";
    type Event = OrderPlaced;
    type Document = u64;

    fn key(&self, event: &OrderPlaced) -> Option<String> {
        Some(event.order.clone())
    }

    fn apply(&self, document: &mut Option<u64>, event: &OrderPlaced, _: &context::Meta) {
        *document = Some(event.cents);
    }
}

#[tokio::test]
async fn a_rebuilt_read_model_sends_no_mail_again() {
    async fn confirm(State(mails): State<Diary>, placed: OrderPlaced) {
        mails.note(placed.order);
    }
    let mails = Diary::default();
    let sent = mails.clone();
    let mut shop = Harness::new(move |app: App| {
        app.state(sent.clone()).external::<OrderPlaced>().react("confirm", confirm).project(Cents)
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let spoilt = RecordWrite::put(Space::new("view.cents.1").expect("valid"), "ORD-1", "7");
    let commit = Commit { records: vec![spoilt], ..Commit::default() };
    shop.store().commit(commit).await.expect("a store takes every record");
    let rebuilt =
        shop.running().await.projections().rebuild("cents", Load::Full).await.expect("it can be rebuilt");
    let repaired = rebuilt.difference.expect("the same version");
    assert_eq!(repaired.different, ["ORD-1"], "it was built from the log");
    shop.restart().await;
    shop.settle().await;
    let cents = shop.view::<Cents>().get("ORD-1").await.expect("documents can be read");
    assert_eq!((cents, mails.lines()), (Some(5_998), vec!["ORD-1".to_owned()]));
}

/// An order comes in from outside, in a trace.
async fn admit_traced(shop: &mut Harness) -> Trace {
    let trace = Trace {
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ..Trace::default()
    };
    let body = r#"{"order":"ORD-1","cents":5998}"#;
    let envelope = Envelope { trace: Some(Box::new(trace.clone())), ..foreign("evt-1", "OrderPlaced", body) };
    let stream = StreamName::new("Order", "ORD-1").expect("valid");
    shop.running().await.door().admit(stream, envelope).await.expect("it is taken");
    trace
}

#[tokio::test]
async fn the_trace_of_an_event_is_that_of_its_cause_however_late_it_is_handled() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    let trace = admit_traced(&mut shop).await;
    shop.settle().await;
    shop.restart().await;
    diary.note("mended");
    shop.redrive("charge", "ORD-1").await;
    shop.settle().await;
    let recorded = shop.recorded().await;
    let [_, paid] = recorded.as_slice() else { panic!("{recorded:?}") };
    assert_eq!(paid.envelope.trace.as_deref(), Some(&trace));
}

#[tokio::test]
async fn what_a_saga_does_after_a_sleep_is_in_the_trace_of_what_began_it() {
    async fn sleepy(saga: Saga<OrderPlaced>) -> Result<PaymentCompleted, SagaError> {
        saga.sleep("think", DAY).await?;
        Ok(PaymentCompleted { order: saga.key().to_owned() })
    }
    let mut shop = Harness::new(|app: App| app.external::<OrderPlaced>().saga("sleepy", sleepy));
    let trace = admit_traced(&mut shop).await;
    shop.settle().await;
    shop.restart().await;
    shop.advance(DAY * 2).await;
    let recorded = shop.recorded().await;
    let paid = recorded.iter().find(|event| event.envelope.event_type.as_str() == "PaymentCompleted");
    assert_eq!(paid.expect("it woke up").envelope.trace.as_deref(), Some(&trace));
}

/// Waits for a payment for a day.
async fn patient(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    saga.wait_for::<PaymentCompleted>(saga.key()).within(DAY).await?;
    Ok(())
}

fn patient_shop() -> Harness {
    Harness::new(|app: App| {
        app.external::<OrderPlaced>()
            .external::<PaymentCompleted>()
            .external::<StockReserved>()
            .saga("fulfil", patient)
    })
}

#[tokio::test]
async fn an_answer_to_a_saga_that_nobody_started_is_not_taken_for_success() {
    let mut shop = patient_shop();
    shop.running().await;
    let stray = foreign(
        "evt-1",
        "saga.ReplyReceived",
        r#"{"ReplyReceived":{"step":"charge","ok":true,"body":null}}"#,
    );
    let stream = StreamName::new("saga.fulfil", "ORD-404").expect("valid");
    let append = Append { stream, expected: Expected::Any, events: vec![stray] };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    shop.store().commit(commit).await.expect("a store takes every event");
    shop.settle().await;
    shop.assert_parked(["saga.fulfil/ORD-404: E0412"]).await;
    assert_eq!(shop.saga("fulfil", "ORD-404").await, None);
}

#[tokio::test]
async fn a_redrive_of_something_that_is_not_there_is_not_taken_for_success() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    let (which, letters) = (dead::Which::key("charge", "ORD-404"), shop.running().await.dead());
    let missing = letters.redrive(&which).await.expect_err("nothing is parked");
    assert_eq!(missing.code(), ensue_core::Code::NOT_FOUND);
    let missing = letters.discard(&which, "tidy up").await.expect_err("nothing is parked");
    assert_eq!(missing.code(), ensue_core::Code::NOT_FOUND);
}

#[tokio::test]
async fn a_timer_of_what_is_over_changes_nothing_whatever_goes_wrong() {
    let explored = explore(60, patient_shop, async |shop: &mut Harness| {
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        shop.publish(PaymentCompleted { order: "ORD-1".into() }).await;
        shop.settle().await;
        // The same key again is not a new instance, and the deadline of the old one is not its own.
        shop.publish(placed("ORD-1")).await;
        shop.advance(DAY * 2).await;
        shop.settle().await;
        shop.assert_saga("fulfil", "ORD-1", SagaStatus::Completed).await;
        let journal = shop.events_of("saga.fulfil/ORD-1").await;
        assert_eq!(journal.iter().filter(|entry| *entry == "saga.TimerFired").count(), 0, "{journal:?}");
        assert_eq!(journal.iter().filter(|entry| *entry == "saga.Started").count(), 1, "{journal:?}");
    });
    let explored = explored.await;
    assert!(explored.crashes > 20, "{explored:?}");
}

#[tokio::test]
async fn a_deadline_ends_a_wait_once_whatever_goes_wrong() {
    let explored = explore(60, patient_shop, async |shop: &mut Harness| {
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        shop.advance(DAY * 2).await;
        shop.settle().await;
        shop.publish(PaymentCompleted { order: "ORD-1".into() }).await;
        shop.settle().await;
        shop.assert_saga("fulfil", "ORD-1", SagaStatus::Compensated).await;
        let journal = shop.events_of("saga.fulfil/ORD-1").await;
        assert_eq!(journal.iter().filter(|entry| *entry == "saga.TimerFired").count(), 1, "{journal:?}");
    });
    assert!(explored.await.crashes > 20);
}

#[tokio::test]
async fn lanes_that_have_everything_in_hand_at_once_keep_the_order_of_each_key() {
    async fn follow(State(diary): State<Diary>, tick: Tick) {
        diary.note(format!("{}{}", tick.key, tick.number));
    }
    for seed in 0..32 {
        let diary = Diary::default();
        let given = diary.clone();
        let build = move |app: App| {
            app.state(given.clone()).external::<Tick>().react("follow", follow.lanes(8).batch(2))
        };
        let mut harness = Harness::new(build).reorder_across_keys(seed);
        let numbers: Vec<u32> = (0..20).collect();
        let ticks = numbers.iter().flat_map(|number| ["a", "b", "c"].map(|key| (key, *number)));
        store(&harness, ticks.map(|(key, number)| tick_of(key, number)).collect()).await;
        harness.settle().await;
        let lines = diary.lines();
        for key in ["a", "b", "c"] {
            let seen = lines.iter().filter_map(|line| line.strip_prefix(key)?.parse().ok());
            assert_eq!(seen.collect::<Vec<u32>>(), numbers, "key {key}, seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_subscription_stores_that_it_is_past_events_that_are_not_its_own() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    shop.settle().await;
    for part in 0..10 {
        store(&shop, (0..1_000).map(|number| tick_of("a", part * 1_000 + number)).collect()).await;
    }
    shop.settle().await;
    let lanes = sharing::lanes(&**shop.store()).await.expect("memory can be read");
    let far: Vec<u64> = lanes.iter().map(|lane| lane.position.0).collect();
    assert!(!far.is_empty() && far.iter().all(|position| *position > 1_000), "read again from {far:?}");
}
