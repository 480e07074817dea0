//! Orders served from beginning to end, in both styles.

use std::collections::{BTreeMap, BTreeSet};

use ensue::core::Recorded;
use ensue::runtime::projection::{collection, verify};
use ensue::runtime::saga::SagaStatus;
use ensue::runtime::saga::head::list;
use ensue::{Cache, Code, Running};
use ensue_shop::analytics::{Day, SHOP, Sales};
use ensue_shop::events::{OrderPlaced, OrderState};
use ensue_shop::order::{OrderRow, OrdersView, cached_name};
use ensue_shop::outside::{Config, Outside};
use ensue_shop::{Money, Style, orders, orders_of_customer};

use crate::shop::{STRICT, Shop, place};

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

/// What the ledgers hold in the end, whatever happened on the way.
fn sums(outside: &Outside) -> (Money, Money, u64, u64, u64) {
    let (provider, warehouse) = (outside.provider.totals(), outside.warehouse.totals());
    let parcels = outside.carrier.totals().shipments;
    (provider.charged, provider.refunded, warehouse.reserved, warehouse.released, parcels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_in_the_middle_leave_no_order_behind_and_double_no_effect() {
    for style in Style::ALL {
        let calm = Shop::new("calm", style, STRICT);
        let expected = (sums(&calm.serve(300).await), ways(&calm.events().await));
        let shop = Shop::new("crashes", style, STRICT);
        for crash in 1..=4 {
            let (running, outside) = shop.start().await;
            for order in orders(STRICT.seed, crash * 75) {
                place(&running, order).await;
            }
            // Everything in hand is lost at once: nobody finishes, nothing is drained.
            drop(running);
            shop.released(outside).await;
        }
        let outside = shop.serve(300).await;
        assert_eq!((sums(&outside), ways(&shop.events().await)), expected, "{style}");
        assert_eq!(outside.audit().expect("readable"), Vec::<String>::new(), "{style}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_asked_for_again_and_take_no_second_effect() {
    for style in Style::ALL {
        let expected = sums(&Shop::new("reliable", style, STRICT).serve(60).await);
        let flaky = Config { unanswered_percent: 10, ..STRICT };
        let shop = Shop::new("flaky", style, flaky);
        let outside = shop.serve(60).await;
        assert_eq!(sums(&outside), expected, "{style}");
        assert_eq!(outside.audit().expect("readable"), Vec::<String>::new(), "{style}");
        assert!(outside.provider.totals().calls.repeats > 0, "{style}: no answer was lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_comes_in_twice_is_served_once() {
    for style in Style::ALL {
        let shop = Shop::new("twice", style, STRICT);
        let (running, outside) = shop.start().await;
        let order = served_order();
        assert!(!place(&running, order.clone()).await, "{style}: the first is new");
        assert!(place(&running, order.clone()).await, "{style}: the same id again adds nothing");
        shop.idle(&running).await;
        let before = (sums(&outside), rows(&running).await);
        // Under another id it is another event, but still the same order.
        running.publish(order).await.expect("a valid order");
        shop.idle(&running).await;
        assert_eq!((sums(&outside), rows(&running).await), before, "{style}");
        let charges = shop.events().await;
        let charges = charges.iter().filter(|event| event.envelope.event_type.as_str() == "PaymentCompleted");
        assert_eq!(charges.count(), 1, "{style}");
    }
}

/// An order that no ledger refuses.
fn served_order() -> OrderPlaced {
    orders(STRICT.seed, 1).next().expect("one order")
}

async fn rows(running: &Running) -> Vec<(String, OrderRow)> {
    let view = running.view::<OrdersView>().expect("a valid name");
    view.page("", 1_000).await.expect("a store that answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_sees_an_order_at_once_and_its_state_when_it_changes() {
    let shop = Shop::new("customer", Style::Choreography, STRICT);
    let (running, _outside) = shop.start().await;
    let order = served_order();
    let customer = &order.customer_id;
    assert_eq!(orders_of_customer(&running, customer).await.expect("readable"), []);
    let cache: Cache<Vec<OrderRow>> = running.state().expect("the shop has a cache");
    assert!(cache.contains(&cached_name(customer)), "it is kept");
    let placed = running.publish(order.clone()).await.expect("a valid order");
    running.wait(placed.position).await.expect("the read models run");
    let rows = orders_of_customer(&running, customer).await.expect("readable");
    assert_eq!(rows.len(), 1, "the empty answer is no longer in the cache");
    shop.idle(&running).await;
    let rows = orders_of_customer(&running, customer).await.expect("readable");
    let [row] = rows.as_slice() else { panic!("one order, but {rows:?}") };
    assert_eq!((row.status, row.total, row.paid), (OrderState::Completed, order.total, order.total));
    assert_eq!(Some(&row.customer_name), order.customer_name.as_ref());
    assert!(cache.contains(&cached_name(customer)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_days_add_up_to_what_the_provider_kept() {
    for style in Style::ALL {
        let shop = Shop::new("days", style, STRICT);
        let (running, outside) = shop.start().await;
        for order in orders(STRICT.seed, 100) {
            place(&running, order).await;
        }
        shop.idle(&running).await;
        let days = running.view::<Sales>().expect("a valid name").get(SHOP).await.expect("readable");
        let days: Vec<Day> = days.expect("there were orders").days.into_values().collect();
        let count = |of: fn(&Day) -> u64| days.iter().map(of).sum::<u64>();
        let sum = |of: fn(&Day) -> Money| Money::checked_sum(days.iter().map(of)).expect("it fits");
        let totals = outside.provider.totals();
        assert_eq!((sum(|day| day.charged), sum(|day| day.refunded)), (totals.charged, totals.refunded));
        assert_eq!(count(|day| day.placed), 100, "{style}");
        let ended =
            |day: &Day| day.completed + day.payment_failed + day.inventory_failed + day.shipping_failed;
        assert_eq!(count(ended), 100, "{style}");
        let suspects = orders(STRICT.seed, 100).filter(|order| order.total > Money::from_cents(25_000));
        assert_eq!(count(|day| day.suspected), u64::try_from(suspects.count()).expect("a few"), "{style}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_knows_what_it_has_undone_and_in_which_order() {
    let shop = Shop::new("heads", Style::Saga, STRICT);
    shop.serve(100).await;
    let view = collection::<OrdersView>(shop.store.clone()).expect("a valid name");
    let mut seen = BTreeSet::new();
    for head in list(&*shop.store).await.expect("readable") {
        let row = view.get(&head.key).await.expect("readable").expect("an order that was placed");
        let (status, undone): (SagaStatus, &[&str]) = match row.status {
            OrderState::PaymentFailed => (SagaStatus::Compensated, &[]),
            OrderState::InventoryFailed => (SagaStatus::Compensated, &["charge"]),
            OrderState::ShippingFailed => (SagaStatus::Compensated, &["reserve", "charge"]),
            _ => (SagaStatus::Completed, &[]),
        };
        assert_eq!(
            (head.status, head.undone.iter().map(smol_str::SmolStr::as_str).collect::<Vec<_>>()),
            (status, undone.to_vec())
        );
        assert!(row.is_over(), "{row:?}");
        seen.insert(row.status.as_str());
    }
    let ends = ["COMPLETED", "INVENTORY_FAILED", "PAYMENT_FAILED", "SHIPPING_FAILED"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_contradicts_itself_is_refused_at_the_door() {
    let shop = Shop::new("door", Style::Choreography, STRICT);
    let (running, _outside) = shop.start().await;
    let wrong = OrderPlaced { total: Money::from_cents(1), ..served_order() };
    let refused = running.publish(wrong).await.expect_err("a wrong total");
    assert_eq!(refused.code(), Code::RULE_BROKEN);
    assert!(refused.message().contains("total is 0.01, expected"), "{refused}");
    assert_eq!(shop.events().await, []);
}
