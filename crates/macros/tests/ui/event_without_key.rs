//! An event without a key.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order")]
struct OrderPlaced {
    order_id: String,
}

fn main() {}
