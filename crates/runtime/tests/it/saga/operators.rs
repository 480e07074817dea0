//! What operators ask of instances, at any moment, and how it goes with what arrives at the same time.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Code, Error, Source};
use ensue_runtime::saga::SagaStatus::{Compensated, Completed, NeedsAttention, Paused, Terminated, Waiting};
use ensue_runtime::saga::{Operations, Request, SagaHead, SagaStatus};
use ensue_runtime::{App, Saga, SagaError, State, timer};
use ensue_test::{Harness, crash_everywhere};

use super::world::{
    self, ALWAYS, Charge, Delivered, Ledger, OrderFulfilled, Refund, Release, Reserve, Ship, end, trouble,
};
use crate::words::{OrderPlaced, placed};

const SECOND: Duration = Duration::from_secs(1);

/// Two steps that can be undone, a wait, the point of no return, and a step after it.
async fn fulfil(saga: Saga<OrderPlaced>) -> Result<OrderFulfilled, SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("reserve", Reserve { order: order.clone() })
        .undo(|done| Release { order: done.order.clone() })
        .await?;
    saga.wait_for::<Delivered>(&order).within(SECOND * 1_000).await?;
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    saga.send("reserve", Reserve { order: order.clone() }).nothing_to_undo().await?;
    Ok(OrderFulfilled { order })
}

fn shop(ledger: &Ledger) -> Harness {
    world::harness(ledger, |app: App| app.saga("fulfil", fulfil))
}

async fn try_ask(shop: &Harness, request: Request) -> Result<SagaHead, Error> {
    let source = Source::new("operator").expect("a valid source");
    let operations = Operations::new(Arc::clone(shop.store()) as _, shop.host().clone(), source);
    operations.ask("fulfil", "ORD-1", &request, "because").await
}

async fn ask(shop: &Harness, request: Request) -> SagaStatus {
    try_ask(shop, request).await.expect("the request fits").status
}

async fn delivered(shop: &mut Harness) {
    shop.publish(Delivered { order: "ORD-1".to_owned(), parcel: 1 }).await;
    shop.advance(SECOND * 60).await;
}

#[tokio::test]
async fn a_paused_instance_takes_nothing_and_keeps_what_arrives_whatever_crashes() {
    let crashes = crash_everywhere(
        || shop(&Ledger::default()),
        async |shop: &mut Harness| {
            let ledger: Ledger = shop.running().await.state().expect("it is mounted");
            ledger.delay("charge", SECOND * 10);
            shop.publish(placed("ORD-1")).await;
            shop.advance(SECOND).await;
            assert_eq!(ask(shop, Request::Pause).await, Paused);
            // The answer and the event arrive while it is paused.
            delivered(shop).await;
            assert_eq!(ledger.effects(), ["charge"], "nothing was begun");
            assert_eq!(trouble(shop).await, (Paused, String::new(), "because".to_owned()));
            assert_eq!(ask(shop, Request::Resume).await, Waiting);
            shop.advance(SECOND * 60).await;
            assert_eq!(ledger.effects(), ["charge", "reserve", "ship", "reserve"]);
            assert_eq!(end(shop).await.0, Completed);
            assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
        },
    )
    .await;
    assert!(crashes > 10, "{crashes}");
}

#[tokio::test]
async fn a_cancelled_instance_goes_back_and_undoes_what_succeeds_late() {
    for (at, effects) in [
        (1, vec!["charge", "refund"]),
        (15, vec!["charge", "refund", "release", "reserve"]),
        (40, vec!["charge", "refund", "release", "reserve"]),
    ] {
        let ledger = Ledger::default();
        ledger.delay("charge", SECOND * 10);
        ledger.delay("reserve", SECOND * 10);
        let mut shop = shop(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND * at).await;
        ask(&shop, Request::Cancel).await;
        shop.advance(SECOND * 60).await;
        let mut done = ledger.effects();
        done.sort_unstable();
        assert_eq!(done, effects, "cancelled after {at} seconds");
        assert_eq!(trouble(&shop).await, (Compensated, "E0605".to_owned(), "because".to_owned()));
        assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
    }
}

#[tokio::test]
async fn a_request_that_races_a_turn_is_before_or_after_it() {
    let mut cancelled = 0;
    for seed in 0..60 {
        let ledger = Ledger::default();
        let mut shop = shop(&ledger).reorder_across_keys(seed);
        shop.publish(placed("ORD-1")).await;
        for _ in 0..seed * 3 {
            tokio::task::yield_now().await;
        }
        let request = if seed % 2 == 0 { Request::Pause } else { Request::Cancel };
        // It may be too early: then there is no instance yet.
        let was_taken = try_ask(&shop, request.clone()).await.is_ok();
        shop.settle().await;
        if request == Request::Pause && was_taken {
            assert_eq!(end(&shop).await.0, Paused, "seed {seed}");
            ask(&shop, Request::Resume).await;
            shop.settle().await;
        }
        let (status, mut done) = (end(&shop).await.0, ledger.effects());
        done.sort_unstable();
        if request == Request::Cancel && was_taken {
            cancelled += 1;
            assert_eq!(status, Compensated, "seed {seed}");
            assert!(done.is_empty() || done.len() % 2 == 0, "seed {seed}: {done:?}");
            assert_eq!(done.contains(&"charge".to_owned()), done.contains(&"refund".to_owned()));
            assert_eq!(done.contains(&"reserve".to_owned()), done.contains(&"release".to_owned()));
        } else {
            assert_eq!((status, done), (Waiting, vec!["charge".to_owned(), "reserve".to_owned()]));
        }
        assert!(shop.dead_letters().await.is_empty(), "seed {seed}");
    }
    assert!(cancelled > 10, "{cancelled}");
}

#[tokio::test]
async fn past_the_point_of_no_return_it_is_not_cancelled_and_the_failed_step_is_tried_again() {
    let ledger = Ledger::default();
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    ledger.refuse("reserve", ALWAYS);
    delivered(&mut shop).await;
    let (status, code, _) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0604"));
    let refused = try_ask(&shop, Request::Cancel).await.expect_err("too late");
    assert_eq!(refused.code(), Code::SAGA_NOT_SO);
    // Still refused: it stops again.
    ask(&shop, Request::Retry).await;
    shop.settle().await;
    assert_eq!(end(&shop).await.0, NeedsAttention);
    ledger.refuse("reserve", 0);
    ask(&shop, Request::Retry).await;
    shop.settle().await;
    assert_eq!(end(&shop).await.0, Completed);
    assert_eq!(ledger.calls("reserve"), 4, "the first step, and three attempts at the second");
    assert_eq!(ledger.effects(), ["charge", "reserve", "ship", "reserve"]);
}

#[tokio::test]
async fn a_refused_undo_is_tried_again_or_let_stand() {
    for (request, effects, undone) in [
        (Request::Retry, vec!["charge", "reserve", "release", "refund"], vec!["reserve", "charge"]),
        (Request::SkipUndo { step: "charge".into() }, vec!["charge", "reserve", "release"], vec!["reserve"]),
    ] {
        let ledger = Ledger::default();
        ledger.refuse("refund", ALWAYS);
        let mut shop = shop(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        ask(&shop, Request::Cancel).await;
        shop.advance(SECOND * 600).await;
        assert_eq!(trouble(&shop).await.1, "E0602");
        ledger.refuse("refund", 0);
        ask(&shop, request).await;
        shop.advance(SECOND * 600).await;
        assert_eq!(ledger.effects(), effects);
        let undone: Vec<String> = undone.into_iter().map(str::to_owned).collect();
        assert_eq!(end(&shop).await, (Compensated, undone));
    }
}

#[tokio::test]
async fn a_step_is_given_its_outcome_by_hand() {
    let resolve = |result: Option<&'static str>| Request::Resolve {
        step: "reserve".into(),
        result: result.map(|result| result.as_bytes().into()),
    };
    for (request, status) in
        [(resolve(Some(r#"{"order":"ORD-1"}"#)), Completed), (resolve(None), Compensated)]
    {
        let ledger = Ledger::default();
        ledger.delay("reserve", SECOND * 100_000);
        let mut shop = shop(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND).await;
        ledger.delay("reserve", Duration::ZERO);
        ask(&shop, request.clone()).await;
        delivered(&mut shop).await;
        assert_eq!(end(&shop).await.0, status);
        assert_eq!(try_ask(&shop, request).await.expect_err("over").code(), Code::SAGA_NOT_SO);
    }
}

#[tokio::test]
async fn a_result_of_the_wrong_shape_undoes_nothing_and_can_be_given_again() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 100_000);
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND).await;
    let resolve = |result: &'static str| Request::Resolve {
        step: "reserve".into(),
        result: Some(result.as_bytes().into()),
    };
    ask(&shop, resolve("17")).await;
    shop.advance(SECOND).await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0601"), "{reason}");
    assert_eq!(ledger.effects(), ["charge"]);
    ask(&shop, resolve(r#"{"order":"ORD-1"}"#)).await;
    shop.advance(SECOND).await;
    assert_eq!(end(&shop).await.0, Waiting);
}

#[tokio::test]
async fn a_terminated_instance_leaves_nothing_that_wakes_it_and_names_what_succeeds_late() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 10);
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND).await;
    assert_eq!(ask(&shop, Request::Terminate).await, Terminated);
    shop.advance(SECOND * 60).await;
    assert_eq!(ledger.effects(), ["charge", "reserve"], "nothing is undone");
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!((head.status, head.unclaimed), (Terminated, vec!["reserve".into()]));
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
}

#[tokio::test]
async fn a_restart_takes_over_what_is_behind_and_undoes_it_if_it_fails() {
    for (refused, status) in [("nothing", Completed), ("ship", Compensated)] {
        let ledger = Ledger::default();
        let mut shop = shop(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        let restart = |key: &str| Request::Restart { at: "reserve".into(), key: key.to_owned() };
        let head = try_ask(&shop, restart("ORD-1b")).await.expect("it fits");
        assert_eq!((head.key.as_str(), head.status), ("ORD-1b", Waiting));
        assert_eq!(end(&shop).await.0, Terminated);
        ledger.refuse(refused, ALWAYS);
        shop.settle().await;
        delivered(&mut shop).await;
        let head = shop.saga("fulfil", "ORD-1b").await.expect("it was restarted");
        assert_eq!(head.status, status, "{head:?}");
        let effects: &[&str] = if status == Completed {
            &["charge", "reserve", "reserve", "ship", "reserve"]
        } else {
            &["charge", "reserve", "reserve", "release", "refund"]
        };
        assert_eq!(ledger.effects(), effects, "the old reservation was left to whoever restarted it");
        let again = try_ask(&shop, restart("ORD-1b")).await.expect_err("the key is taken");
        assert_eq!(again.code(), Code::SAGA_NOT_SO);
    }
}

#[tokio::test]
async fn requests_that_do_not_fit_are_refused_and_a_dry_run_changes_nothing() {
    let mut shop = shop(&Ledger::default());
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let before = shop.recorded().await;
    let code = async |request| try_ask(&shop, request).await.expect_err("it does not fit").code();
    assert_eq!(code(Request::Resume).await, Code::SAGA_NOT_SO);
    assert_eq!(code(Request::Retry).await, Code::SAGA_NOT_SO);
    assert_eq!(code(Request::Resolve { step: "charge".into(), result: None }).await, Code::SAGA_NOT_SO);
    assert_eq!(code(Request::Resolve { step: "bill".into(), result: None }).await, Code::NOT_FOUND);
    assert_eq!(code(Request::SkipUndo { step: "ship".into() }).await, Code::NOT_FOUND);
    assert_eq!(code(Request::Restart { at: "bill".into(), key: "b".into() }).await, Code::NOT_FOUND);
    let sagas = shop.running().await.sagas();
    let unknown = sagas.ask("fulfil", "ORD-9", &Request::Pause, "because").await.expect_err("no instance");
    assert_eq!(unknown.code(), Code::NOT_FOUND);
    let mute = sagas.ask("fulfil", "ORD-1", &Request::Pause, " ").await.expect_err("no reason");
    assert_eq!(mute.code(), Code::USAGE);
    let would = sagas.would("fulfil", "ORD-1", &Request::Cancel, "because").await.expect("it fits");
    assert_eq!(would.status, Waiting, "the undoing begins with the next turn");
    assert_eq!(shop.recorded().await, before);
    assert_eq!(end(&shop).await.0, Waiting);
}

/// Mails until it is done.
async fn mails(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<(), SagaError> {
    saga.step("mail", move |key| async move { ledger.act(&key, "mail") }).until_done().await?;
    Ok(())
}

#[tokio::test]
async fn a_step_that_pauses_between_attempts_is_tried_at_once() {
    let ledger = Ledger::default();
    ledger.refuse("mail", 20);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", mails));
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND * 300).await;
    let calls = ledger.calls("mail");
    ledger.refuse("mail", 0);
    ask(&shop, Request::Retry).await;
    shop.settle().await;
    assert_eq!((end(&shop).await.0, ledger.calls("mail")), (Completed, calls + 1));
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
}

#[tokio::test]
async fn a_request_made_while_nothing_runs_is_carried_out_at_the_next_start() {
    let ledger = Ledger::default();
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.stop().await;
    ask(&shop, Request::Cancel).await;
    assert_eq!(ledger.effects(), ["charge", "reserve"]);
    shop.settle().await;
    assert_eq!(ledger.effects(), ["charge", "reserve", "release", "refund"]);
    assert_eq!(end(&shop).await.0, Compensated);
}
