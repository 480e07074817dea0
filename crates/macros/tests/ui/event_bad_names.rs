//! Names that break their rules.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, name = "Order Placed", topic = "Order", key = id)]
struct Spaced {
    id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order/EU", key = id)]
struct Slashed {
    id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "saga.order", key = id)]
struct Reserved {
    id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, version = 0, topic = "Order", key = id)]
struct Unversioned {
    id: String,
}

fn main() {}
