//! A setting that does not exist, and one that is set twice.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, stream = "Order", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", topic = "Other", key = order_id)]
struct OrderPaid {
    order_id: String,
}

fn main() {}
