//! The shop as two services, each with a log of its own, that know each other only by what a broker carries: one takes orders,
//! sets stock aside and ships, the other takes the money.

use std::sync::Arc;

use ensue::core::Bus;
use ensue::{App, Intake, Relay, Store};

use crate::events::{
    InventoryFailed, OrderPlaced, PaymentCompleted, PaymentFailed, PaymentRefunded, RefundFailed,
    StockReleased,
};
use crate::outside::Outside;
use crate::{inventory, notification, order, payment, shipping};

/// What the services call the places of the broker.
const ORDERS: &str = "shop.orders";
const STOCK: &str = "shop.stock";
const PAYMENTS: &str = "shop.payments";

/// The service that serves orders.
pub fn orders(store: Arc<dyn Store>, outside: &Outside, bus: &Arc<dyn Bus>) -> App {
    outside
        .connect(App::new("orders").store(store))
        .external::<PaymentCompleted>()
        .external::<PaymentFailed>()
        .external::<PaymentRefunded>()
        .external::<RefundFailed>()
        .with(order::choreography)
        .with(inventory::choreography)
        .with(shipping::choreography)
        .with(notification::choreography)
        .relay(Relay::new("orders", Arc::clone(bus)).topic("Order").to(ORDERS))
        .relay(Relay::new("stock", Arc::clone(bus)).topic("Stock").to(STOCK))
        .intake(Intake::new("payments", Arc::clone(bus)).from(PAYMENTS))
}

/// The service that takes the money, and gives it back.
pub fn payments(store: Arc<dyn Store>, outside: &Outside, bus: &Arc<dyn Bus>) -> App {
    outside
        .connect(App::new("payments").store(store))
        .external::<OrderPlaced>()
        .external::<InventoryFailed>()
        .external::<StockReleased>()
        .with(payment::choreography)
        .intake(Intake::new("orders", Arc::clone(bus)).from(ORDERS))
        .intake(Intake::new("stock", Arc::clone(bus)).from(STOCK))
        .relay(Relay::new("payments", Arc::clone(bus)).topic("Payment").to(PAYMENTS))
}
