//! Timers in the hands of operators and handlers: found, cancelled, put off, fired, edited.

use ensue_core::Code;
use ensue_runtime::timer::{Action, Filter};
use ensue_runtime::{TimerId, Timers};

use super::*;
use crate::words::PaymentCompleted;

/// Whoever has paid is not reminded.
async fn forget(State(timers): State<Timers>, paid: PaymentCompleted) -> Result<(), ensue_core::Error> {
    match timers.cancel(&TimerId::event::<PaymentDue>(&paid.order, "payment"), "it was paid").await {
        Err(error) if error.code() == Code::NOT_FOUND => Ok(()),
        cancelled => cancelled.map(drop),
    }
}

async fn remind_by_name(placed: OrderPlaced) -> Delayed<PaymentDue> {
    Delayed::after(10 * MINUTE, PaymentDue { order: placed.order }).named("payment")
}

fn shop() -> Harness {
    Harness::new(|app: App| {
        app.external::<OrderPlaced>()
            .external::<PaymentCompleted>()
            .react("remind", remind_by_name)
            .react("forget", forget)
    })
}

fn paid(order: &str) -> PaymentCompleted {
    PaymentCompleted { order: order.to_owned() }
}

async fn operator(harness: &mut Harness) -> Timers {
    harness.running().await.timers()
}

fn payment(order: &str) -> TimerId {
    TimerId::event::<PaymentDue>(order, "payment")
}

#[tokio::test]
async fn a_handler_cancels_by_name_and_what_is_cancelled_does_not_fire() {
    let mut harness = shop().deliver_twice();
    harness.publish(placed("ORD-1")).await;
    harness.publish(placed("ORD-2")).await;
    harness.settle().await;
    harness.publish(paid("ORD-1")).await;
    harness.settle().await;
    assert_eq!(timers(&harness).await.len(), 1, "the record is gone with the name");
    harness.advance(11 * MINUTE).await;
    let due: Vec<String> = harness
        .recorded()
        .await
        .iter()
        .filter(|event| event.envelope.event_type.as_str() == "PaymentDue")
        .map(|event| event.stream.key.to_string())
        .collect();
    assert_eq!(due, ["ORD-2"]);
    // Paid after the reminder: nothing is left to cancel, and nothing is wrong.
    harness.publish(paid("ORD-2")).await;
    harness.settle().await;
    assert_eq!(harness.dead_letters().await, []);
}

#[tokio::test]
async fn what_was_done_to_a_timer_stands_in_its_flow_with_the_reason() {
    let mut harness = shop();
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    let timers = operator(&mut harness).await;
    let due = harness.clock().clone();
    let due = ensue_core::Clock::now(&*due) + 30 * MINUTE;
    timers.reschedule(&payment("ORD-1"), due, "the customer called").await.expect("it is set");
    timers.cancel(&payment("ORD-1"), "the customer paid in cash").await.expect("it is set");
    let gone = timers.cancel(&payment("ORD-1"), "again").await;
    assert_eq!(gone.expect_err("it is cancelled").code(), Code::NOT_FOUND);
    harness.advance(31 * MINUTE).await;
    let recorded = harness.recorded().await;
    let told: Vec<(&str, bool)> = recorded
        .iter()
        .map(|event| (event.envelope.event_type.as_str(), event.envelope.flow() == &recorded[0].envelope.id))
        .collect();
    assert_eq!(told, [("OrderPlaced", true), ("ensue.TimerChanged", true), ("ensue.TimerCancelled", true)]);
    let last: serde_json::Value = serde_json::from_slice(&recorded[2].envelope.data).expect("JSON");
    assert_eq!(last["reason"], "the customer paid in cash");
}

#[tokio::test]
async fn a_timer_is_put_off_fired_and_edited() {
    let mut harness = shop();
    for order in ["ORD-1", "ORD-2", "ORD-3"] {
        harness.publish(placed(order)).await;
    }
    harness.settle().await;
    let timers = operator(&mut harness).await;
    let set = timers.list(&Filter::default()).await.expect("they can be read");
    let later = set[0].due + 20 * MINUTE;
    timers.reschedule(&payment("ORD-1"), later, "patience").await.expect("it is set");
    timers.fire(&payment("ORD-2"), "no patience").await.expect("it is set");
    let other = PaymentDue { order: "ORD-1".to_owned() };
    let refused = timers.edit(&payment("ORD-3"), &other, "wrong order").await;
    assert_eq!(refused.expect_err("it goes elsewhere").code(), Code::RULE_BROKEN);
    let same = PaymentDue { order: "ORD-3".to_owned() };
    timers.edit(&payment("ORD-3"), &same, "as it was").await.expect("it is set");
    harness.settle().await;
    assert_eq!(harness.events_of("Order/ORD-2").await, ["OrderPlaced", "PaymentDue"], "at once");
    let filter = Filter { owner: Some("Order/ORD-1".into()), ..Filter::default() };
    let [first] = timers.list(&filter).await.expect("they can be read").try_into().expect("one timer");
    assert_eq!((first.due, matches!(first.action, Action::Append { .. })), (later, true));
    harness.advance(11 * MINUTE).await;
    assert_eq!(harness.events_of("Order/ORD-3").await, ["OrderPlaced", "PaymentDue"]);
    assert_eq!(harness.events_of("Order/ORD-1").await, ["OrderPlaced"], "put off");
    harness.advance(20 * MINUTE).await;
    assert_eq!(harness.events_of("Order/ORD-1").await, ["OrderPlaced", "PaymentDue"]);
}

#[tokio::test]
async fn a_deferred_delivery_is_made_when_an_operator_says_and_its_timer_cannot_be_cancelled() {
    async fn impatient(State(diary): State<Diary>, tick: Tick) -> Outcome {
        let is_first = diary.lines().is_empty();
        diary.note(tick.key);
        if is_first { Outcome::Defer(Timestamp::MAX) } else { Outcome::Ack }
    }
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(given.clone()).external::<Tick>().react("impatient", impatient)
    });
    harness.publish(tick("a", 0)).await;
    harness.settle().await;
    let operator = operator(&mut harness).await;
    let [timer] = timers(&harness).await.try_into().expect("one timer");
    let refused = operator.cancel(&timer.id(), "not needed").await;
    assert_eq!(refused.expect_err("a delivery waits").code(), Code::TIMER_AWAITED);
    operator.fire(&timer.id(), "now").await.expect("it is set");
    harness.settle().await;
    assert_eq!((diary.lines(), timers(&harness).await), (vec!["a".to_owned(), "a".to_owned()], vec![]));
    let left = dead::deferred(&**harness.store()).await.expect("they can be read");
    assert_eq!(left, []);
}
