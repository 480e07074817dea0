//! Commands without a key, with a setting that does not exist, or with a published answer that is not named.
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

fn main() {}
