//! Commands without a key, with a setting that does not exist, and published answers that are no events.
use ensue_macros::Command;
use serde::{Deserialize, Serialize};

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core)]
struct Keyless {
    order_id: String,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order_id, answer = String)]
struct Unknown {
    order_id: String,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order_id, publish)]
struct Silent {
    order_id: String,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order_id, reply = String, failure = u8, publish)]
struct NoEvents {
    order_id: String,
}

fn main() {}
