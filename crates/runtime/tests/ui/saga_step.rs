//! A step that says nothing about how it is undone.

use ensue_core::{Command, Event, EventInfo};
use ensue_runtime::{Saga, SagaError};

#[derive(serde::Serialize, serde::Deserialize)]
struct Placed;

impl Event for Placed {
    const INFO: EventInfo = EventInfo { event_type: "Placed", version: 1, topic: "Order", key_field: "" };
    fn key(&self) -> String {
        String::new()
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Charge;

impl Command for Charge {
    const TYPE: &'static str = "Charge";
    type Reply = u64;
    type Failure = String;
    fn key(&self) -> String {
        String::new()
    }
}

async fn fulfil(saga: Saga<Placed>) -> Result<(), SagaError> {
    saga.send("charge", Charge).await?;
    Ok(())
}

fn main() {
    let _ = fulfil;
}
