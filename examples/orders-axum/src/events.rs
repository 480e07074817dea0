//! What the service tells others.

use ensue::Event;
use serde::{Deserialize, Serialize};

/// A customer has ordered.
#[derive(Clone, PartialEq, Eq, Debug, Event, Serialize, Deserialize)]
#[event(topic = "Order", key = order_id, tags(customer_id))]
pub struct OrderPlaced {
    /// Which order.
    pub order_id: String,
    /// Whose.
    pub customer_id: String,
    /// What it costs.
    pub total_cents: i64,
}

/// The customer has thought better of it.
#[derive(Clone, PartialEq, Eq, Debug, Event, Serialize, Deserialize)]
#[event(topic = "Order", key = order_id)]
pub struct OrderCancelled {
    /// Which order.
    pub order_id: String,
}

/// The customer was told.
#[derive(Clone, PartialEq, Eq, Debug, Event, Serialize, Deserialize)]
#[event(topic = "Order", key = order_id)]
pub struct ConfirmationSent {
    /// Which order.
    pub order_id: String,
    /// Who was told.
    pub customer_id: String,
}
