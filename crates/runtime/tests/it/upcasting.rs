//! Old schema versions, wherever stored events are read: each reader gets the newest version, and says so where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensue_core::event::Body;
use ensue_core::{
    Aggregate, Append, Code, Commit, ContentType, Envelope, EventId, EventType, Expected, Source, Store,
    StreamName, Timestamp, Version,
};
use ensue_macros::{Command, Event};
use ensue_runtime::context::Meta;
use ensue_runtime::door::Registry;
use ensue_runtime::projection::Load;
use ensue_runtime::{Aggregates, App, Projection, Saga, SagaError, State, projection};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Diary, OrderPlaced, placed};

/// What an order costs. Version 1 said it in whole euros, version 2 in cents; version 3 says the currency.
#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Order", key = order, version = 3)]
#[event(upcast(1 = euros_to_cents, 2 = add_currency))]
struct Priced {
    order: String,
    cents: u64,
    currency: String,
}

fn euros_to_cents(body: &mut Body) {
    let euros = body.remove("euros").and_then(|euros| euros.as_u64()).unwrap_or_default();
    body.insert("cents".to_owned(), (euros * 100).into());
}

fn add_currency(body: &mut Body) {
    body.insert("currency".to_owned(), "EUR".into());
}

const HISTORY: [(u32, &str); 3] = [
    (1, r#"{"order":"ORD-1","euros":7}"#),
    (2, r#"{"order":"ORD-1","cents":80}"#),
    (3, r#"{"order":"ORD-1","cents":9,"currency":"CHF"}"#),
];

/// What a reader that upcasts has seen of [`HISTORY`].
const SEEN: [&str; 3] = ["700 EUR", "80 EUR", "9 CHF"];

fn envelope(version: u32, body: &str) -> Envelope {
    Envelope {
        id: EventId::new(format!("evt-{version}")).expect("valid"),
        source: Source::new("old").expect("valid"),
        event_type: EventType::new("Priced").expect("valid"),
        schema_version: version,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: body.to_owned().into(),
    }
}

async fn store(harness: &Harness, history: &[(u32, &str)]) {
    for (version, body) in history {
        let stream = StreamName::new("Order", "ORD-1").expect("valid");
        let append = Append { stream, expected: Expected::Any, events: vec![envelope(*version, body)] };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        harness.store().commit(commit).await.expect("it is taken");
    }
}

fn said(event: &Priced) -> String {
    format!("{} {}", event.cents, event.currency)
}

/// The sum of all prices and the newest currency.
struct Totals;

impl Projection for Totals {
    const NAME: &'static str = "totals";
    type Event = Priced;
    type Document = Vec<String>;

    fn key(&self, event: &Priced) -> Option<String> {
        Some(event.order.clone())
    }

    fn apply(&self, document: &mut Option<Vec<String>>, event: &Priced, _: &Meta) {
        document.get_or_insert_default().push(said(event));
    }
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order, failure = String)]
struct Reprice {
    order: String,
    cents: u64,
}

/// Remembers every price; kept as a snapshot with every event.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Prices(Vec<String>);

impl Aggregate for Prices {
    type Event = Priced;
    type Command = Reprice;
    type Error = String;
    const TOPIC: &'static str = "Order";

    fn decide(&self, command: Reprice) -> Result<Vec<Priced>, String> {
        Ok(vec![Priced { order: command.order, cents: command.cents, currency: self.0.len().to_string() }])
    }

    fn evolve(&mut self, event: &Priced) {
        self.0.push(said(event));
    }
}

async fn note(State(diary): State<Diary>, event: Priced) {
    diary.note(said(&event));
}

async fn note_saga(saga: Saga<Priced>, State(diary): State<Diary>) -> Result<(), SagaError> {
    let input = saga.input();
    let effect = move |_| async move {
        diary.note(said(&input));
        Ok::<_, Broken>(())
    };
    saga.step("note", effect).nothing_to_undo().await
}

async fn waiting_saga(saga: Saga<OrderPlaced>, State(diary): State<Diary>) -> Result<(), SagaError> {
    for _ in HISTORY {
        let price = saga.wait_for::<Priced>("ORD-1").await?;
        let diary = diary.clone();
        let effect = move |_| async move {
            diary.note(said(&price));
            Ok::<_, Broken>(())
        };
        saga.step("note", effect).nothing_to_undo().await?;
    }
    Ok(())
}

fn harness(diary: &Diary, mount: impl Fn(App) -> App + 'static) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| mount(app.state(diary.clone()).external::<Priced>()))
}

#[tokio::test]
async fn a_reaction_gets_the_newest_version() {
    let diary = Diary::default();
    let mut harness = harness(&diary, |app| app.react("note", note));
    store(&harness, &HISTORY).await;
    harness.settle().await;
    assert_eq!(diary.lines(), SEEN);
}

#[tokio::test]
async fn a_read_model_its_comparison_and_its_rebuild_get_the_newest_version() {
    let mut harness = harness(&Diary::default(), |app| app.project(Totals));
    store(&harness, &HISTORY).await;
    harness.settle().await;
    assert_eq!(harness.view::<Totals>().get("ORD-1").await.expect("it can be read").expect("there"), SEEN);
    let store: Arc<dyn Store> = harness.store().clone();
    let found = projection::verify(Totals, store).await.expect("it can be read");
    assert!(found.is_none() && found.documents == 1, "{found:?}");
    harness.running().await.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert_eq!(harness.view::<Totals>().get("ORD-1").await.expect("it can be read").expect("there"), SEEN);
}

#[tokio::test]
async fn an_aggregate_and_its_snapshot_hold_the_newest_version() {
    let mut harness = harness(&Diary::default(), App::aggregate::<Prices>);
    store(&harness, &HISTORY).await;
    let accounts = Aggregates::<Prices>::new(harness.store().clone());
    assert_eq!(accounts.load("ORD-1").await.expect("it loads").state.0, SEEN);
    for (version, seen) in (1..).zip(SEEN) {
        let then = accounts.at_version("ORD-1", Version(version)).await.expect("it loads");
        assert_eq!(then.state.0.last().map(String::as_str), Some(seen));
    }
    harness.dispatch(Reprice { order: "ORD-1".into(), cents: 5 }).await.expect("it is taken");
    let now = accounts.load("ORD-1").await.expect("it loads").state.0;
    assert_eq!(now.last().map(String::as_str), Some("5 3"), "it was decided on the three before");
}

#[tokio::test]
async fn a_saga_starts_with_the_newest_version() {
    let diary = Diary::default();
    let mut harness = harness(&diary, |app| app.saga("note", note_saga));
    store(&harness, &HISTORY[..1]).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["700 EUR"]);
}

#[tokio::test]
async fn a_saga_that_waits_gets_the_newest_version_also_when_it_is_replayed() {
    let diary = Diary::default();
    let mut harness = harness(&diary, |app| app.external::<OrderPlaced>().saga("wait", waiting_saga));
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    for event in HISTORY.chunks(1) {
        store(&harness, event).await;
        harness.settle().await;
        harness.restart().await;
    }
    assert_eq!(diary.lines(), SEEN);
}

#[tokio::test]
async fn a_dead_letter_is_redriven_in_the_newest_version() {
    let (diary, is_mended) = (Diary::default(), Arc::new(AtomicBool::new(false)));
    let mended = is_mended.clone();
    let fussy = move |State(diary): State<Diary>, event: Priced| {
        let is_mended = mended.load(Ordering::Relaxed);
        async move {
            if !is_mended {
                return Err(Broken("not yet"));
            }
            diary.note(said(&event));
            Ok(())
        }
    };
    let mut harness = harness(&diary, move |app| app.react("fussy", fussy.clone()));
    store(&harness, &HISTORY).await;
    harness.settle().await;
    assert_eq!((harness.dead_letters().await.len(), diary.lines().len()), (3, 0));
    is_mended.store(true, Ordering::Relaxed);
    harness
        .running()
        .await
        .dead()
        .redrive(&ensue_runtime::dead::Which::key("fussy", "ORD-1"))
        .await
        .expect("they are there");
    harness.settle().await;
    assert_eq!(diary.lines(), SEEN);
    assert_eq!(harness.dead_letters().await, []);
}

#[tokio::test]
async fn a_version_newer_than_the_program_is_parked_and_says_so() {
    let diary = Diary::default();
    let mut harness = harness(&diary, |app| app.react("note", note));
    store(&harness, &[(4, r#"{"order":"ORD-1","cents":1,"currency":"EUR"}"#)]).await;
    harness.settle().await;
    let letters = harness.dead_letters().await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.parked.code, Code::NEWER_SCHEMA.to_string());
    assert!(letter.parked.reason.starts_with("Priced v4 is newer than v3"), "{}", letter.parked.reason);
    assert_eq!(diary.lines(), Vec::<String>::new());
}

#[test]
fn what_comes_in_at_the_door_in_an_older_version_is_read_as_the_newest() {
    let registry = Registry::default().event::<Priced>();
    let registration = registry.get("Priced").expect("it is registered");
    let place = registration.check(&envelope(1, HISTORY[0].1)).expect("it fits");
    assert_eq!(place.stream.to_string(), "Order/ORD-1");
    let newer = registration.check(&envelope(4, HISTORY[2].1)).expect_err("it is newer");
    assert_eq!(newer.code(), Code::NEWER_SCHEMA);
}
