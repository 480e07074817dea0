//! Sagas: four steps, a failure at each, and every misfortune; the ends and the order of undoing are exact.

use ensue_runtime::saga::SagaStatus::{self, Compensated, Completed, NeedsAttention};
use ensue_runtime::{App, Saga, SagaError, State};
use ensue_test::{Harness, crash_everywhere};

use crate::words::{OrderPlaced, placed};
use world::{ALWAYS, Charge, Ledger, OrderFulfilled, Refund, Release, Reserve, Ship, end};

mod attention;
mod late;
mod operators;
mod replay;
mod together;
mod versions;
mod waiting;
pub(crate) mod world;

async fn fulfil(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<OrderFulfilled, SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    saga.send("reserve", Reserve { order: order.clone() })
        .undo(|done| Release { order: done.order.clone() })
        .await?;
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    saga.step("notify", move |key| async move { ledger.act(&key, "notify") }).nothing_to_undo().await?;
    Ok(OrderFulfilled { order })
}

/// One end: the step that fails for good, how the saga ends, what took hold outside, and what was undone.
struct Row {
    fails: &'static str,
    status: SagaStatus,
    effects: &'static [&'static str],
    undone: &'static [&'static str],
}

const ENDS: [Row; 5] = [
    Row { fails: "charge", status: Compensated, effects: &[], undone: &[] },
    Row { fails: "reserve", status: Compensated, effects: &["charge", "refund"], undone: &["charge"] },
    Row {
        fails: "ship",
        status: Compensated,
        effects: &["charge", "reserve", "release", "refund"],
        undone: &["reserve", "charge"],
    },
    Row { fails: "notify", status: NeedsAttention, effects: &["charge", "reserve", "ship"], undone: &[] },
    Row {
        fails: "nothing",
        status: Completed,
        effects: &["charge", "reserve", "ship", "notify"],
        undone: &[],
    },
];

fn shop(fails: &str) -> Harness {
    let ledger = Ledger::default();
    ledger.refuse(fails, ALWAYS);
    world::harness(&ledger, |app: App| app.saga("fulfil", fulfil))
}

async fn reaches_its_end(shop: &mut Harness, row: &Row) {
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let ledger: Ledger = shop.running().await.state().expect("it is mounted");
    assert_eq!(ledger.effects(), row.effects, "{} fails", row.fails);
    let (status, undone) = end(shop).await;
    assert_eq!((status, undone), (row.status, row.undone.iter().map(ToString::to_string).collect()));
    let ended = shop.events().await;
    let fulfilled = ended.iter().filter(|event| *event == "OrderFulfilled").count();
    assert_eq!(fulfilled, usize::from(row.status == Completed), "{ended:?}");
    assert!(shop.dead_letters().await.is_empty(), "{:?}", shop.dead_letters().await);
    assert!(shop.running().await.halted().is_empty());
}

#[tokio::test]
async fn a_failure_at_each_step_leads_to_its_end_and_undoes_in_reverse_order() {
    for row in &ENDS {
        reaches_its_end(&mut shop(row.fails), row).await;
    }
}

#[tokio::test]
async fn a_crash_before_or_after_any_commit_changes_no_end() {
    for row in &ENDS {
        let crashes =
            crash_everywhere(|| shop(row.fails), async |shop: &mut Harness| reaches_its_end(shop, row).await)
                .await;
        assert!(crashes >= 16, "{crashes} crashes where {} fails", row.fails);
    }
}

#[tokio::test]
async fn steps_and_undos_done_twice_and_replies_that_come_twice_change_no_end() {
    for row in &ENDS {
        let mut shop = shop(row.fails).deliver_twice();
        reaches_its_end(&mut shop, row).await;
        let ledger: Ledger = shop.running().await.state().expect("it is mounted");
        for effect in row.effects {
            assert!(ledger.calls(effect) >= 2, "{effect} was called {} times", ledger.calls(effect));
        }
        let journal = shop.events_of("saga.fulfil/ORD-1").await;
        let count = |entry: &str| journal.iter().filter(|known| *known == entry).count();
        let sent = journal.iter().filter(|entry| !entry.starts_with("saga.")).count();
        assert_eq!(count("saga.ReplyReceived"), 2 * sent, "each reply came twice: {journal:?}");
    }
}

#[tokio::test]
async fn doubled_work_and_a_crash_together_change_no_end() {
    for row in &ENDS {
        crash_everywhere(
            || shop(row.fails).deliver_twice(),
            async |shop: &mut Harness| reaches_its_end(shop, row).await,
        )
        .await;
    }
}

#[tokio::test]
async fn chance_changes_no_end() {
    for row in &ENDS {
        for seed in 0..20 {
            reaches_its_end(&mut shop(row.fails).reorder_across_keys(seed), row).await;
        }
    }
}

#[tokio::test]
async fn a_second_event_with_the_same_key_starts_nothing() {
    let mut shop = shop("nothing");
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let ledger: Ledger = shop.running().await.state().expect("it is mounted");
    assert_eq!((ledger.calls("charge"), ledger.calls("notify")), (1, 1));
    assert_eq!(end(&shop).await.0, Completed);
    let journal = shop.events_of("saga.fulfil/ORD-1").await;
    assert_eq!(journal.iter().filter(|entry| *entry == "saga.StartIgnored").count(), 2);
}

#[tokio::test]
async fn an_ended_instance_leaves_no_timer_and_no_wait_behind() {
    for row in &ENDS {
        let mut shop = shop(row.fails);
        reaches_its_end(&mut shop, row).await;
        assert_eq!(ensue_runtime::timer::list(&**shop.store()).await.expect("timers can be read"), []);
    }
}
