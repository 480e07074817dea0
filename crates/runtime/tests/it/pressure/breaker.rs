//! Circuit breakers: an outage of a dependency is waited out, and nothing is parked because of it.

use ensue_core::{Code, Kind, Outcome};
use ensue_runtime::app::DispatchError;
use ensue_runtime::pressure::{BreakerState, open_breakers};
use ensue_runtime::{App, Breaker, Reaction};
use ensue_test::{Cluster, Crash, Harness};

use super::*;
use crate::words::{Diary, tick};

const HOUR: Duration = Duration::from_hours(1);

fn payments() -> Breaker {
    Breaker::new("payments-api")
}

/// Two handlers and a command that call the same dependency, and a handler that calls nothing.
fn shop(api: &Api, diary: &Diary) -> Harness {
    let diary = diary.clone();
    api.harness(move |app: App| mount(&diary, app))
}

fn mount(diary: &Diary, app: App) -> App {
    app.state(diary.clone())
        .react("charge", charge.retry(3).breaker(payments()))
        .react("report", report.retry(3).breaker(payments()))
        .react("note", note)
        .handle_with(charge_order, |handler| handler.breaker(payments()))
}

async fn note(State(diary): State<Diary>, tick: Tick) {
    diary.note(format!("{}{}", tick.key, tick.number));
}

async fn publish(shop: &mut Harness, numbers: std::ops::Range<u32>) {
    for number in numbers {
        for key in ["a", "b", "c", "d", "e"] {
            shop.publish(tick(key, number)).await;
        }
    }
}

#[tokio::test]
async fn an_outage_of_an_hour_parks_nothing_and_all_is_done_afterwards_in_order() {
    let (api, diary) = (Api::default(), Diary::default());
    let mut shop = shop(&api, &diary);
    api.take_down(true);
    publish(&mut shop, 0..20).await;
    shop.advance(HOUR).await;
    assert!(api.done().is_empty());
    assert!(api.calls().len() < 100, "{} calls in an hour", api.calls().len());
    assert!(api.calls().len() > 60, "somebody looks at least each minute");
    assert_eq!(shop.dead_letters().await.len(), 0);
    assert_eq!(diary.lines().len(), 100, "who does not depend on it goes on");
    api.take_down(false);
    shop.advance(HOUR).await;
    let done = api.done();
    assert_eq!(done.len(), 200, "each of them once");
    for key in ["a", "b", "c", "d", "e"] {
        let of_key: Vec<_> = done.iter().filter(|who| who.starts_with(key)).collect();
        let expected: Vec<_> = (0..20).map(|number| format!("{key}{number}")).collect();
        assert_eq!(of_key, expected.iter().collect::<Vec<_>>());
    }
    assert_eq!(shop.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn one_delivery_at_a_time_looks_among_all_lanes_and_handlers() {
    let (api, diary) = (Api::default(), Diary::default());
    let mut shop = shop(&api, &diary);
    publish(&mut shop, 0..3).await;
    shop.advance(HOUR).await;
    assert!(api.most_at_once() > 1, "lanes work beside each other");
    api.take_down(true);
    publish(&mut shop, 3..6).await;
    shop.advance(Duration::from_secs(20)).await;
    assert_eq!(state(&mut shop).await, BreakerState::Open);
    let _before = api.most_at_once();
    let calls = api.calls().len();
    shop.advance(HOUR).await;
    assert!(api.calls().len() > calls + 30);
    assert_eq!(api.most_at_once(), 1);
    // It is not always the same one that looks.
    let looked: std::collections::BTreeSet<String> =
        api.calls().iter().skip(calls).map(|call| call.who.clone()).collect();
    assert!(looked.len() > 2, "{looked:?}");
}

async fn state(shop: &mut Harness) -> BreakerState {
    let breakers = shop.running().await.breakers();
    let [breaker] = breakers.as_slice() else { panic!("{breakers:?}") };
    assert_eq!(breaker.since.is_some(), breaker.state != BreakerState::Closed);
    breaker.state
}

#[tokio::test]
async fn an_outage_is_in_the_store_for_as_long_as_it_lasts_and_says_why() {
    let (api, diary) = (Api::default(), Diary::default());
    let mut shop = shop(&api, &diary);
    publish(&mut shop, 0..2).await;
    shop.advance(HOUR).await;
    assert_eq!(state(&mut shop).await, BreakerState::Closed);
    assert_eq!(open_breakers(&**shop.store()).await.expect("it can be read"), []);
    api.take_down(true);
    publish(&mut shop, 2..4).await;
    shop.advance(Duration::from_mins(1)).await;
    let open = open_breakers(&**shop.store()).await.expect("it can be read");
    let [breaker] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((breaker.name.as_str(), breaker.application.as_str()), ("payments-api", "test"));
    assert_eq!((breaker.code.as_str(), breaker.reason.as_str()), ("E0301", "connection refused"));
    assert_eq!(breaker.handlers, ["charge", "report", "handle.Charge"]);
    let stuck =
        shop.running().await.flows().await.expect("it can be read").stuck().await.expect("it can be read");
    assert_eq!(stuck.len(), 10, "those of the outage");
    assert!(stuck.iter().all(|flow| flow.code.as_deref() == Some("E0301")));
    let why = "waits: its breaker payments-api is open since";
    assert!(stuck.iter().all(|flow| flow.reason.contains(why)), "{stuck:?}");
    api.take_down(false);
    shop.advance(HOUR).await;
    let stuck =
        shop.running().await.flows().await.expect("it can be read").stuck().await.expect("it can be read");
    assert_eq!(stuck, []);
    assert_eq!(state(&mut shop).await, BreakerState::Closed);
    assert_eq!(open_breakers(&**shop.store()).await.expect("it can be read"), []);
}

#[tokio::test]
async fn a_process_that_ends_while_it_is_open_leaves_nothing_behind_for_the_next() {
    let (api, diary) = (Api::default(), Diary::default());
    let mut shop = shop(&api, &diary);
    api.take_down(true);
    publish(&mut shop, 0..2).await;
    shop.advance(Duration::from_mins(1)).await;
    assert_eq!(open_breakers(&**shop.store()).await.expect("it can be read").len(), 1);
    api.take_down(false);
    shop.restart().await;
    shop.advance(HOUR).await;
    assert_eq!(open_breakers(&**shop.store()).await.expect("it can be read"), []);
    assert_eq!((api.done().len(), shop.dead_letters().await.len()), (20, 0));
}

#[tokio::test]
async fn a_command_is_refused_at_once_while_the_breaker_is_open() {
    let (api, diary) = (Api::default(), Diary::default());
    let mut shop = shop(&api, &diary);
    api.take_down(true);
    publish(&mut shop, 0..2).await;
    shop.advance(Duration::from_secs(4)).await;
    let calls = api.calls().len();
    let refused = shop.dispatch(Charge { order: "ORD-1".into() }).await;
    let Err(DispatchError::Failed(error)) = refused else { panic!("{refused:?}") };
    assert_eq!((error.code(), error.kind()), (Code::BREAKER_OPEN, Kind::Unavailable));
    assert!(error.to_string().contains("payments-api") && error.to_string().contains("connection refused"));
    assert_eq!(api.calls().len(), calls, "nothing was called");
    api.take_down(false);
    shop.advance(HOUR).await;
    shop.dispatch(Charge { order: "ORD-1".into() }).await.expect("it is back");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_dependency() {
    let (api, diary) = (Api::default(), Diary::default());
    let given = (api.clone(), diary.clone());
    let mut cluster =
        Cluster::new(move |app: App| mount(&given.1, app.state(given.0.clone()).external::<Tick>()));
    let _first = api.clock.set(cluster.clock().clone()).is_ok();
    let first = cluster.add().await;
    api.take_down(true);
    for key in ["a", "b", "c", "d", "e"] {
        cluster.publish(tick(key, 0)).await;
    }
    cluster.advance(Duration::from_secs(301)).await;
    let [breaker] = &cluster.running(first).breakers()[..] else { panic!("one breaker") };
    assert_eq!(breaker.state, BreakerState::Open);
    assert!(breaker.looks_in > Some(Duration::from_secs(2)), "{breaker:?}");
    assert!(cluster.shut_down(first).await < Duration::from_millis(100));
}

/// Always fails for one key, whatever the dependency does.
async fn picky(State(api): State<Api>, tick: Tick) -> Result<(), Broken> {
    if tick.key == "a" {
        return Err(Broken("cannot be charged"));
    }
    api.call(format!("{}{}", tick.key, tick.number), Duration::ZERO).await
}

#[tokio::test]
async fn a_delivery_that_fails_by_itself_is_parked_though_it_has_opened_the_breaker() {
    let api = Api::default();
    let mut shop = api.harness(|app: App| {
        let breaker = Breaker::new("payments-api").opens_at(2, 4);
        app.react("picky", picky.retry(5).breaker(breaker))
    });
    shop.publish(tick("a", 0)).await;
    shop.advance(Duration::from_secs(30)).await;
    assert_eq!(state(&mut shop).await, BreakerState::Open, "alone it looks like an outage");
    for number in 0..20 {
        for key in ["b", "c", "d"] {
            shop.publish(tick(key, number)).await;
        }
        shop.advance(Duration::from_secs(30)).await;
    }
    shop.settle().await;
    assert_eq!(state(&mut shop).await, BreakerState::Closed);
    assert_eq!(api.done().len(), 60);
    let parked: Vec<_> =
        shop.dead_letters().await.into_iter().map(|letter| letter.parked.key.to_string()).collect();
    assert_eq!(parked, ["a"]);
}

async fn refuse(_: Tick) -> Outcome {
    Outcome::Reject("not on a Sunday".into())
}

#[tokio::test]
async fn refusals_are_answers_and_open_nothing() {
    let mut shop = Harness::new(|app: App| {
        app.external::<Tick>().react("refuse", refuse.breaker(Breaker::new("payments-api").opens_at(1, 1)))
    });
    for number in 0..5 {
        shop.publish(tick(&number.to_string(), 0)).await;
    }
    shop.settle().await;
    assert_eq!(state(&mut shop).await, BreakerState::Closed);
    assert_eq!(shop.dead_letters().await.len(), 5);
}

#[tokio::test]
async fn a_redrive_waits_for_the_breaker_like_everybody_else() {
    let api = Api::default();
    let mut shop = api.harness(|app: App| {
        let breaker = Breaker::new("payments-api").opens_at(3, 3);
        app.react("charge", charge.retry(1).lanes(1).breaker(breaker))
    });
    api.take_down(true);
    shop.publish(tick("a", 0)).await;
    shop.settle().await;
    assert_eq!(shop.dead_letters().await.len(), 1, "one failure does not open it");
    shop.publish(tick("b", 0)).await;
    shop.publish(tick("c", 0)).await;
    shop.advance(Duration::from_secs(2)).await;
    assert_eq!(state(&mut shop).await, BreakerState::Open);
    shop.redrive("charge", "a").await;
    shop.advance(HOUR).await;
    api.take_down(false);
    shop.settle().await;
    assert_eq!(api.done(), ["c0", "a0"]);
    assert_eq!(shop.dead_letters().await.len(), 1, "b, which had failed before it opened");
}

#[tokio::test]
async fn an_outage_neither_loses_nor_repeats_anything_though_the_process_crashes() {
    for crash in (1..40).step_by(3) {
        let (api, diary) = (Api::default(), Diary::default());
        let mut shop = shop(&api, &diary).crash_at(Crash::After(crash));
        api.take_down(true);
        publish(&mut shop, 0..2).await;
        shop.advance(Duration::from_secs(90)).await;
        api.take_down(false);
        shop.advance(HOUR).await;
        let mut done = api.done();
        done.sort();
        done.dedup();
        assert_eq!((done.len(), shop.dead_letters().await.len()), (20, 0), "crash after commit {crash}");
        assert_eq!(shop.crashes(), 1, "commit {crash}");
    }
}
