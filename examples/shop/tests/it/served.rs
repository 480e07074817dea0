//! Orders served from beginning to end, in both styles.

use std::collections::BTreeMap;

use ensue::core::Recorded;
use ensue::runtime::projection::verify;
use ensue_shop::Style;
use ensue_shop::order::OrdersView;

use crate::shop::{STRICT, Shop};

const ORDERS: u64 = 200;

/// What happened to each order, in order.
fn histories(events: &[Recorded]) -> BTreeMap<String, Vec<String>> {
    let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for recorded in events.iter().filter(|recorded| recorded.stream.topic.as_str() != "Fraud") {
        let history = histories.entry(recorded.stream.key.to_string()).or_default();
        history.push(recorded.envelope.event_type.to_string());
    }
    histories
}

/// How many orders went which way.
fn ways(events: &[Recorded]) -> BTreeMap<Vec<String>, usize> {
    let mut ways = BTreeMap::new();
    for history in histories(events).into_values() {
        *ways.entry(history).or_default() += 1;
    }
    ways
}

fn way(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_goes_one_of_four_ways_and_undoes_in_reverse_order() {
    for style in Style::ALL {
        let shop = Shop::new("four-ways", style, STRICT);
        let outside = shop.serve(ORDERS).await;
        let mut good =
            vec!["OrderPlaced", "PaymentCompleted", "StockReserved", "ShipmentCreated", "CustomerNotified"];
        if style == Style::Saga {
            good.push("OrderCompleted");
        }
        let expected = [
            way(&good),
            way(&["OrderPlaced", "PaymentFailed"]),
            way(&["OrderPlaced", "PaymentCompleted", "InventoryFailed", "PaymentRefunded"]),
            way(&[
                "OrderPlaced",
                "PaymentCompleted",
                "StockReserved",
                "ShipmentFailed",
                "StockReleased",
                "PaymentRefunded",
            ]),
        ];
        let ways = ways(&shop.events().await);
        assert_eq!(ways.len(), 4, "{style}: {ways:#?}");
        for way in &expected {
            assert!(ways.contains_key(way), "{style}: no order went {way:?}, but {ways:#?}");
        }
        assert_eq!(ways.values().sum::<usize>(), 200);
        assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
        let difference = verify(OrdersView, shop.store.clone()).await.expect("a store that answers");
        assert!(difference.is_none() && difference.documents == ORDERS, "{style}: {difference:?}");
    }
}
