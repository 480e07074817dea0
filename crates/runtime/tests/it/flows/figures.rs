//! What all flows add up to, and the topology as declared and as observed.

use ensue_runtime::flow::{FlowStats, Rule};

use super::{Harness, shop};
use crate::words::{Diary, StockReserved, placed};

/// Twenty orders: two declined, one of them silent as well, and one that nobody answers.
async fn twenty() -> Harness {
    let diary = Diary::default();
    for line in ["declined ORD-3", "silent ORD-3", "silent ORD-7"] {
        diary.note(line);
    }
    let mut shop = shop(&diary);
    for order in 1..=20 {
        shop.publish(placed(&format!("ORD-{order}"))).await;
    }
    shop.settle().await;
    shop
}

async fn stats(shop: &mut Harness) -> FlowStats {
    shop.running().await.flows().await.expect("readable").stats().await.expect("readable")
}

#[tokio::test]
async fn every_flow_is_counted_once_by_its_end_and_its_way() {
    let mut shop = twenty().await;
    let stats = stats(&mut shop).await;
    let [order] = stats.kinds.as_slice() else { panic!("one kind, but {:?}", stats.kinds) };
    assert_eq!((order.kind.as_str(), order.flows), ("order", 20));
    assert_eq!((order.done, order.failed, order.open), (18, 1, 1));
    let ways: Vec<(String, u64)> =
        order.variants.iter().map(|variant| (variant.events.join(" "), variant.count)).collect();
    let expected = [("OrderPlaced PaymentCompleted StockReserved", 18), ("OrderPlaced PaymentFailed", 1)];
    assert_eq!(ways, expected.map(|(way, count)| (way.to_owned(), count)));
    let edges: Vec<(&str, &str, &str, u64, bool)> = order
        .edges
        .iter()
        .map(|edge| {
            (edge.from.as_str(), edge.to.as_str(), edge.service.as_str(), edge.count, edge.is_declared)
        })
        .collect();
    assert_eq!(
        edges,
        [
            ("OrderPlaced", "PaymentCompleted", "payment", 18, true),
            ("PaymentCompleted", "StockReserved", "inventory", 18, true),
            ("OrderPlaced", "PaymentFailed", "payment", 1, true),
        ]
    );
    assert_eq!(
        stats.statement,
        "complete: each of 57 events has its cause in the log or is a declared beginning"
    );
}

#[tokio::test]
async fn an_event_that_came_from_elsewhere_without_a_cause_makes_the_figures_incomplete() {
    let mut shop = twenty().await;
    // It is declared to be caused by the inventory, not to come from outside.
    shop.publish(StockReserved { order: "ORD-7".to_owned() }).await;
    shop.settle().await;
    let stats = stats(&mut shop).await;
    assert!(!stats.completeness.is_complete());
    assert_eq!(
        stats.statement,
        "incomplete: of 58 events 1 came from elsewhere without a cause (StockReserved)"
    );
}

#[tokio::test]
async fn the_map_tells_what_was_observed_from_what_is_only_declared() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let flows = shop.running().await.flows().await.expect("readable");
    let map = flows.map().await.expect("readable");
    let links: Vec<(&str, &str, Option<&str>, u64)> = map
        .links
        .iter()
        .map(|link| (link.event.as_str(), link.from.as_str(), link.to.as_deref(), link.observed))
        .collect();
    assert_eq!(
        links,
        [
            ("OrderPlaced", "outside", Some("payment"), 1),
            ("OrderPlaced", "outside", Some("payment"), 1),
            ("PaymentCompleted", "payment", Some("inventory"), 1),
            ("PaymentFailed", "payment", None, 0),
            ("StockReserved", "inventory", None, 1),
        ]
    );
    let [never] = map.never_observed.as_slice() else { panic!("{:?}", map.never_observed) };
    assert_eq!((never.from.as_str(), never.to.as_str()), ("OrderPlaced", "PaymentFailed"));
    assert_eq!(flows.lint().await.expect("readable"), [], "both ends are declared");
}

#[tokio::test]
async fn what_a_handler_caused_before_it_was_declared_otherwise_is_found() {
    use ensue_runtime::App;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{payment, reserve_stock};

    async fn only_count(_: crate::words::PaymentCompleted) {}
    let is_new = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&is_new);
    let mut shop = Harness::new(move |app: App| {
        let app = payment(app, &Diary::default());
        if inside.load(Ordering::Acquire) {
            app.react("reserve-stock", only_count)
        } else {
            app.react("reserve-stock", reserve_stock)
        }
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    is_new.store(true, Ordering::Release);
    shop.restart().await;
    let found = shop.running().await.flows().await.expect("readable").lint().await.expect("readable");
    let undeclared: Vec<&str> = found
        .iter()
        .filter(|finding| finding.rule == Rule::Undeclared)
        .map(|finding| finding.subject.as_str())
        .collect();
    assert_eq!(undeclared, ["reserve-stock"], "{found:?}");
}
