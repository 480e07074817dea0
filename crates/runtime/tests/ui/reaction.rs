//! A reaction whose result is no event.

use ensue_core::{Event, EventInfo};
use ensue_runtime::App;

#[derive(serde::Serialize, serde::Deserialize)]
struct Placed;

impl Event for Placed {
    const INFO: EventInfo = EventInfo { event_type: "Placed", version: 1, topic: "Order", key_field: "" };
    fn key(&self) -> String {
        String::new()
    }
}

async fn counts(_: Placed) -> u64 {
    7
}

fn main() {
    let _ = App::new("shop").react("counts", counts);
    let _ = App::new("shop").react("not even a function", 7);
}
