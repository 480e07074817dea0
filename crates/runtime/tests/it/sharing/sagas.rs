//! Sagas, and the timers that wake them, over several processes.

use std::time::Duration;

use ensue_core::Clock;
use ensue_runtime::saga::{SagaHead, SagaStatus, head};
use ensue_runtime::{App, Saga, SagaError, State, timer};
use ensue_test::Cluster;

use crate::saga::world::{Charge, Delivered, Ledger, Refund, Reserve, mount_commands};
use crate::words::{OrderPlaced, placed};

const ORDERS: [&str; 6] = ["ORD-1", "ORD-2", "ORD-3", "ORD-4", "ORD-5", "ORD-6"];
const HOUR: Duration = Duration::from_hours(1);

/// Charges, sleeps, reserves, and waits until it is delivered.
async fn fulfil(saga: Saga<OrderPlaced>, State(ledger): State<Ledger>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    let undo = |done: &crate::saga::world::Done| Refund { order: done.order.clone() };
    saga.send("charge", Charge { order: order.clone() }).undo(undo).await?;
    saga.sleep("think", Duration::from_secs(5)).await?;
    saga.send("reserve", Reserve { order: order.clone() }).undo(undo).await?;
    saga.wait_for::<Delivered>(&order).within(HOUR).await?;
    let key = order.clone();
    saga.step("note", move |_| async move { ledger.act(&key, "delivered") }).nothing_to_undo().await?;
    Ok(())
}

fn shop(ledger: &Ledger) -> Cluster {
    let ledger = ledger.clone();
    Cluster::new(move |app: App| {
        let app = app.state(ledger.clone()).external::<OrderPlaced>().external::<Delivered>();
        mount_commands(app).saga("fulfil", fulfil)
    })
}

async fn heads(cluster: &Cluster) -> Vec<SagaHead> {
    head::list(&**cluster.store()).await.expect("heads can be read")
}

async fn are_all(cluster: &Cluster, status: SagaStatus) -> bool {
    let heads = heads(cluster).await;
    heads.len() == ORDERS.len() && heads.iter().all(|head| head.status == status)
}

#[tokio::test]
async fn a_saga_goes_on_in_another_process_at_the_step_where_it_was() {
    let ledger = Ledger::default();
    let mut cluster = shop(&ledger);
    let (first, second) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(2)).await;
    for order in ORDERS {
        cluster.publish(placed(order)).await;
    }
    cluster.advance(Duration::from_secs(1)).await;
    assert_eq!(ledger.calls("charge"), ORDERS.len());
    cluster.kill(first).await;
    let third = cluster.add().await;
    cluster.advance(Duration::from_secs(10)).await;
    assert!(are_all(&cluster, SagaStatus::Waiting).await, "{:?}", heads(&cluster).await);
    cluster.shut_down(second).await;
    for order in ORDERS {
        cluster.publish(Delivered { order: order.to_owned(), parcel: 1 }).await;
    }
    cluster.settle().await;
    assert!(are_all(&cluster, SagaStatus::Completed).await, "{:?}", heads(&cluster).await);
    assert_eq!(
        (ledger.calls("charge"), ledger.calls("reserve")),
        (ORDERS.len(), ORDERS.len()),
        "no step twice"
    );
    assert_eq!(cluster.running(third).members().len(), 1);
}

#[tokio::test]
async fn an_event_that_an_instance_in_another_process_awaits_is_not_passed_over() {
    let ledger = Ledger::default();
    let mut cluster = shop(&ledger);
    cluster.add().await;
    cluster.add().await;
    cluster.advance(Duration::from_secs(2)).await;
    // Only one instance waits, so only the process that has it learns of the type by itself.
    cluster.publish(placed("ORD-1")).await;
    cluster.advance(Duration::from_secs(8)).await;
    let waits = heads(&cluster).await.pop().expect("it was started");
    assert_eq!(waits.status, SagaStatus::Waiting);
    // Its lane moves to a process that has never heard of the type before, and back.
    for _ in 0..2 {
        cluster.add().await;
    }
    cluster.advance(Duration::from_secs(3)).await;
    for node in 0..3 {
        cluster.shut_down(node).await;
    }
    cluster.publish(Delivered { order: "ORD-1".to_owned(), parcel: 1 }).await;
    cluster.settle().await;
    let done = heads(&cluster).await.pop().expect("it was started");
    assert_eq!(done.status, SagaStatus::Completed);
}

#[tokio::test]
async fn timers_fire_once_whoever_fires_them() {
    let ledger = Ledger::default();
    let mut cluster = shop(&ledger);
    let nodes = [cluster.add().await, cluster.add().await, cluster.add().await];
    cluster.advance(Duration::from_secs(2)).await;
    for order in ORDERS {
        cluster.publish(placed(order)).await;
    }
    cluster.advance(Duration::from_secs(1)).await;
    assert_eq!(timer::list(&**cluster.store()).await.expect("timers can be read").len(), ORDERS.len());
    // One hangs when they come due, possibly the one that fires; when it wakes up it believes that it still should.
    for node in nodes {
        cluster.freeze(node);
        cluster.advance(Duration::from_secs(4)).await;
        cluster.thaw(node).await;
    }
    cluster.advance(Duration::from_secs(5)).await;
    let fired = cluster.recorded().await;
    let fired = fired.iter().filter(|recorded| recorded.envelope.event_type.as_str() == "saga.TimerFired");
    assert_eq!(fired.count(), ORDERS.len());
    assert!(are_all(&cluster, SagaStatus::Waiting).await, "{:?}", heads(&cluster).await);
}

#[tokio::test]
async fn a_timer_is_not_late_because_another_process_fires_it() {
    let ledger = Ledger::default();
    let mut cluster = shop(&ledger);
    cluster.add().await;
    cluster.add().await;
    cluster.advance(Duration::from_secs(2)).await;
    cluster.publish(placed("ORD-1")).await;
    let begun = cluster.clock().now();
    cluster.advance(Duration::from_secs(8)).await;
    let recorded = cluster.recorded().await;
    let fired = recorded.iter().find(|recorded| recorded.envelope.event_type.as_str() == "saga.TimerFired");
    let after = fired.expect("it fired").recorded_at.duration_since(begun);
    assert!(after.as_millis() < 5_100, "five seconds took {after:?}");
}
