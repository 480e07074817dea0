//! A saga across a broker: its commands go out, their answers come in, and what has to be undone is undone over there.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Clock, Code};
use ensue_macros::Command;
use ensue_runtime::app::DispatchError;
use ensue_runtime::flow::{FlowStatus, FlowSummary, Flows};
use ensue_runtime::saga::SagaStatus;
use ensue_runtime::{App, Cause, Fork, Intake, Relay, Saga, SagaError};
use ensue_test::{Harness, MemoryBus, MemoryStore, crash_everywhere};
use serde::{Deserialize, Serialize};

use super::words::{Slot, bus, shared};
use crate::words::{Broken, Diary, OrderPlaced, PaymentCompleted, PaymentFailed, StockReserved, placed};

const COMMANDS: &str = "payment.commands";
const ANSWERS: &str = "payment.answers";
const LIMIT: Duration = Duration::from_hours(1);

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order, reply = PaymentCompleted, failure = PaymentFailed, publish)]
struct TakePayment {
    order: String,
    cents: u64,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order, reply = (), failure = ())]
struct Refund {
    order: String,
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order, reply = StockReserved, failure = ())]
struct Reserve {
    order: String,
}

/// Pays, and reserves what is there: nothing is left for orders that are named so.
async fn fulfil(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let OrderPlaced { order, cents } = (*saga.input()).clone();
    saga.send("pay", TakePayment { order: order.clone(), cents })
        .within(LIMIT)
        .undo(|paid| Refund { order: paid.order.clone() })
        .await?;
    saga.send("reserve", Reserve { order }).nothing_to_undo().await?;
    Ok(())
}

async fn reserve(command: Reserve) -> Result<StockReserved, ()> {
    if command.order.starts_with("SOLD-OUT") { Err(()) } else { Ok(StockReserved { order: command.order }) }
}

/// Both ends of the link are named alike, so they are one.
fn orders(bus: &MemoryBus, seed: u64) -> Harness {
    let bus = bus.clone();
    Harness::seeded(seed, move |app: App| mount_orders(app, &bus))
}

fn mount_orders(app: App, bus: &MemoryBus) -> App {
    let commands = Relay::new("payments", shared(bus)).commands::<TakePayment>().commands::<Refund>();
    app.external::<OrderPlaced>()
        .saga("fulfil", fulfil)
        .handle(reserve)
        .relay(commands.to(COMMANDS))
        .intake(Intake::new("payments", shared(bus)).answers().from(ANSWERS))
}

fn payments(bus: &MemoryBus, diary: &Diary) -> Harness {
    let (bus, diary) = (bus.clone(), diary.clone());
    Harness::seeded(2, move |app: App| {
        let (paying, refunding) = (diary.clone(), diary.clone());
        let pay = move |cause: Cause, command: TakePayment| {
            let TakePayment { order, cents } = command;
            paying.note(format!("{order} pays with {}", cause.idempotency_key()));
            async move {
                if cents > 10_000 { Err(PaymentFailed { order }) } else { Ok(PaymentCompleted { order }) }
            }
        };
        let refund = move |command: Refund| {
            refunding.note(format!("{} is refunded", command.order));
            async { Ok::<(), ()>(()) }
        };
        app.handle(pay)
            .handle(refund)
            .intake(
                Intake::new("orders", shared(&bus))
                    .commands::<TakePayment>()
                    .commands::<Refund>()
                    .from(COMMANDS),
            )
            .relay(Relay::new("orders", shared(&bus)).answers().to(ANSWERS))
    })
}

/// Runs all of them until this instance of the first stands so.
async fn run(logs: &mut [&mut Harness], key: &str, wanted: SagaStatus) {
    for _ in 0..200 {
        for log in logs.iter_mut() {
            log.settle().await;
        }
        let head = logs.first().expect("one that asks").saga("fulfil", key).await;
        if head.is_some_and(|head| head.status == wanted) {
            return;
        }
        for log in logs.iter_mut() {
            log.advance(Duration::from_millis(100)).await;
        }
    }
    let head = logs.first().expect("one that asks").saga("fulfil", key).await;
    let mut links = Vec::new();
    for log in logs.iter_mut() {
        links.extend(log.running().await.links().await.expect("the store can be read"));
    }
    panic!("it is not {wanted:?}: {head:?}, {links:#?}");
}

#[tokio::test]
async fn a_command_goes_out_and_its_answer_comes_in_whatever_crashes() {
    let slot = Slot::default();
    let crashes = crash_everywhere(
        || {
            let bus = slot.renew();
            bus.deliver_times(2);
            orders(&bus, 1)
        },
        async |orders: &mut Harness| {
            let diary = Diary::default();
            let mut payments = payments(&slot.get(), &diary);
            orders.publish(placed("ORD-1")).await;
            payments.running().await;
            run(&mut [orders, &mut payments], "ORD-1", SagaStatus::Completed).await;
            assert_eq!(
                diary.lines(),
                ["ORD-1 pays with fulfil/ORD-1/pay"],
                "asked once, with the key of the step"
            );
            assert_eq!(
                payments.events_of("Payment/ORD-1").await,
                ["PaymentCompleted"],
                "published over there"
            );
            let flows = payments.recorded().await.into_iter().map(|one| one.envelope.flow().to_string());
            let flows: std::collections::BTreeSet<String> = flows.collect();
            assert_eq!(flows.len(), 1, "one flow across both logs: {flows:?}");
        },
    )
    .await;
    assert!(crashes > 10, "{crashes}");
}

#[tokio::test]
async fn the_other_side_may_crash_anywhere_too() {
    let (slot, diary) = (Slot::default(), Diary::default());
    let crashes = crash_everywhere(
        || {
            diary.clear();
            payments(&slot.renew(), &diary)
        },
        async |payments: &mut Harness| {
            let mut orders = orders(&slot.get(), 1);
            orders.publish(placed("SOLD-OUT-1")).await;
            payments.running().await;
            for _ in 0..200 {
                payments.settle().await;
                orders.settle().await;
                payments.advance(Duration::from_millis(100)).await;
                orders.advance(Duration::from_millis(100)).await;
            }
            orders.assert_saga("fulfil", "SOLD-OUT-1", SagaStatus::Compensated).await;
            assert_eq!(
                payments.events_of("Payment/SOLD-OUT-1").await,
                ["PaymentCompleted"],
                "published once"
            );
            assert!(diary.count("SOLD-OUT-1 is refunded") >= 1);
        },
    )
    .await;
    assert!(crashes > 5, "{crashes}");
}

#[tokio::test]
async fn a_refusal_over_there_is_a_typed_failure_here() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    payments.running().await;
    orders.publish(OrderPlaced { order: "ORD-1".to_owned(), cents: 20_000 }).await;
    run(&mut [&mut orders, &mut payments], "ORD-1", SagaStatus::Compensated).await;
    let head = orders.saga("fulfil", "ORD-1").await.expect("it has ended");
    assert!(format!("{head:?}").contains("E0604"), "refused, not broken: {head:?}");
    assert_eq!(diary.lines().len(), 1, "nothing to refund: {:?}", diary.lines());
}

#[tokio::test]
async fn what_was_done_over_there_is_undone_over_there() {
    let (bus, diary) = (bus(), Diary::default());
    bus.deliver_times(2);
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    payments.running().await;
    orders.publish(placed("SOLD-OUT-1")).await;
    run(&mut [&mut orders, &mut payments], "SOLD-OUT-1", SagaStatus::Compensated).await;
    assert_eq!(diary.count("SOLD-OUT-1 is refunded"), 1, "{:?}", diary.lines());
}

#[tokio::test]
async fn a_payment_that_succeeds_after_its_time_limit_is_refunded() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    orders.publish(placed("ORD-1")).await;
    orders.advance(LIMIT * 2).await;
    assert_eq!(diary.lines(), Vec::<String>::new(), "nobody has heard of it yet");
    payments.running().await;
    run(&mut [&mut orders, &mut payments], "ORD-1", SagaStatus::Compensated).await;
    for _ in 0..20 {
        payments.settle().await;
        orders.settle().await;
        orders.advance(Duration::from_secs(1)).await;
        payments.advance(Duration::from_secs(1)).await;
    }
    let paid = diary.lines().iter().filter(|line| line.contains("pays")).count();
    let refunded = diary.count("ORD-1 is refunded");
    assert_eq!((paid, refunded), (1, 1), "{:?}", diary.lines());
}

#[tokio::test]
async fn a_saga_waits_out_an_outage_of_the_broker() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    payments.running().await;
    bus.down();
    orders.publish(placed("ORD-1")).await;
    orders.advance(LIMIT / 2).await;
    let waiting = orders.saga("fulfil", "ORD-1").await.expect("it has begun");
    assert_eq!(waiting.status, SagaStatus::Waiting);
    let links = orders.running().await.links().await.expect("the store can be read");
    let relay = links.iter().find(|link| link.name == "relay.payments").expect("the relay");
    assert!(relay.head_since.is_some() && relay.lag > Some(0), "the command waits: {relay:?}");
    bus.up();
    run(&mut [&mut orders, &mut payments], "ORD-1", SagaStatus::Completed).await;
}

/// As long as it takes.
async fn pay_patiently(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let OrderPlaced { order, cents } = (*saga.input()).clone();
    saga.send("pay", TakePayment { order, cents }).nothing_to_undo().await?;
    Ok(())
}

#[tokio::test]
async fn a_flow_that_waits_for_an_answer_from_elsewhere_is_not_stuck_and_says_for_which() {
    let bus = bus();
    let other = bus.clone();
    let mut orders = Harness::new(move |app: App| {
        app.external::<OrderPlaced>()
            .saga("fulfil", pay_patiently)
            .relay(Relay::new("payments", shared(&other)).commands::<TakePayment>().to(COMMANDS))
            .intake(Intake::new("payments", shared(&other)).answers().from(ANSWERS))
    });
    orders.publish(placed("ORD-1")).await;
    orders.advance(Duration::from_mins(10)).await;
    assert_eq!(bus.messages(COMMANDS).len(), 1, "it has gone out");
    let flows = Flows::open(Arc::new(Arc::clone(orders.store())), orders.clock().now()).await;
    let summary = flows.expect("flows can be read").show("ORD-1").await.expect("there is one").summary;
    assert_eq!(summary.status, FlowStatus::Waiting, "{summary:?}");
    assert!(format!("{summary:?}").contains("the answer to TakePayment"), "{summary:?}");
}

#[tokio::test]
async fn a_command_that_breaks_down_over_there_is_parked_there_and_the_saga_goes_on_when_it_is_redriven() {
    let (bus, is_mended) = (bus(), Rc::new(Cell::new(false)));
    let (other, mended) = (bus.clone(), is_mended.clone());
    let mut orders = orders(&bus, 1);
    let mut payments = Harness::seeded(2, move |app: App| {
        let (is_mended, bus) = (mended.get(), other.clone());
        let pay = move |command: TakePayment| async move {
            let paid = Ok::<_, PaymentFailed>(PaymentCompleted { order: command.order });
            if is_mended { Ok(paid) } else { Err(Broken("the provider is not configured")) }
        };
        app.handle_with(pay, |handler| handler.retry(1))
            .intake(Intake::new("orders", shared(&bus)).commands::<TakePayment>().from(COMMANDS))
            .relay(Relay::new("orders", shared(&bus)).answers().to(ANSWERS))
    });
    orders.publish(placed("ORD-1")).await;
    payments.running().await;
    for _ in 0..5 {
        orders.settle().await;
        payments.settle().await;
    }
    payments.assert_parked(["handle.TakePayment/ORD-1: E0301"]).await;
    orders.assert_saga("fulfil", "ORD-1", SagaStatus::Waiting).await;
    is_mended.set(true);
    payments.restart().await;
    assert_eq!(payments.redrive("handle.TakePayment", "ORD-1").await, 1);
    run(&mut [&mut orders, &mut payments], "ORD-1", SagaStatus::Completed).await;
}

#[tokio::test]
async fn only_a_saga_sends_a_command_over_a_link() {
    let mut orders = orders(&bus(), 1);
    let refused = orders.dispatch(TakePayment { order: "ORD-1".to_owned(), cents: 5 }).await;
    let Err(DispatchError::Failed(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code(), Code::COMMAND_UNHANDLED);
}

#[tokio::test]
async fn a_fork_sends_nothing_over_the_broker() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    payments.running().await;
    orders.publish(placed("ORD-1")).await;
    run(&mut [&mut orders, &mut payments], "ORD-1", SagaStatus::Completed).await;
    let sent = bus.messages(COMMANDS).len();
    let store = Arc::new(Arc::clone(orders.store()));
    let fork = Fork::of(store, "ORD-1").await.expect("there is such a flow");
    let app = mount_orders(App::new("test").host(orders.host().clone()), &bus);
    let played = fork.play(app, MemoryStore::new(orders.host().clone())).await;
    let report = played.expect("it can be played");
    assert_eq!(bus.messages(COMMANDS).len(), sent);
    let status = |flow: Option<FlowSummary>| flow.expect("there is a flow").status;
    assert_eq!((status(report.before), status(report.after)), (FlowStatus::Done, FlowStatus::Done));
}

#[tokio::test]
async fn each_of_two_that_ask_gets_its_own_answers() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut one, mut two, mut payments) = (orders(&bus, 1), orders(&bus, 3), payments(&bus, &diary));
    for harness in [&mut one, &mut two, &mut payments] {
        harness.running().await;
    }
    one.publish(placed("ORD-1")).await;
    two.publish(placed("ORD-2")).await;
    run(&mut [&mut one, &mut two, &mut payments], "ORD-1", SagaStatus::Completed).await;
    run(&mut [&mut two, &mut one, &mut payments], "ORD-2", SagaStatus::Completed).await;
    assert_eq!(bus.messages(ANSWERS).len(), 2, "both got both");
    assert!(one.events_of("saga.fulfil/ORD-2").await.is_empty());
    assert!(two.events_of("saga.fulfil/ORD-1").await.is_empty());
}

#[tokio::test]
async fn what_is_no_command_and_what_is_no_answer_are_kept() {
    let (bus, diary) = (bus(), Diary::default());
    let (mut orders, mut payments) = (orders(&bus, 1), payments(&bus, &diary));
    let event = |event_type, more| {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"elsewhere","type":"{event_type}","partitionkey":"x","data":{{}}{more}}}"#
        )
    };
    let cloud = [("content-type", "application/cloudevents+json")];
    bus.post(COMMANDS, Some("x"), &cloud, event("Destroy", ""));
    bus.post(ANSWERS, Some("x"), &cloud, event("PaymentCompleted", ""));
    bus.post(
        ANSWERS,
        Some("y"),
        &cloud,
        event("ensue.CommandAnswered", r#","replyto":"Order/1","step":"pay""#),
    );
    orders.running().await;
    payments.running().await;
    for _ in 0..5 {
        orders.settle().await;
        payments.settle().await;
    }
    let reasons = |letters: Vec<ensue_runtime::dead::DeadLetter>| {
        letters.into_iter().map(|letter| (letter.handler, letter.parked.reason)).collect::<Vec<_>>()
    };
    let (here, there) = (reasons(orders.dead_letters().await), reasons(payments.dead_letters().await));
    let kept = [&here[..], &there[..]].concat();
    for (handler, reason) in [
        ("intake.payments", "it is a PaymentCompleted"),
        ("intake.payments", "Order/1 is no journal"),
        ("intake.orders", "it is a Destroy"),
    ] {
        assert!(kept.iter().any(|(at, why)| at == handler && why.contains(reason)), "{reason}: {kept:?}");
    }
}

#[tokio::test]
async fn a_command_of_somebody_else_is_done_and_answers_into_no_journal_of_this_log() {
    let (bus, diary) = (bus(), Diary::default());
    let mut payments = payments(&bus, &diary);
    let foreign = r#"{"specversion":"1.0","id":"1","source":"elsewhere","type":"TakePayment","partitionkey":"ORD-1",
        "replyto":"saga.fulfil/ORD-1","step":"pay","data":{"order":"ORD-1","cents":5}}"#;
    bus.post(COMMANDS, Some("ORD-1"), &[("content-type", "application/cloudevents+json")], foreign);
    payments.running().await;
    for _ in 0..5 {
        payments.settle().await;
    }
    assert_eq!(payments.events_of("Payment/ORD-1").await, ["PaymentCompleted"], "it is done");
    assert!(payments.events_of("saga.fulfil/ORD-1").await.is_empty(), "nobody is told");
    assert!(bus.messages(ANSWERS).is_empty());
}

#[test]
fn commands_that_would_never_be_answered_are_refused_at_the_start() {
    let bus = bus();
    let relay = || Relay::new("payments", shared(&bus)).commands::<TakePayment>().to(COMMANDS);
    let intake = || Intake::new("orders", shared(&bus)).commands::<Reserve>().from(COMMANDS);
    let answers_out = || Relay::new("orders", shared(&bus)).answers().to(ANSWERS);
    let answers_in = || Intake::new("payments", shared(&bus)).answers().from(ANSWERS);
    let app = || App::new("orders");
    let cases: [(App, Code, &str); 7] = [
        (app().relay(relay()), Code::LINK_INVALID, "no intake of link payments carries answers"),
        (app().intake(intake()), Code::LINK_INVALID, "no relay of link orders carries answers"),
        (app().intake(intake()).relay(answers_out()), Code::COMMAND_UNHANDLED, "nothing here handles"),
        (app().relay(relay()).intake(answers_in().link("other")), Code::LINK_INVALID, "no intake"),
        (app().relay(relay().topic("Order")), Code::LINK_INVALID, "several things"),
        (app().intake(answers_in().topic("Order")), Code::LINK_INVALID, "no topic"),
        (
            app().handle(reserve).relay(relay().commands::<Reserve>()).intake(answers_in()),
            Code::COMMAND_CONTESTED,
            "goes out over a link",
        ),
    ];
    for (app, code, says) in cases {
        let error = app.check_declared().expect_err(says);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    app().relay(relay()).intake(answers_in()).check_declared().expect("there and back");
}
