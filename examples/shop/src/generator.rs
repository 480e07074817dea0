//! Customers who order: the same seed makes the same orders, whatever the style that serves them.

use crate::dice::Dice;
use crate::events::{Item, OrderPlaced};
use crate::{CustomerId, Money, OrderId, Sku};

const FIRST_NAMES: [&str; 12] = [
    "Ada",
    "Barbara",
    "Claude",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Katherine",
    "Leslie",
    "Margaret",
    "Tony",
];
const LAST_NAMES: [&str; 12] = [
    "Adeyemi",
    "Bauer",
    "Castillo",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Hashimoto",
    "Ivanova",
    "Kowalski",
    "Moreau",
    "Okafor",
];
/// Article and price in cents.
const CATALOGUE: [(&str, i64); 4] =
    [("WIDGET-1", 2_999), ("WIDGET-2", 1_450), ("GADGET-1", 7_405), ("GIZMO-1", 595)];
const CUSTOMERS: u64 = 500;
const LINES_MAX: u64 = 2;
const QTY_MAX: u64 = 3;

/// The articles of the shop.
pub(crate) fn skus() -> impl Iterator<Item = Sku> {
    CATALOGUE.iter().map(|(sku, _)| Sku::new(sku).expect("the catalogue holds valid articles"))
}

/// The first `count` orders of a seed: `ORD-0001` and on. Order 17 is the same however many are asked for.
pub fn orders(seed: u64, count: u64) -> impl Iterator<Item = OrderPlaced> {
    (1..=count).map(move |number| order(seed, number))
}

fn order(seed: u64, number: u64) -> OrderPlaced {
    let order_id = OrderId::numbered("ORD", format_args!("{number:04}"));
    let mut dice = Dice::new(seed, &["order", order_id.as_str()]);
    let customer = dice.below(CUSTOMERS);
    let items = items(&mut dice);
    let total = OrderPlaced::sum(&items).expect("a few pieces of the catalogue fit");
    OrderPlaced {
        order_id,
        customer_id: CustomerId::numbered("CUST", customer + 1),
        customer_name: Some(name(seed, customer)),
        items,
        total,
    }
}

/// A customer keeps their name from one order to the next.
fn name(seed: u64, customer: u64) -> String {
    let mut dice = Dice::new(seed, &["customer", &customer.to_string()]);
    let mut part = |names| dice.pick(names).copied().unwrap_or_default();
    let first: &str = part(&FIRST_NAMES);
    format!("{first} {}", part(&LAST_NAMES))
}

/// Some articles of the catalogue, none of them twice.
fn items(dice: &mut Dice) -> Vec<Item> {
    let lines = 1 + dice.below(LINES_MAX);
    let mut items = Vec::new();
    for _ in 0..lines {
        let Some((name, cents)) = dice.pick(&CATALOGUE) else { continue };
        let sku = Sku::new(name).expect("the catalogue holds valid articles");
        let qty = 1 + u32::try_from(dice.below(QTY_MAX)).expect("a small number");
        if items.iter().all(|item: &Item| item.sku != sku) {
            items.push(Item { sku, qty, price: Money::from_cents(*cents) });
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use ensue::Event;

    use super::*;

    #[test]
    fn every_order_is_valid_and_the_same_for_the_same_seed() {
        let some: Vec<OrderPlaced> = orders(7, 300).collect();
        for order in &some {
            assert_eq!(order.validate(), Ok(()), "{order:?}");
        }
        assert_eq!(some, orders(7, 10_000).take(300).collect::<Vec<_>>());
        assert_ne!(some, orders(8, 300).collect::<Vec<_>>());
    }

    #[test]
    fn orders_are_numbered_and_customers_keep_their_names() {
        let ids: Vec<String> = orders(1, 10_001).map(|order| order.order_id.to_string()).collect();
        assert_eq!(ids.first().map(String::as_str), Some("ORD-0001"));
        assert_eq!(ids.last().map(String::as_str), Some("ORD-10001"));
        let mut names = std::collections::BTreeMap::new();
        for order in orders(1, 2_000) {
            let name = names.entry(order.customer_id).or_insert_with(|| order.customer_name.clone());
            assert_eq!(*name, order.customer_name);
        }
        assert!(names.len() > 400, "{} customers", names.len());
    }
}
