//! A saga across a broker: what it asks goes out as an event, the answer comes in as one.

use std::time::Duration;

use ensue_macros::{Command, Event};
use ensue_runtime::saga::SagaStatus;
use ensue_runtime::{App, Intake, Relay, Saga, SagaError};
use ensue_test::{Harness, MemoryBus, crash_everywhere};
use serde::{Deserialize, Serialize};

use super::words::{Slot, shared};
use crate::words::{OrderPlaced, placed};

/// A payment is asked for.
#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Request", key = order)]
struct PaymentAsked {
    order: String,
    cents: u64,
}

/// It is not even asked for.
#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Order", key = order)]
struct PaymentUnasked {
    order: String,
}

/// It was answered.
#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Answer", key = order)]
struct PaymentAnswered {
    order: String,
    is_paid: bool,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order, reply = PaymentAsked, failure = PaymentUnasked, publish)]
struct AskPayment {
    order: String,
    cents: u64,
}

async fn ask(command: AskPayment) -> Result<PaymentAsked, PaymentUnasked> {
    let AskPayment { order, cents } = command;
    if cents == 0 { Err(PaymentUnasked { order }) } else { Ok(PaymentAsked { order, cents }) }
}

async fn fulfil(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let (order, cents) = (saga.input().order.clone(), saga.input().cents);
    saga.send("ask", AskPayment { order: order.clone(), cents }).nothing_to_undo().await?;
    saga.wait_for::<PaymentAnswered>(&order).within(Duration::from_hours(1)).await?;
    Ok(())
}

async fn pay(asked: PaymentAsked) -> PaymentAnswered {
    PaymentAnswered { order: asked.order, is_paid: asked.cents < 10_000 }
}

fn orders(bus: &MemoryBus) -> Harness {
    let bus = bus.clone();
    Harness::new(move |app: App| {
        app.external::<OrderPlaced>()
            .external::<PaymentAnswered>()
            .handle(ask)
            .saga("fulfil", fulfil)
            .relay(Relay::new("requests", shared(&bus)).topic("Request").to("payment.requests"))
            .intake(Intake::new("answers", shared(&bus)).from("payment.answers"))
    })
}

fn payments(bus: &MemoryBus) -> Harness {
    let bus = bus.clone();
    Harness::seeded(2, move |app: App| {
        app.external::<PaymentAsked>()
            .react("pay", pay)
            .intake(Intake::new("requests", shared(&bus)).from("payment.requests"))
            .relay(Relay::new("answers", shared(&bus)).topic("Answer").to("payment.answers"))
    })
}

/// Runs both until the saga is over.
async fn run(orders: &mut Harness, payments: &mut Harness) {
    for _ in 0..200 {
        orders.settle().await;
        payments.settle().await;
        let head = orders.saga("fulfil", "ORD-1").await;
        if head.is_some_and(|head| head.status == SagaStatus::Completed) {
            return;
        }
        orders.advance(Duration::from_millis(100)).await;
        payments.advance(Duration::from_millis(100)).await;
    }
    panic!("the saga waits: {:?}", orders.saga("fulfil", "ORD-1").await.map(|head| head.status));
}

#[tokio::test]
async fn a_saga_asks_over_a_broker_and_is_answered_whatever_crashes() {
    let slot = Slot::default();
    let crashes = crash_everywhere(
        || {
            let bus = slot.renew();
            bus.deliver_times(2);
            orders(&bus)
        },
        async |orders: &mut Harness| {
            let mut payments = payments(&slot.get());
            orders.publish(placed("ORD-1")).await;
            payments.running().await;
            run(orders, &mut payments).await;
            assert_eq!(
                payments.events_of("Answer/ORD-1").await,
                ["PaymentAnswered"],
                "asked and answered once"
            );
            assert_eq!(orders.events_of("Answer/ORD-1").await, ["PaymentAnswered"]);
            let flows = payments.recorded().await.into_iter().map(|one| one.envelope.flow().to_string());
            let flows: std::collections::BTreeSet<String> = flows.collect();
            assert_eq!(flows.len(), 1, "one flow across both logs: {flows:?}");
        },
    )
    .await;
    assert!(crashes > 10, "{crashes}");
}

#[tokio::test]
async fn a_saga_waits_out_an_outage_of_the_broker() {
    let slot = Slot::default();
    let bus = slot.renew();
    let (mut orders, mut payments) = (orders(&bus), payments(&bus));
    payments.running().await;
    bus.down();
    orders.publish(placed("ORD-1")).await;
    orders.advance(Duration::from_mins(30)).await;
    let waiting = orders.saga("fulfil", "ORD-1").await.expect("it has begun");
    assert_eq!(waiting.status, SagaStatus::Waiting);
    bus.up();
    run(&mut orders, &mut payments).await;
}
