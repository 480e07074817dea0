//! Answers that come too late, or only on a second try.

use std::time::Duration;

use ensue_runtime::saga::SagaStatus::{Compensated, Compensating, Completed};
use ensue_runtime::{App, Saga, SagaError, State, timer};
use ensue_test::Harness;

use super::world::{self, Charge, Ledger, OrderFulfilled, Refund, Release, Reserve, Ship, end, trouble};
use crate::words::{OrderPlaced, placed};

const SECOND: Duration = Duration::from_secs(1);

async fn impatient(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("reserve", Reserve { order })
        .within(SECOND * 5)
        .retry(1)
        .undo(|done| Release { order: done.order.clone() })
        .await?;
    Ok(())
}

fn shop(ledger: &Ledger) -> Harness {
    world::harness(ledger, |app: App| app.saga("fulfil", impatient))
}

#[tokio::test]
async fn an_answer_in_time_needs_no_second_try_and_cancels_the_deadline() {
    let ledger = Ledger::default();
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!((end(&shop).await.0, ledger.calls("reserve")), (Completed, 1));
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
}

#[tokio::test]
async fn a_command_without_an_answer_goes_out_again_with_the_same_idempotency_key() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 7);
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND * 60).await;
    assert_eq!(end(&shop).await.0, Completed);
    assert_eq!(ledger.calls("reserve"), 2, "it was sent twice");
    assert_eq!(ledger.effects(), ["charge", "reserve"], "and took hold once");
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
}

#[tokio::test]
async fn the_deadline_of_one_attempt_does_not_end_the_next() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 7);
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND * 6).await;
    assert_eq!(shop.events_of("saga.fulfil/ORD-1").await.last().map(String::as_str), Some("Reserve"));
    // Something wakes the instance while the second attempt has its time; the timer of the first has fired.
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND * 60).await;
    assert_eq!((end(&shop).await.0, ledger.effects()), (Completed, vec!["charge".into(), "reserve".into()]));
}

#[tokio::test]
async fn a_success_after_the_deadline_is_undone_too() {
    for delay in [11, 20, 25] {
        let ledger = Ledger::default();
        ledger.delay("reserve", SECOND * delay);
        let mut shop = shop(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.advance(Duration::from_millis(10_500)).await;
        assert_eq!(end(&shop).await, (Compensated, vec!["charge".to_owned()]), "after {delay} seconds");
        assert_eq!(trouble(&shop).await.1, "E0603");
        shop.advance(SECOND * 60).await;
        assert_eq!(end(&shop).await, (Compensated, vec!["charge".to_owned(), "reserve".to_owned()]));
        assert_eq!(ledger.effects(), ["charge", "refund", "reserve", "release"]);
    }
}

#[tokio::test]
async fn a_success_at_the_moment_of_the_deadline_is_used_or_undone() {
    for seed in 0..40 {
        let ledger = Ledger::default();
        ledger.delay("reserve", SECOND * 10);
        let mut shop = shop(&ledger).reorder_across_keys(seed);
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND * 60).await;
        let used = ledger.effects() == ["charge", "reserve"] && end(&shop).await.0 == Completed;
        let mut undone = ledger.effects();
        undone.sort_unstable();
        let undone =
            undone == ["charge", "refund", "release", "reserve"] && end(&shop).await.0 == Compensated;
        assert!(used || undone, "seed {seed}: {:?} {:?}", end(&shop).await, ledger.effects());
    }
}

/// Goes on without the reservation when it takes too long.
async fn flexible(saga: Saga<OrderPlaced>) -> Result<OrderFulfilled, SagaError> {
    let order = saga.input().order.clone();
    let held = saga
        .send("reserve", Reserve { order: order.clone() })
        .within(SECOND * 5)
        .undo(|done| Release { order: done.order.clone() })
        .await;
    match held {
        Err(error) if !error.is_deadline() => return Err(error),
        _ => {}
    }
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    Ok(OrderFulfilled { order })
}

#[tokio::test]
async fn a_late_success_of_a_step_that_the_saga_did_without_is_undone_while_the_end_stands() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 20);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", flexible));
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND * 6).await;
    assert_eq!((end(&shop).await.0, ledger.effects()), (Completed, vec!["ship".to_owned()]));
    shop.advance(SECOND * 60).await;
    assert_eq!(ledger.effects(), ["ship", "reserve", "release"]);
    assert_eq!(end(&shop).await, (Completed, vec!["reserve".to_owned()]));
    let fulfilled = shop.events().await.iter().filter(|event| *event == "OrderFulfilled").count();
    assert_eq!(fulfilled, 1, "it ended once");
}

#[tokio::test]
async fn a_refused_undo_is_tried_again_with_the_same_key_until_it_is_done() {
    let ledger = Ledger::default();
    ledger.refuse("reserve", world::ALWAYS);
    ledger.refuse("refund", 3);
    let mut shop = shop(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(end(&shop).await.0, Compensating);
    shop.advance(SECOND * 60).await;
    assert_eq!(end(&shop).await, (Compensated, vec!["charge".to_owned()]));
    assert_eq!(
        (ledger.calls("refund"), ledger.effects()),
        (4, vec!["charge".to_owned(), "refund".to_owned()])
    );
}

async fn local(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    let (first, second) = (ledger.clone(), ledger.clone());
    saga.step("pick", move |key| async move { first.act(&key, "pick").map(|()| 7_u32) })
        .retry(2)
        .undo(move |_picked| Refund { order: order.clone() })
        .await?;
    saga.step("pack", move |key| async move { second.act(&key, "pack") }).pivot().await?;
    saga.step("mail", move |key| async move { ledger.act(&key, "mail") }).until_done().await?;
    Ok(())
}

#[tokio::test]
async fn a_local_step_is_tried_as_often_as_it_says_and_until_done_for_ever() {
    for (refusals, status) in [(2, Completed), (3, Compensated)] {
        let ledger = Ledger::default();
        ledger.refuse("pick", refusals);
        ledger.refuse("mail", 12);
        let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", local));
        shop.publish(placed("ORD-1")).await;
        shop.advance(Duration::from_hours(1)).await;
        assert_eq!((end(&shop).await.0, ledger.calls("pick")), (status, 3));
        let mails = if status == Completed { 13 } else { 0 };
        assert_eq!(ledger.calls("mail"), mails);
        assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
    }
}

#[tokio::test]
async fn a_local_step_is_undone_like_any_other() {
    let ledger = Ledger::default();
    ledger.refuse("pack", world::ALWAYS);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", local));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(end(&shop).await, (Compensated, vec!["pick".to_owned()]));
    assert_eq!(ledger.effects(), ["pick", "refund"]);
}
