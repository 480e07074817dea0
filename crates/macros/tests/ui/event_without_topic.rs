//! An event without a topic.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, key = order_id)]
struct OrderPlaced {
    order_id: String,
}

fn main() {}
