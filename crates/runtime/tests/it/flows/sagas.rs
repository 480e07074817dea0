//! Flows that a saga conducts.

use std::time::Duration;

use ensue_runtime::flow::FlowStatus;
use ensue_runtime::{App, Saga, SagaError};

use super::{status, stuck, the_stuck_one};
use crate::saga::world::{self, ALWAYS, Charge, Delivered, Ledger, Refund, Reserve};
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
async fn a_saga_that_completes_or_undoes_everything_is_never_listed() {
    let ledger = Ledger::default();
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", charge_and_reserve));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    ledger.refuse("reserve", ALWAYS);
    shop.publish(placed("ORD-2")).await;
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Done);
    assert_eq!(status(&mut shop, "ORD-2").await, FlowStatus::Failed);
    assert_eq!(stuck(&mut shop).await, []);
}

#[tokio::test]
async fn an_undo_that_is_refused_for_good_is_stuck_with_its_code() {
    let ledger = Ledger::default();
    ledger.refuse("reserve", ALWAYS);
    ledger.refuse("refund", ALWAYS);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", charge_and_reserve));
    shop.publish(placed("ORD-1")).await;
    shop.advance(Duration::from_hours(1)).await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!(
        (flow.key.as_str(), flow.status, flow.code.as_deref()),
        ("ORD-1", FlowStatus::Stuck, Some("E0602"))
    );
    assert!(
        flow.reason.contains("needs a decision") && flow.reason.contains("no refund today"),
        "{}",
        flow.reason
    );
}

async fn wait_for_delivery(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    saga.wait_for::<Delivered>(saga.key()).within(Duration::from_hours(24 * 14)).await?;
    Ok(())
}

#[tokio::test]
async fn a_saga_that_waits_in_good_time_is_well_and_one_that_waits_beyond_what_its_kind_may_take_is_listed() {
    for (may_take, is_listed) in [(Duration::from_hours(24 * 30), false), (Duration::from_hours(24), true)] {
        let mut shop = world::harness(&Ledger::default(), move |app: App| {
            app.saga("fulfil", wait_for_delivery)
                .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<Delivered>().within(may_take))
        });
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Waiting);
        let listed = stuck(&mut shop).await;
        assert_eq!(listed.len(), usize::from(is_listed), "{listed:?}");
        if let Some(flow) = listed.first() {
            assert!(flow.reason.ends_with("order may take 24 hours"), "{}", flow.reason);
        }
    }
}
