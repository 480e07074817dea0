//! Keys that are no field, in quotes, no text, or renamed where it cannot be followed.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = id)]
struct Missing {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = "order_id")]
struct Quoted {
    order_id: String,
}

#[derive(Serialize, Deserialize)]
struct OrderId(String);

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id)]
struct NotText {
    order_id: OrderId,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id)]
#[serde(rename_all = "camelCase")]
struct Renamed {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id)]
struct Tuple(String);

fn main() {}
