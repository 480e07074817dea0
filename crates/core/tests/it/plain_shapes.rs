//! The plain shapes of events and commands, as they are written in articles.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::cloudevents::{Incoming, Parsed, ParsedCommand, parse};
use ensue_core::{BoxFuture, Clock, Code, Entropy, Host, Source, Timestamp};

const EVENT: &str = r#"{"event_type":"OrderPlaced","event_id":"evt-a1b2c3","timestamp":"2024-01-15T10:30:00Z","data":{"order_id":"ORD-5001","customer_id":"CUST-1001","items":[{"sku":"WIDGET-1","qty":2,"price":29.99}],"total":59.98}}"#;
const COMMAND: &str = r#"{"command_type":"ProcessPayment","command_id":"cmd-x1y2z3","data":{"order_id":"ORD-5001","amount":59.98,"payment_method":"credit_card"}}"#;

fn one(document: &str) -> Incoming {
    let mut all = parse(document.as_bytes()).expect("a good document");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn event(document: &str) -> Parsed {
    match one(document) {
        Incoming::Event(event) => *event,
        Incoming::Command(command) => panic!("{command:?} is a command"),
    }
}

fn command(document: &str) -> ParsedCommand {
    match one(document) {
        Incoming::Command(command) => command,
        Incoming::Event(event) => panic!("{event:?} is an event"),
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

#[test]
fn the_event_as_people_write_it_is_read_as_it_stands() {
    let event = event(EVENT);
    assert_eq!(event.event_type.as_str(), "OrderPlaced");
    assert_eq!(event.id.as_ref().map(AsRef::as_ref), Some("evt-a1b2c3"));
    assert_eq!(event.time.map(|time| time.to_string()).as_deref(), Some("2024-01-15T10:30:00Z"));
    assert_eq!((event.source.as_ref(), event.stream().expect("no hints")), (None, None));
    assert!(event.content_type.is_json());
    let data = EVENT.split_once("\"data\":").map(|(_, rest)| &rest[..rest.len() - 1]);
    assert_eq!(std::str::from_utf8(&event.data).ok(), data, "verbatim");
}

#[test]
fn the_command_as_people_write_it_is_read_as_it_stands() {
    let command = command(COMMAND);
    assert_eq!(command.command_type.as_str(), "ProcessPayment");
    assert_eq!(command.id.as_ref().map(AsRef::as_ref), Some("cmd-x1y2z3"));
    assert_eq!(
        &command.data[..],
        br#"{"order_id":"ORD-5001","amount":59.98,"payment_method":"credit_card"}"#
    );
}

#[test]
fn id_and_time_may_be_absent_and_are_filled_in() {
    let host = Host { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) };
    let source = Source::new("shop").expect("a plain source");
    for document in [
        r#"{"event_type":"A","data":{}}"#,
        r#"{"event_type":"A","event_id":null,"timestamp":null,"data":{}}"#,
    ] {
        let parsed = event(document);
        let error = parsed.clone().into_envelope().expect_err("nothing is filled in unasked");
        assert_eq!(error.message(), "attribute `id`: it is missing");
        let envelope = parsed.filled(&host, &source).into_envelope().expect("complete");
        assert_eq!(
            (envelope.source, envelope.time, envelope.schema_version),
            (source.clone(), Timestamp::UNIX_EPOCH, 1)
        );
        assert_eq!(envelope.id, host.event_id());
    }
    assert_eq!(command(r#"{"command_type":"Pay","data":{}}"#).id, None);
}

#[test]
fn what_is_given_is_not_filled_in() {
    let host = Host { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) };
    let before = event(EVENT);
    let after = before.clone().filled(&host, &Source::new("shop").expect("a plain source"));
    assert_eq!((after.id, after.time), (before.id, before.time));
}

#[test]
fn shapes_may_be_mixed_in_an_array() {
    let all = parse(format!("[{EVENT},{COMMAND}]").as_bytes()).expect("good documents");
    assert_eq!(all, [one(EVENT), one(COMMAND)]);
}

#[test]
fn a_broken_plain_document_is_refused_with_the_name_of_its_member() {
    for (document, message) in [
        (r#"{"event_type":"A","data":1,"tags":"x"}"#, "the member `tags` is not part of the plain shape"),
        (
            r#"{"command_type":"A","data":1,"timestamp":"x"}"#,
            "the member `timestamp` is not part of the plain shape",
        ),
        (r#"{"event_type":"A"}"#, "attribute `data`: it is missing"),
        (r#"{"command_type":"A"}"#, "attribute `data`: it is missing"),
        (r#"{"event_type":null,"data":1}"#, "attribute `event_type`: it is missing"),
        (r#"{"command_type":null,"data":1}"#, "attribute `command_type`: it is missing"),
        (r#"{"event_type":"","data":1}"#, "attribute `event_type`: `` is not an event type: it is empty"),
        (r#"{"event_type":5,"data":1}"#, "attribute `event_type`: it is not text, but 5"),
        (r#"{"event_type":"A","event_id":5,"data":1}"#, "attribute `event_id`: it is not text, but 5"),
        (
            r#"{"command_type":"A","command_id":"","data":1}"#,
            "attribute `command_id`: `` is not an event id: it is empty",
        ),
        (
            r#"{"event_type":"A","timestamp":"2024-01-15","data":1}"#,
            "attribute `timestamp`: `2024-01-15` is not an RFC 3339 time, such as `2024-01-15T10:30:00Z`",
        ),
    ] {
        let error = parse(document.as_bytes()).expect_err(document);
        assert_eq!((error.code(), error.message()), (Code::INVALID_EVENT, message));
    }
}
