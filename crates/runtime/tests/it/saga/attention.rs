//! What an instance does not decide by itself: it stops, says why, and keeps what an operator needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_runtime::saga::SagaStatus::{Completed, NeedsAttention, Waiting};
use ensue_runtime::{App, Saga, SagaError, State};
use ensue_test::Harness;

use super::world::{self, ALWAYS, Charge, Delivered, Ledger, Refund, Reserve, Ship, end, trouble};
use crate::words::{OrderPlaced, placed};

async fn charge_and_reserve(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("reserve", Reserve { order }).nothing_to_undo().await?;
    Ok(())
}

#[tokio::test]
async fn an_undo_that_is_refused_for_good_needs_attention() {
    let ledger = Ledger::default();
    ledger.refuse("reserve", ALWAYS);
    ledger.refuse("refund", ALWAYS);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", charge_and_reserve));
    shop.publish(placed("ORD-1")).await;
    shop.advance(Duration::from_hours(1)).await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0602"));
    assert!(reason.contains("`charge`") && reason.contains("no refund today"), "{reason}");
    assert_eq!(ledger.calls("refund"), 5);
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!((head.undoable.as_slice(), head.undone.len()), (["charge".into()].as_slice(), 0));
}

async fn fails_after_pivot(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    saga.send("reserve", Reserve { order }).nothing_to_undo().await?;
    Ok(())
}

#[tokio::test]
async fn a_failure_after_the_point_of_no_return_undoes_nothing_and_needs_attention() {
    let ledger = Ledger::default();
    ledger.refuse("reserve", ALWAYS);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", fails_after_pivot));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0604"));
    assert!(reason.contains("no return") && reason.contains("no reserve today"), "{reason}");
    assert_eq!(ledger.effects(), ["charge", "ship"]);
}

async fn hasty_pivot(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("ship", Ship { order }).within(Duration::from_secs(5)).pivot().await?;
    Ok(())
}

#[tokio::test]
async fn a_pivot_that_succeeds_after_it_was_given_up_needs_attention() {
    let ledger = Ledger::default();
    ledger.delay("ship", Duration::from_secs(20));
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", hasty_pivot));
    shop.publish(placed("ORD-1")).await;
    shop.advance(Duration::from_mins(1)).await;
    let (status, _, reason) = trouble(&shop).await;
    assert_eq!(status, NeedsAttention, "{reason}");
    assert_eq!(ledger.effects(), ["charge", "refund", "ship"]);
}

/// Which edition of the code runs.
#[derive(Clone, Default)]
struct Edition {
    is_new: Arc<AtomicBool>,
}

fn editions(ledger: &Ledger, edition: &Edition, mount: impl Fn(App) -> App + 'static) -> Harness {
    let edition = edition.clone();
    world::harness(ledger, move |app: App| mount(app.state(edition.clone())))
}

/// Runs up to the wait with the old code, then on with the new one.
async fn upgrade(shop: &mut Harness, edition: &Edition) {
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(end(shop).await.0, Waiting);
    edition.is_new.store(true, Ordering::Relaxed);
    shop.restart().await;
    shop.publish(Delivered { order: "ORD-1".to_owned(), parcel: 1 }).await;
    shop.settle().await;
}

async fn renamed(saga: Saga<OrderPlaced>, State(edition): State<Edition>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    let name = if edition.is_new.load(Ordering::Relaxed) { "bill" } else { "charge" };
    saga.send(name, Charge { order: order.clone() }).nothing_to_undo().await?;
    saga.wait_for::<Delivered>(&order).await?;
    Ok(())
}

async fn shortened(saga: Saga<OrderPlaced>, State(edition): State<Edition>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    if edition.is_new.load(Ordering::Relaxed) {
        return Ok(());
    }
    saga.send("charge", Charge { order: order.clone() }).nothing_to_undo().await?;
    saga.wait_for::<Delivered>(&order).await?;
    Ok(())
}

async fn lengthened(saga: Saga<OrderPlaced>, State(edition): State<Edition>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.wait_for::<Delivered>(&order).await?;
    if edition.is_new.load(Ordering::Relaxed) {
        saga.send("charge", Charge { order }).nothing_to_undo().await?;
    }
    Ok(())
}

#[tokio::test]
async fn code_that_no_longer_fits_the_journal_stops_with_the_difference() {
    let (ledger, edition) = (Ledger::default(), Edition::default());
    let mut shop = editions(&ledger, &edition, |app| app.saga("fulfil", renamed));
    upgrade(&mut shop, &edition).await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0601"));
    assert!(reason.contains("was step `charge`") && reason.contains("asks for `bill`"), "{reason}");
    assert_eq!(ledger.calls("charge"), 1, "nothing was done again");
}

#[tokio::test]
async fn code_that_leaves_out_what_was_done_stops_with_the_difference() {
    let (ledger, edition) = (Ledger::default(), Edition::default());
    let mut shop = editions(&ledger, &edition, |app| app.saga("fulfil", shortened));
    upgrade(&mut shop, &edition).await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0601"));
    assert!(reason.contains("before step `charge`"), "{reason}");
}

#[tokio::test]
async fn code_that_only_adds_to_the_end_fits() {
    let (ledger, edition) = (Ledger::default(), Edition::default());
    let mut shop = editions(&ledger, &edition, |app| app.saga("fulfil", lengthened));
    upgrade(&mut shop, &edition).await;
    assert_eq!((end(&shop).await.0, ledger.calls("charge")), (Completed, 1));
}

async fn awaits_something_foreign(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    saga.send("charge", Charge { order: saga.key().to_owned() }).nothing_to_undo().await?;
    std::future::pending::<()>().await;
    Ok(())
}

#[tokio::test]
async fn code_that_awaits_something_foreign_needs_attention() {
    let mut shop =
        world::harness(&Ledger::default(), |app: App| app.saga("fulfil", awaits_something_foreign));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (NeedsAttention, "E0601"));
    assert!(reason.contains("no operation of the saga"), "{reason}");
}

/// Its code breaks down while it is being undone.
async fn breaks_down(saga: Saga<OrderPlaced>, State(edition): State<Edition>) -> Result<(), SagaError> {
    assert!(!edition.is_new.load(Ordering::Relaxed), "this code is broken");
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.wait_for::<Delivered>(&order).within(Duration::from_secs(1)).await?;
    Ok(())
}

#[tokio::test]
async fn unwinding_needs_no_code() {
    let (ledger, edition) = (Ledger::default(), Edition::default());
    ledger.delay("refund", Duration::from_secs(10));
    let mut shop = editions(&ledger, &edition, |app| app.saga("fulfil", breaks_down));
    shop.publish(placed("ORD-1")).await;
    shop.advance(Duration::from_millis(1_500)).await;
    edition.is_new.store(true, Ordering::Relaxed);
    shop.advance(Duration::from_secs(30)).await;
    assert_eq!(ledger.effects(), ["charge", "refund"]);
    assert_eq!(trouble(&shop).await.0, ensue_runtime::saga::SagaStatus::Compensated);
    assert!(shop.dead_letters().await.is_empty());
}
