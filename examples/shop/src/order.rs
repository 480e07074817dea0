//! The order service: where orders come in, and what customers see of them.
//!
//! An order comes in as an `OrderPlaced` at the door. The read model `orders_view` follows it through all services,
//! whichever style serves it, because both styles tell the same events.

use ensue::runtime::Meta;
use ensue::{App, Cache, Error, Event, Projection, Running, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events::{
    CustomerNotified, InventoryFailed, Item, OrderPlaced, OrderState, PaymentCompleted, PaymentFailed,
    PaymentRefunded, ShipmentCreated, ShipmentFailed, StockReleased, StockReserved,
};
use crate::{CustomerId, Money, OrderId};

/// The index of `orders_view` by customer.
const BY_CUSTOMER: &str = "customer";
/// Customers whose orders are kept in memory.
const CACHED_CUSTOMERS: u64 = 10_000;
/// Most orders that [`orders_of_customer`] shows.
const SHOWN_MAX: usize = 1_000;

/// The service, in either style: it takes orders from outside and shows where they stand.
pub fn choreography(app: App) -> App {
    app.service("order")
        .external::<OrderPlaced>()
        .cache(Cache::<Vec<OrderRow>>::new(CACHED_CUSTOMERS))
        .project(OrdersView)
}

/// The orders of a customer, by order id: from the cache, or from the read model.
pub async fn orders_of_customer(running: &Running, customer: &CustomerId) -> Result<Vec<OrderRow>, Error> {
    let cache: Cache<Vec<OrderRow>> = running.state()?;
    let view = running.view::<OrdersView>()?;
    let load = async {
        let found = view.find(BY_CUSTOMER, customer.as_str(), SHOWN_MAX).await?;
        Ok(found.into_iter().map(|(_, row)| row).collect())
    };
    cache.get_or_load(&cached_name(customer), load).await
}

/// What the cache calls the orders of a customer.
pub fn cached_name(customer: &CustomerId) -> String {
    format!("orders:customer:{customer}")
}

/// The read model `orders_view`: one row for each order, by order id, found by customer as well.
pub struct OrdersView;

/// An order as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderRow {
    /// Which order.
    pub order_id: OrderId,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// Their name, or their id where nobody said it.
    pub customer_name: String,
    /// What it costs.
    pub total: Money,
    /// Where it stands.
    pub status: OrderState,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// What the customer has paid and not got back.
    pub paid: Money,
    /// Pieces that left the shelves for it and did not come back.
    pub pieces: u64,
}

impl OrderRow {
    /// Whether nothing more will happen: it was served, or what had been done for it is undone.
    pub fn is_over(&self) -> bool {
        self.status == OrderState::Completed
            || (self.status.is_end() && self.paid == Money::ZERO && self.pieces == 0)
    }
}

/// What the view is fed with.
#[derive(Clone, PartialEq, Eq, Debug, Event)]
pub enum OrderHistory {
    /// See [`OrderPlaced`].
    Placed(OrderPlaced),
    /// See [`PaymentCompleted`].
    Paid(PaymentCompleted),
    /// See [`PaymentFailed`].
    Declined(PaymentFailed),
    /// See [`PaymentRefunded`].
    Refunded(PaymentRefunded),
    /// See [`StockReserved`].
    Reserved(StockReserved),
    /// See [`InventoryFailed`].
    Unavailable(InventoryFailed),
    /// See [`StockReleased`].
    Released(StockReleased),
    /// See [`ShipmentCreated`].
    Shipped(ShipmentCreated),
    /// See [`ShipmentFailed`].
    Unshipped(ShipmentFailed),
    /// See [`CustomerNotified`].
    Notified(CustomerNotified),
}

impl Projection for OrdersView {
    const NAME: &'static str = "orders_view";
    type Event = OrderHistory;
    type Document = OrderRow;

    fn key(&self, event: &OrderHistory) -> Option<String> {
        Some(event.order_id().to_string())
    }

    fn apply(&self, document: &mut Option<OrderRow>, event: &OrderHistory, meta: &Meta) {
        match (document, event) {
            // An order is placed once; a second `OrderPlaced` of the same order is served by nobody.
            (row @ None, OrderHistory::Placed(order)) => *row = Some(placed(order, meta)),
            (Some(row), event) => row.follow(event),
            (None, _) => {}
        }
    }

    fn index(&self, row: &OrderRow) -> Vec<(&'static str, String)> {
        vec![(BY_CUSTOMER, row.customer_id.to_string())]
    }

    fn invalidates(&self, row: &OrderRow) -> Vec<String> {
        vec![cached_name(&row.customer_id)]
    }
}

fn placed(order: &OrderPlaced, meta: &Meta) -> OrderRow {
    let name = order.customer_name.clone();
    OrderRow {
        order_id: order.order_id.clone(),
        customer_name: name.unwrap_or_else(|| order.customer_id.to_string()),
        customer_id: order.customer_id.clone(),
        total: order.total,
        status: OrderState::Placed,
        placed_at: meta.envelope.time,
        paid: Money::ZERO,
        pieces: 0,
    }
}

impl OrderRow {
    fn follow(&mut self, event: &OrderHistory) {
        match event {
            OrderHistory::Placed(_) => {}
            OrderHistory::Paid(paid) => {
                self.paid = self.paid.saturating_add(paid.amount);
                // Another service says it, so it may come after what followed from it.
                if self.status == OrderState::Placed {
                    self.status = OrderState::PaymentCompleted;
                }
            }
            OrderHistory::Declined(_) => self.status = OrderState::PaymentFailed,
            OrderHistory::Refunded(back) => {
                self.paid = self.paid.checked_sub(back.amount).unwrap_or_default();
            }
            OrderHistory::Reserved(held) => {
                self.pieces = pieces(&held.items);
                self.status = OrderState::StockReserved;
            }
            OrderHistory::Unavailable(_) => self.status = OrderState::InventoryFailed,
            OrderHistory::Released(_) => self.pieces = 0,
            OrderHistory::Shipped(_) => self.status = OrderState::ShipmentCreated,
            OrderHistory::Unshipped(_) => self.status = OrderState::ShippingFailed,
            OrderHistory::Notified(_) => self.status = OrderState::Completed,
        }
    }
}

impl OrderHistory {
    /// Which order it is about.
    pub fn order_id(&self) -> &OrderId {
        match self {
            Self::Placed(event) => &event.order_id,
            Self::Paid(event) => &event.order_id,
            Self::Declined(event) => &event.order_id,
            Self::Refunded(event) => &event.order_id,
            Self::Reserved(event) => &event.order_id,
            Self::Unavailable(event) => &event.order_id,
            Self::Released(event) => &event.order_id,
            Self::Shipped(event) => &event.order_id,
            Self::Unshipped(event) => &event.order_id,
            Self::Notified(event) => &event.order_id,
        }
    }
}

fn pieces(items: &[Item]) -> u64 {
    items.iter().map(|item| u64::from(item.qty)).sum()
}
