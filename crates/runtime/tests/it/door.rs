//! The door: each event comes in once, under rules; and what an application declares is checked before it starts.

use ensue_core::{Clock, Code, ContentType, Envelope, EventId, EventType, Source, StreamName};
use ensue_macros::{Command, Event};
use ensue_runtime::door::WINDOW;
use ensue_runtime::{App, Cause, State};
use ensue_test::{Harness, MemoryStore, host};
use serde::{Deserialize, Serialize};

use crate::words::{Diary, OrderPlaced, PaymentCompleted, placed};

fn shop() -> Harness {
    Harness::new(|app: App| app.external::<OrderPlaced>())
}

fn id(text: &str) -> EventId {
    EventId::new(text).expect("a valid id")
}

#[tokio::test]
async fn the_same_event_again_adds_nothing_and_another_under_its_id_is_refused() {
    let mut shop = shop();
    let first = shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("it is new");
    let again = shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("it is the same");
    assert_eq!((first.repeated, again.repeated, again.position), (false, true, first.position));
    for other in [placed("ORD-2"), OrderPlaced { cents: 1, ..placed("ORD-1") }] {
        let refused = shop.publish_as(id("evt-1"), other).await.expect_err("it is another");
        assert_eq!(refused.code(), Code::DUPLICATE_ID);
    }
    assert_eq!(shop.events().await, ["OrderPlaced"]);
}

#[tokio::test]
async fn an_id_is_remembered_for_the_window_and_not_longer() {
    let mut shop = shop();
    shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("it is new");
    shop.clock().advance(WINDOW.saturating_sub(std::time::Duration::from_secs(1)));
    assert!(shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("remembered").repeated);
    shop.clock().advance(std::time::Duration::from_secs(1));
    assert!(!shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("forgotten").repeated);
}

#[tokio::test]
async fn an_event_that_breaks_a_rule_of_its_type_stays_out() {
    let mut shop = shop();
    let free = OrderPlaced { cents: 0, ..placed("ORD-1") };
    let refused = shop.publish_as(id("evt-1"), free).await.expect_err("it breaks a rule");
    assert_eq!(refused.code(), Code::RULE_BROKEN);
    assert!(refused.message().contains("cents"), "{refused}");
    assert_eq!(shop.events().await, [""; 0]);
}

#[tokio::test]
async fn topics_that_ensue_writes_itself_are_closed() {
    let mut shop = shop();
    let now = shop.clock().now();
    for topic in ["saga.fulfil", "command.Charge"] {
        let envelope = Envelope {
            id: id("evt-1"),
            source: Source::new("elsewhere").expect("valid"),
            event_type: EventType::new("saga.Completed").expect("valid"),
            schema_version: 1,
            time: now,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: "{}".into(),
        };
        let stream = StreamName::new(topic, "ORD-1").expect("valid");
        let refused = shop.running().await.door().admit(stream, envelope).await.expect_err("it is closed");
        assert_eq!(refused.code(), Code::RESERVED);
    }
}

#[derive(Command, Serialize, Deserialize)]
#[command(crate = ensue_core, key = order)]
struct Remind {
    order: String,
}

async fn remind(_: Remind) -> Result<(), ()> {
    Ok(())
}

async fn remind_again(_: Remind) -> Result<(), ()> {
    Ok(())
}

async fn react(_: OrderPlaced) {}

/// Claims the type of another event.
#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, name = "OrderPlaced", topic = "Elsewhere", key = order)]
struct Impostor {
    order: String,
}

#[tokio::test]
async fn an_application_that_does_not_hold_together_does_not_start() {
    let app = || App::new("test").store(MemoryStore::new(host(1).0));
    let broken = [
        (app().external::<OrderPlaced>().react("a", react).react("a", react), Code::DUPLICATE_HANDLER),
        (app().handle(remind).handle(remind_again), Code::COMMAND_CONTESTED),
        (app().react("a", react), Code::NEVER_PRODUCED),
        (app().external::<OrderPlaced>().external::<Impostor>(), Code::DUPLICATE_TYPE),
        (app().external::<OrderPlaced>().react("no/slash", react), Code::INVALID_NAME),
        (App::new("test"), Code::UNSUPPORTED),
    ];
    for (app, code) in broken {
        assert_eq!(app.check().expect_err("it does not hold together").code(), code);
        let refused = app.start().await.err().expect("start checks too");
        assert_eq!(refused.code(), code);
    }
    assert!(app().external::<OrderPlaced>().react("a", react).check().is_ok());
}

#[tokio::test]
async fn state_that_was_not_given_parks_the_event_with_the_cure() {
    async fn asks(State(_): State<Diary>, cause: Cause, _: OrderPlaced) -> PaymentCompleted {
        PaymentCompleted { order: cause.idempotency_key() }
    }
    let mut shop = Harness::new(|app: App| app.external::<OrderPlaced>().react("asks", asks));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let [letter] = shop.dead_letters().await.try_into().expect("one letter");
    assert_eq!(letter.parked.code, "E0507");
    assert!(letter.parked.reason.contains("Diary"), "{}", letter.parked.reason);
}
