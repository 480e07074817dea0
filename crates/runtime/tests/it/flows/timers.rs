//! Flows that wait for a time: in good time they are well, beyond what their kind may take they are listed.

use std::time::Duration;

use ensue_core::{Delayed, Outcome};
use ensue_runtime::App;
use ensue_runtime::flow::FlowStatus;
use ensue_test::Harness;

use super::{status, stuck, the_stuck_one};
use crate::words::{OrderPlaced, PaymentCompleted, placed};

const MAY_TAKE: Duration = Duration::from_hours(24);

/// A payment that is taken after so many hours.
fn paid_after(hours: u64) -> Harness {
    Harness::new(move |app: App| {
        let pay = move |placed: OrderPlaced| async move {
            Delayed::after(Duration::from_hours(hours), PaymentCompleted { order: placed.order })
        };
        app.external::<OrderPlaced>()
            .service("payment")
            .react("pay", pay)
            .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<PaymentCompleted>().within(MAY_TAKE))
    })
}

#[tokio::test]
async fn an_event_that_comes_later_is_waited_for_by_its_type_and_listed_only_beyond_what_the_kind_may_take() {
    for (hours, is_listed) in [(2, false), (30, true)] {
        let mut shop = paid_after(hours);
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Waiting);
        let listed = stuck(&mut shop).await;
        assert_eq!(listed.len(), usize::from(is_listed), "{listed:?}");
        if let Some(flow) = listed.first() {
            assert_eq!(
                (flow.status, flow.waits_for.as_deref()),
                (FlowStatus::Waiting, Some("PaymentCompleted"))
            );
            assert!(flow.reason.starts_with("waits for PaymentCompleted until "), "{}", flow.reason);
        }
        shop.advance(Duration::from_hours(31)).await;
        assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Done);
        assert_eq!(stuck(&mut shop).await, []);
    }
}

#[tokio::test]
async fn a_deferred_delivery_and_what_waits_behind_it_are_neither_dead_nor_stuck() {
    let mut shop = Harness::new(|app: App| {
        let pay = |_: OrderPlaced| async {
            let next_year = "2025-01-01T00:00:00Z".parse().expect("a time");
            Outcome::Defer(next_year)
        };
        app.external::<OrderPlaced>().service("payment").react("pay", pay)
    });
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let deferred = ensue_runtime::dead::deferred(&**shop.store()).await.expect("readable");
    assert_eq!(deferred.len(), 2, "the second waits behind the first");
    assert_eq!(stuck(&mut shop).await, [], "no kind is declared, so none may take less");
    let flows = shop.running().await.flows().await.expect("readable");
    let waiting = flows.list(Some(FlowStatus::Waiting), 10).await.expect("readable");
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert!(waiting.iter().all(|flow| flow.from.as_deref() == Some("payment")), "{waiting:?}");
}

#[tokio::test]
async fn a_deferral_beyond_what_the_kind_may_take_is_listed_with_who_asked_for_it() {
    let mut shop = Harness::new(|app: App| {
        let pay = |_: OrderPlaced| async {
            let next_year = "2025-01-01T00:00:00Z".parse().expect("a time");
            Outcome::Defer(next_year)
        };
        app.external::<OrderPlaced>()
            .external::<PaymentCompleted>()
            .service("payment")
            .react("pay", pay)
            .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<PaymentCompleted>().within(MAY_TAKE))
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.status, flow.from.as_deref()), (FlowStatus::Waiting, Some("payment")));
    let expected = "pay of payment waits for a timer until 2025-01-01T00:00:00Z; order may take 24 hours";
    assert_eq!(flow.reason, expected);
}
