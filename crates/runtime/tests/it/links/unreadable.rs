//! Messages that cannot be read: kept with bytes and headers, shown, redriven when the configuration has been mended, discarded.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::bus::Message;
use ensue_core::{Code, Recorded};
use ensue_runtime::dead::Which;
use ensue_runtime::{App, Intake, Pick};
use ensue_test::{Harness, MemoryBus, crash_everywhere};

use super::words::{Slot, bus, shared, status, take_in};

const QUEUE: &str = "legacy";

/// A log whose intake looks for keys in a field, or, once that is mended, in the key of the message.
fn harness(bus: &MemoryBus, is_mended: &Rc<Cell<bool>>) -> Harness {
    let (bus, is_mended) = (bus.clone(), is_mended.clone());
    Harness::new(move |app: App| {
        let intake = Intake::new("legacy", shared(&bus)).from(QUEUE).topic("Order");
        let intake = intake.event_type(Pick::Const("OrderSeen".into()));
        let key = if is_mended.get() { Pick::Const("mended".into()) } else { Pick::Field("order".into()) };
        app.intake(intake.key(key))
    })
}

/// Bytes that are no event, with a header that is no text.
fn garbage() -> Message {
    let headers =
        vec![("x-origin".into(), "till 4".into()), ("x-raw".into(), Bytes::from_static(&[0xff, 0, 7]))];
    Message {
        headers,
        content_type: Some("application/x-till".into()),
        body: Bytes::from_static(b"\xff\xfe no event"),
    }
}

async fn kept(log: &Harness) -> Vec<Recorded> {
    let all = log.recorded().await.into_iter();
    all.filter(|recorded| recorded.stream.topic.as_str() == "ensue.intake.legacy").collect()
}

#[tokio::test]
async fn bytes_that_are_no_event_are_kept_and_what_is_behind_them_goes_on() {
    let bus = bus();
    bus.post_message(QUEUE, None, garbage());
    bus.post(QUEUE, None, &[], r#"{"order":"O-1"}"#);
    let mut log = harness(&bus, &Rc::default());
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/O-1").await, ["OrderSeen"]);
    let [kept] = <[Recorded; 1]>::try_from(kept(&log).await).expect("one message");
    assert_eq!(kept.envelope.data, garbage().body);
    let beside =
        kept.envelope.extensions.iter().find(|(name, _)| name == "message").expect("what came with it");
    assert!(beside.1.contains("till 4") && beside.1.contains("ff0007"), "{}", beside.1);
    let letters = log.dead_letters().await;
    let shown: Vec<_> =
        letters.iter().map(|letter| (letter.handler.as_str(), letter.parked.code.as_str())).collect();
    assert_eq!(shown, [("intake.legacy", "E0448")]);
    let status = status(&mut log).await;
    assert_eq!((status.unreadable, status.parked, status.passed), (1, 1, 1));
    assert_eq!(status.trouble.expect("it says why").code, Code::UNREADABLE.to_string());
}

#[tokio::test]
async fn a_message_is_read_again_when_the_configuration_has_been_mended() {
    let (bus, is_mended) = (bus(), Rc::new(Cell::new(false)));
    bus.post_message(QUEUE, Some("till"), garbage());
    let mut log = harness(&bus, &is_mended);
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.redrive("intake.legacy", "till").await, 1);
    log.settle().await;
    assert_eq!(log.dead_letters().await.len(), 1, "nothing was mended yet");
    is_mended.set(true);
    log.restart().await;
    assert_eq!(log.redrive("intake.legacy", "till").await, 1);
    log.settle().await;
    assert!(log.dead_letters().await.is_empty());
    let recorded = log.recorded().await;
    let event =
        recorded.iter().find(|one| one.stream.to_string() == "Order/mended").expect("it is an event now");
    assert_eq!(event.envelope.data, garbage().body);
    // The broker delivers it once more: it is known.
    log.running().await.seek_link("legacy", ensue_core::bus::Seek::Begin).await.expect("it keeps a history");
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/mended").await, ["OrderSeen"]);
}

#[tokio::test]
async fn a_message_can_be_discarded_with_a_reason() {
    let bus = bus();
    bus.post_message(QUEUE, Some("till"), garbage());
    let mut log = harness(&bus, &Rc::default());
    log.running().await;
    take_in(&mut log, &bus).await;
    let which = Which::key("intake.legacy", "till");
    let discarded = log.running().await.dead().discard(&which, "the till is gone").await;
    assert_eq!(discarded.expect("it is there"), 1);
    log.settle().await;
    assert!(log.dead_letters().await.is_empty());
    assert_eq!(kept(&log).await.len(), 1, "the log keeps what it had");
}

#[tokio::test]
async fn a_message_is_kept_once_whatever_crashes_and_however_often_it_comes() {
    let slot = Slot::default();
    let crashes = crash_everywhere(
        || {
            let bus = slot.renew();
            bus.deliver_times(2);
            bus.post_message(QUEUE, Some("till"), garbage());
            harness(&bus, &Rc::default())
        },
        async |log: &mut Harness| {
            log.running().await;
            take_in(log, &slot.get()).await;
            log.settle().await;
            assert_eq!((kept(log).await.len(), log.dead_letters().await.len()), (1, 1));
        },
    )
    .await;
    assert!(crashes >= 6, "{crashes}");
}

#[tokio::test]
async fn an_id_that_comes_again_with_another_body_is_kept_aside() {
    let bus = bus();
    let mut log = harness(&bus, &Rc::default());
    for body in [r#"{"order":"O-1","n":1}"#, r#"{"order":"O-1","n":2}"#, r#"{"order":"O-1","n":1}"#] {
        bus.post(QUEUE, Some("O-1"), &[("NServiceBus.MessageId", "m-1")], body);
    }
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/O-1").await, ["OrderSeen"]);
    let letters = log.dead_letters().await;
    assert_eq!(letters.iter().map(|letter| letter.parked.code.as_str()).collect::<Vec<_>>(), ["E0204"]);
    assert_eq!(status(&mut log).await.duplicates, 1);
}

#[tokio::test]
async fn a_message_too_large_for_the_log_is_refused_to_the_dead_letters_of_the_broker() {
    let bus = bus().with(|can| can.has_dead_letters = true);
    let mut log = harness(&bus, &Rc::default());
    bus.post(QUEUE, None, &[], format!(r#"{{"order":"O-1","text":"{}"}}"#, "x".repeat(2 << 20)));
    bus.post(QUEUE, None, &[], r#"{"order":"O-2"}"#);
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/O-2").await, ["OrderSeen"]);
    assert!(log.events_of("Order/O-1").await.is_empty());
    assert_eq!(status(&mut log).await.trouble.expect("it says why").code, Code::TOO_LARGE.to_string());
}

#[tokio::test]
async fn a_message_too_large_for_the_log_stays_with_a_broker_that_has_no_dead_letters() {
    let bus = bus();
    let mut log = harness(&bus, &Rc::default());
    bus.post(QUEUE, None, &[], format!(r#"{{"order":"O-1","text":"{}"}}"#, "x".repeat(2 << 20)));
    bus.post(QUEUE, None, &[], r#"{"order":"O-2"}"#);
    log.running().await;
    for _ in 0..3 {
        log.advance(Duration::from_secs(31)).await;
        assert_eq!((log.events_of("Order/O-2").await.len(), bus.unsettled()), (1, 1), "nothing is lost");
    }
    assert_eq!(status(&mut log).await.trouble.expect("it says why").code, Code::TOO_LARGE.to_string());
}

#[tokio::test]
async fn every_message_under_one_foreign_id_is_kept() {
    let bus = bus();
    let mut log = harness(&bus, &Rc::default());
    for number in 1..=4 {
        let body = format!(r#"{{"order":"O-1","n":{number}}}"#);
        bus.post(QUEUE, Some("O-1"), &[("NServiceBus.MessageId", "m-1")], body);
    }
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/O-1").await, ["OrderSeen"]);
    let kept: Vec<_> = kept(&log).await.into_iter().map(|recorded| recorded.envelope.data).collect();
    assert_eq!(kept, [2, 3, 4].map(|number| format!(r#"{{"order":"O-1","n":{number}}}"#)));
}

#[tokio::test]
async fn an_event_that_no_store_can_keep_is_kept_as_it_came_and_holds_up_nobody() {
    let bus = bus();
    let mut log = harness(&bus, &Rc::default());
    // Either may have 1,024 bytes; what remembers both may not have more than that together.
    let (id, source) = ("i".repeat(700), "s".repeat(500));
    let headers =
        [("ce_specversion", "1.0"), ("ce_id", &id), ("ce_source", &source), ("ce_type", "OrderSeen")];
    bus.post(QUEUE, None, &headers, r#"{"order":"O-1"}"#);
    bus.post(QUEUE, None, &[], r#"{"order":"O-2"}"#);
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/O-2").await, ["OrderSeen"]);
    let letters = log.dead_letters().await;
    assert_eq!((kept(&log).await.len(), letters.len()), (1, 1), "{letters:?}");
}
