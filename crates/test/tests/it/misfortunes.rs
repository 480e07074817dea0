//! Misfortunes strike when they are asked for, and `explore` finds what they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ensue_core::Clock;
use ensue_macros::Event;
use ensue_runtime::{App, Cause};
use ensue_test::{Crash, Harness, explore};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order)]
struct OrderPlaced {
    order: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Payment", key = order)]
struct PaymentCompleted {
    order: String,
}

async fn take_payment(placed: OrderPlaced) -> PaymentCompleted {
    PaymentCompleted { order: placed.order }
}

fn shop() -> Harness {
    Harness::new(|app: App| app.external::<OrderPlaced>().react("take-payment", take_payment))
}

async fn every_order_is_paid_once(shop: &mut Harness) {
    shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
    shop.settle().await;
    shop.assert_events(["OrderPlaced", "PaymentCompleted"]).await;
}

#[tokio::test]
async fn a_lost_reply_doubles_nothing_wherever_it_is_lost() {
    let mut number = 0;
    loop {
        number += 1;
        let mut shop = shop().lose_reply_at(number);
        every_order_is_paid_once(&mut shop).await;
        if shop.replies_lost() == 0 {
            break;
        }
    }
    assert!(number > 3, "start, publish and settle are commits: {number}");
}

#[tokio::test]
async fn replies_lost_at_random_double_nothing() {
    let mut lost = 0;
    for seed in 0..30 {
        let mut shop = shop().lose_replies(seed);
        every_order_is_paid_once(&mut shop).await;
        lost += shop.replies_lost();
    }
    assert!(lost > 10, "{lost}");
}

#[tokio::test]
async fn a_slow_store_takes_time_and_changes_nothing() {
    let by = Duration::from_millis(30);
    let mut shop = shop().slow(by);
    every_order_is_paid_once(&mut shop).await;
    let passed = shop.clock().monotonic();
    assert!(passed >= by * 3, "start, publish and settle are commits: {passed:?}");
}

#[tokio::test]
async fn calls_of_a_handler_are_counted_over_all_lives() {
    let mut quiet = shop();
    every_order_is_paid_once(&mut quiet).await;
    assert_eq!(quiet.called("take-payment").await, 1);
    let mut number = 0;
    let mut calls = Vec::new();
    loop {
        number += 1;
        let mut shop = shop().crash_at(Crash::Before(number));
        every_order_is_paid_once(&mut shop).await;
        if shop.crashes() == 0 {
            break;
        }
        calls.push(shop.called("take-payment").await);
    }
    assert!(
        calls.contains(&1) && calls.contains(&2),
        "a call whose commit was lost is made again: {calls:?}"
    );
    assert!(calls.iter().all(|calls| (1..=2).contains(calls)), "{calls:?}");
}

#[tokio::test]
#[should_panic(expected = "there is no handler take-paymnet, but take-payment")]
async fn a_handler_that_is_not_there_was_not_called_never_but_by_mistake() {
    shop().called("take-paymnet").await;
}

#[tokio::test]
async fn a_process_crashes_as_often_as_it_is_told_to() {
    let mut shop =
        shop().crash_at(Crash::Before(1)).crash_at(Crash::After(2)).crash_at(Crash::After(4)).deliver_twice();
    every_order_is_paid_once(&mut shop).await;
    assert_eq!(shop.crashes(), 3);
}

#[tokio::test]
async fn exploring_a_sound_scenario_finds_nothing_and_says_what_it_went_through() {
    let explored = explore(200, shop, every_order_is_paid_once).await;
    assert_eq!(explored.runs, 201);
    assert!(explored.crashes > 50 && explored.replies_lost > 50, "{explored:?}");
}

/// Money that is taken without a look at the idempotency key.
fn careless() -> (impl Fn() -> Harness, Arc<AtomicU32>) {
    let taken = Arc::new(AtomicU32::new(0));
    let till = taken.clone();
    let harness = move || {
        till.store(0, Ordering::Relaxed);
        let till = till.clone();
        Harness::new(move |app: App| {
            let till = till.clone();
            app.external::<OrderPlaced>().react("take-payment", move |_: Cause, _: OrderPlaced| {
                till.fetch_add(1, Ordering::Relaxed);
                async {}
            })
        })
    };
    (harness, taken)
}

#[tokio::test]
async fn exploring_finds_an_effect_that_is_made_twice_and_writes_the_smallest_test() {
    let (harness, taken) = careless();
    let scenario = async |shop: &mut Harness| {
        shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
        shop.settle().await;
        assert_eq!(taken.load(Ordering::Relaxed), 1, "taken once");
    };
    let exploring = std::panic::AssertUnwindSafe(explore(200, harness, scenario));
    let panic = futures_util::FutureExt::catch_unwind(exploring).await.expect_err("money is taken twice");
    let report = panic.downcast_ref::<String>().expect("it says what it found");
    assert!(report.contains("taken once"), "{report}");
    let lines: Vec<&str> = report.lines().skip_while(|line| *line != "#[tokio::test]").collect();
    let [_, name, given, when, _] = lines.as_slice() else { panic!("{report}") };
    assert_eq!(*name, "async fn scenario_in_spite_of_misfortune() {");
    assert!(given.starts_with("    let mut harness = harness()."), "{report}");
    assert_eq!(given.matches('.').count(), 1, "one misfortune is enough: {report}");
    assert_eq!(*when, "    scenario(&mut harness).await;");
}

#[tokio::test]
#[should_panic(expected = "- PaymentCompleted\n+ OrderPlaced")]
async fn a_broken_assertion_about_events_shows_the_difference() {
    let mut shop = shop();
    shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
    shop.assert_events(["PaymentCompleted"]).await;
}

#[test]
fn the_topology_is_what_the_file_says() {
    shop().assert_topology("tests/it/topology.mmd");
}
