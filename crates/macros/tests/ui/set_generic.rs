//! Sets with parameters, settings of structs, and variants that do not hold one event.
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event)]
#[event(crate = ensue_core)]
enum Generic<E> {
    Some(E),
}

#[derive(Event)]
#[event(crate = ensue_core, topic = "Order")]
enum WithTopic {
    Placed(Placed),
}

#[derive(Event)]
#[event(crate = ensue_core)]
enum WithFields {
    Placed { order_id: String },
}

#[derive(Event)]
#[event(crate = ensue_core)]
enum Empty {}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Order", key = id)]
struct Placed {
    id: String,
}

fn main() {}
