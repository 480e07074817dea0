//! The analytics service: what a day came to. A read model of its own, fed from the events of everybody.

use std::collections::BTreeMap;

use ensue::runtime::Meta;
use ensue::{App, Event, Projection};
use serde::{Deserialize, Serialize};

use crate::Money;
use crate::events::{
    CustomerNotified, FraudSuspected, InventoryFailed, OrderPlaced, PaymentCompleted, PaymentFailed,
    PaymentRefunded, ShipmentFailed,
};

/// The key of the one document there is.
pub const SHOP: &str = "shop";

/// The service, in either style: it listens.
pub fn choreography(app: App) -> App {
    app.service("analytics").project(Sales)
}

/// The read model `sales`: one document, with a line for each day.
pub struct Sales;

/// The days, in order, as UTC dates such as `2024-01-15`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Days {
    /// By date.
    pub days: BTreeMap<String, Day>,
}

/// What happened on a day, by when the store recorded it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Day {
    /// Orders that came in.
    pub placed: u64,
    /// Orders that were served.
    pub completed: u64,
    /// Orders whose payment was declined.
    pub payment_failed: u64,
    /// Orders that were not in stock.
    pub inventory_failed: u64,
    /// Orders that could not be shipped.
    pub shipping_failed: u64,
    /// Orders that looked odd.
    pub suspected: u64,
    /// What customers paid.
    pub charged: Money,
    /// What customers got back.
    pub refunded: Money,
}

/// What the sales are made of.
#[derive(Clone, PartialEq, Eq, Debug, Event)]
pub enum SalesEvent {
    /// See [`OrderPlaced`].
    Placed(OrderPlaced),
    /// See [`PaymentCompleted`].
    Charged(PaymentCompleted),
    /// See [`PaymentFailed`].
    Declined(PaymentFailed),
    /// See [`PaymentRefunded`].
    Refunded(PaymentRefunded),
    /// See [`InventoryFailed`].
    Unavailable(InventoryFailed),
    /// See [`ShipmentFailed`].
    Unshipped(ShipmentFailed),
    /// See [`CustomerNotified`].
    Completed(CustomerNotified),
    /// See [`FraudSuspected`].
    Suspected(FraudSuspected),
}

impl Projection for Sales {
    const NAME: &'static str = "sales";
    type Event = SalesEvent;
    type Document = Days;

    fn key(&self, _: &SalesEvent) -> Option<String> {
        Some(SHOP.to_owned())
    }

    fn apply(&self, document: &mut Option<Days>, event: &SalesEvent, meta: &Meta) {
        let date = meta.recorded_at.strftime("%Y-%m-%d").to_string();
        document.get_or_insert_default().days.entry(date).or_default().count(event);
    }
}

impl Day {
    fn count(&mut self, event: &SalesEvent) {
        match event {
            SalesEvent::Placed(_) => self.placed += 1,
            SalesEvent::Charged(paid) => self.charged = self.charged.saturating_add(paid.amount),
            SalesEvent::Declined(_) => self.payment_failed += 1,
            SalesEvent::Refunded(back) => self.refunded = self.refunded.saturating_add(back.amount),
            SalesEvent::Unavailable(_) => self.inventory_failed += 1,
            SalesEvent::Unshipped(_) => self.shipping_failed += 1,
            SalesEvent::Completed(_) => self.completed += 1,
            SalesEvent::Suspected(_) => self.suspected += 1,
        }
    }
}
