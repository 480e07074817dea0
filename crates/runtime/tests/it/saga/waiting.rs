//! Waiting: for events, for time, for answers; instances that wait are on record, not in memory.

use std::time::Duration;

use ensue_core::{RecordScan, Space, StoreExt};
use ensue_runtime::saga::SagaStatus::{Compensated, Completed, Waiting};
use ensue_runtime::{App, Saga, SagaError, State, timer};
use ensue_test::{Harness, crash_everywhere};

use super::world::{self, Charge, Delivered, Ledger, OrderFulfilled, Refund, end, trouble};
use crate::words::{OrderPlaced, placed};

const DAY: Duration = Duration::from_hours(24);

fn parcel(number: u32) -> Delivered {
    Delivered { order: "ORD-1".to_owned(), parcel: number }
}

/// Charges, waits for two parcels, and says which they were.
async fn two_parcels(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    for _ in 0..2 {
        let got = saga.wait_for::<Delivered>(&order).within(DAY * 14).await?;
        let ledger = ledger.clone();
        saga.step("note", move |key| async move { ledger.act(&key, &format!("parcel {}", got.parcel)) })
            .nothing_to_undo()
            .await?;
    }
    Ok(())
}

fn parcels() -> Harness {
    world::harness(&Ledger::default(), |app: App| app.saga("fulfil", two_parcels))
}

async fn effects(shop: &mut Harness) -> Vec<String> {
    shop.running().await.state::<Ledger>().expect("it is mounted").effects()
}

/// Nothing is left to wake an instance: neither timers nor routes.
async fn assert_nothing_left(shop: &Harness) {
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
    let waiting = RecordScan::all(Space::new("waiting").expect("valid"));
    assert_eq!(shop.store().records(waiting).await.expect("memory can be read"), []);
}

#[tokio::test]
async fn events_before_and_after_the_wait_satisfy_one_wait_each() {
    let orders: [fn(u32) -> usize; 4] = [|_| 0, |_| 1, |parcel| usize::from(parcel > 1), |_| 2];
    for when in orders {
        let mut shop = parcels();
        // Before the start: it does not count.
        shop.publish(parcel(0)).await;
        shop.settle().await;
        shop.publish(placed("ORD-1")).await;
        for moment in 0..3 {
            for number in [1, 2] {
                if when(number) == moment {
                    shop.publish(parcel(number)).await;
                }
            }
            shop.settle().await;
        }
        assert_eq!(effects(&mut shop).await, ["charge", "parcel 1", "parcel 2"]);
        assert_eq!(end(&shop).await.0, Completed);
        assert_nothing_left(&shop).await;
    }
}

#[tokio::test]
async fn two_events_at_once_under_any_timing_satisfy_two_waits() {
    for seed in 0..60 {
        let mut shop = parcels().reorder_across_keys(seed);
        shop.publish(placed("ORD-1")).await;
        for _ in 0..seed % 12 {
            tokio::task::yield_now().await;
        }
        shop.publish(parcel(1)).await;
        for _ in 0..seed % 7 {
            tokio::task::yield_now().await;
        }
        shop.publish(parcel(2)).await;
        shop.settle().await;
        assert_eq!(effects(&mut shop).await, ["charge", "parcel 1", "parcel 2"], "seed {seed}");
        assert_eq!(end(&shop).await.0, Completed, "seed {seed}");
        assert_nothing_left(&shop).await;
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let run = async |seed| {
        let mut shop = parcels().reorder_across_keys(seed);
        for event in [1, 2] {
            shop.publish(placed(&format!("ORD-{event}"))).await;
            shop.publish(parcel(event)).await;
        }
        shop.settle().await;
        shop.recorded().await
    };
    let first = run(1).await;
    for _ in 0..5 {
        assert_eq!(run(1).await, first);
    }
    let mut others = Vec::new();
    for seed in 2..8 {
        others.push(run(seed).await);
    }
    assert!(others.iter().any(|other| *other != first), "no seed makes a difference");
}

#[tokio::test]
async fn a_crash_at_any_commit_loses_no_awaited_event() {
    let crashes = crash_everywhere(parcels, async |shop: &mut Harness| {
        shop.publish(placed("ORD-1")).await;
        shop.publish(parcel(1)).await;
        shop.settle().await;
        assert_eq!(end(shop).await.0, Waiting);
        shop.publish(parcel(2)).await;
        shop.settle().await;
        assert_eq!(effects(shop).await, ["charge", "parcel 1", "parcel 2"]);
        assert_eq!(end(shop).await.0, Completed);
        assert_nothing_left(shop).await;
    })
    .await;
    assert!(crashes > 20, "{crashes}");
}

#[tokio::test]
async fn a_wait_that_takes_too_long_is_an_outcome_and_leaves_nothing_behind() {
    let mut shop = parcels();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!(head.waits_for.as_deref(), Some("Delivered of ORD-1"));
    shop.advance((DAY * 14).saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(end(&shop).await.0, Waiting);
    shop.advance(Duration::from_secs(1)).await;
    assert_eq!(end(&shop).await, (Compensated, vec!["charge".to_owned()]));
    assert_eq!(trouble(&shop).await.1, "E0603");
    shop.publish(parcel(1)).await;
    shop.settle().await;
    assert_eq!(effects(&mut shop).await, ["charge", "refund"]);
    assert_nothing_left(&shop).await;
}

#[tokio::test]
async fn an_instance_that_waits_goes_on_after_a_restart_in_the_middle() {
    let mut shop = parcels();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.restart().await;
    shop.publish(parcel(1)).await;
    shop.settle().await;
    shop.advance(DAY * 3).await;
    shop.restart().await;
    shop.publish(parcel(2)).await;
    shop.settle().await;
    assert_eq!(effects(&mut shop).await, ["charge", "parcel 1", "parcel 2"]);
}

async fn sleeps(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<OrderFulfilled, SagaError> {
    saga.sleep("cool down", DAY * 2).await?;
    saga.step("wake", move |key| async move { ledger.act(&key, "wake") }).nothing_to_undo().await?;
    Ok(OrderFulfilled { order: saga.key().to_owned() })
}

#[tokio::test]
async fn a_sleep_ends_once_at_its_time_whatever_crashes() {
    crash_everywhere(
        || world::harness(&Ledger::default(), |app: App| app.saga("fulfil", sleeps)),
        async |shop: &mut Harness| {
            shop.publish(placed("ORD-1")).await;
            shop.settle().await;
            shop.advance(DAY).await;
            assert_eq!(end(shop).await.0, Waiting);
            shop.advance(DAY + Duration::from_secs(1)).await;
            assert_eq!(end(shop).await.0, Completed);
            assert_eq!(effects(shop).await, ["wake"]);
            let journal = shop.events_of("saga.fulfil/ORD-1").await;
            assert_eq!(journal.iter().filter(|entry| *entry == "saga.TimerFired").count(), 1);
            assert_nothing_left(shop).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_clock_that_jumps_far_ahead_fires_a_timer_once() {
    let mut shop = world::harness(&Ledger::default(), |app: App| app.saga("fulfil", sleeps));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.clock().advance(DAY * 400);
    shop.settle().await;
    assert_eq!(effects(&mut shop).await, ["wake"]);
    shop.advance(DAY * 400).await;
    assert_eq!(effects(&mut shop).await, ["wake"]);
}

#[tokio::test]
async fn a_thousand_sleepers_wake_each_once() {
    let mut shop = world::harness(&Ledger::default(), |app: App| app.saga("fulfil", sleeps));
    for number in 0..1_000 {
        shop.publish(placed(&format!("ORD-{number}"))).await;
    }
    shop.settle().await;
    assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read").len(), 1_000);
    shop.advance(DAY * 2).await;
    assert_eq!(effects(&mut shop).await.len(), 1_000);
    assert_nothing_left(&shop).await;
}
