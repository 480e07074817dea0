//! Chains of upcasts that do not lead up to the newest version.
use ensue_core::event::Body;
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

fn grow(_: &mut Body) {}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id, version = 3, upcast(1 = grow))]
struct TooShort {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id, version = 3, upcast(2 = grow))]
struct Gap {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id, version = 2, upcast(1 = grow, 2 = grow))]
struct TooLong {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = order_id, version = 2, upcast(grow))]
struct NoVersion {
    order_id: String,
}

fn main() {}
