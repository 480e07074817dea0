//! What operators do to a flow is told in it, and is no step of it: neither its status nor the figures take it for one.

use std::num::NonZeroU32;
use std::time::Duration;

use ensue_core::Delayed;
use ensue_runtime::dead::Which;
use ensue_runtime::flow::{FlowStatus, Rule};
use ensue_runtime::timer::Filter;
use ensue_runtime::{App, Timers};
use ensue_test::Harness;

use super::{shop, status, stuck, the_stuck_one};
use crate::words::{Diary, OrderPlaced, PaymentCompleted, placed};

const DUE: Duration = Duration::from_hours(30);

/// A payment that is taken after thirty hours where an order may take a day; the newest order of a key sets the time.
fn paid_later() -> Harness {
    Harness::new(|app: App| {
        let pay = |placed: OrderPlaced| async move {
            Delayed::after(DUE, PaymentCompleted { order: placed.order }).named("payment")
        };
        app.external::<OrderPlaced>().service("payment").react("pay", pay).flow("order", |flow| {
            flow.starts::<OrderPlaced>().ends::<PaymentCompleted>().within(Duration::from_hours(24))
        })
    })
}

async fn timers(shop: &mut Harness) -> Timers {
    shop.running().await.timers()
}

#[tokio::test]
async fn a_letter_given_up_before_the_turn_of_its_redrive_leaves_no_turn_and_no_wait() {
    let diary = Diary::default();
    diary.note("unreachable ORD-1");
    diary.note("unreachable ORD-2");
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-2")).await;
    shop.settle().await;
    let dead = shop.running().await.dead();
    dead.redrive_at(&Which::All, NonZeroU32::MIN).await.expect("two are parked");
    let turns = dead.redrives().await.expect("readable");
    assert!(turns.iter().any(|turn| turn.key == "ORD-2" && turn.due.is_some()), "{turns:?}");
    dead.discard(&Which::key("take-payment", "ORD-2"), "the customer is gone").await.expect("it is parked");
    let left = dead.redrives().await.expect("readable");
    assert!(left.iter().all(|turn| turn.key != "ORD-2"), "{left:?}");
    let stuck = stuck(&mut shop).await;
    let given_up = stuck.iter().find(|flow| flow.key == "ORD-2").expect("nobody goes on with it");
    assert!(given_up.reason.ends_with("the customer is gone"), "{}", given_up.reason);
}

#[tokio::test]
async fn a_key_that_is_asked_for_at_once_has_no_turn_any_more() {
    let diary = Diary::default();
    diary.note("unreachable ORD-1");
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.stop().await;
    let operator = ensue_runtime::dead::DeadLetters::new(shop.store().clone(), shop.host().clone(), "ada");
    operator.redrive_at(&Which::All, NonZeroU32::MIN).await.expect("it is parked");
    operator.redrive(&Which::All).await.expect("it is parked");
    let [asked] = operator.redrives().await.expect("readable").try_into().expect("one request");
    assert_eq!(asked.due, None);
}

#[tokio::test]
async fn a_timer_that_lost_its_name_is_not_waited_for() {
    let mut shop = paid_later();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.advance(Duration::from_mins(1)).await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let timers = timers(&mut shop).await;
    let [set] =
        timers.list(&Filter::default()).await.expect("readable").try_into().expect("one holds the name");
    timers.cancel(&set.id(), "paid in cash").await.expect("it is set");
    let found: Vec<FlowStatus> = stuck(&mut shop).await.into_iter().map(|flow| flow.status).collect();
    assert_eq!(found, [FlowStatus::Stuck; 2], "no timer brings either of them on");
}

#[tokio::test]
async fn putting_a_timer_off_makes_the_wait_no_younger_and_is_no_part_of_the_figures() {
    let mut shop = paid_later();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let before = the_stuck_one(&mut shop).await;
    shop.advance(Duration::from_mins(10)).await;
    let timers = timers(&mut shop).await;
    let [set] = timers.list(&Filter::default()).await.expect("readable").try_into().expect("one is set");
    timers.reschedule(&set.id(), set.due, "nothing to hurry").await.expect("it is set");
    let after = the_stuck_one(&mut shop).await;
    assert_eq!((after.since, after.status), (before.since, FlowStatus::Waiting));

    timers.fire(&set.id(), "the customer calls").await.expect("it is set");
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Done);
    let flows = shop.running().await.flows().await.expect("readable");
    let found = flows.lint().await.expect("readable");
    assert!(found.iter().all(|finding| finding.rule != Rule::Undeclared), "{found:?}");
    let stats = flows.stats().await.expect("readable");
    let ways: Vec<String> =
        stats.kinds.iter().flat_map(|kind| &kind.variants).map(|way| way.events.join(" ")).collect();
    assert_eq!((ways, stats.completeness.lost_causes), (vec!["OrderPlaced PaymentCompleted".to_owned()], 0));
}
