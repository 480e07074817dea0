//! `#[derive(Event)]` on structs and enums.

use ensue_core::{
    Code, ContentType, Draft, Envelope, Event, EventId, EventSet, EventType, Source, StreamName, Timestamp,
    Unknown,
};
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize, PartialEq, Debug, Clone)]
#[event(crate = ensue_core, name = "OrderPlaced", version = 2, topic = "Order", key = order_id)]
#[event(tags(customer_id, ware = sku), validate = total_is_positive)]
struct Placed {
    order_id: u32,
    #[serde(rename = "customerId", default)]
    customer_id: String,
    sku: String,
    total: i64,
}

fn total_is_positive(placed: &Placed) -> Result<(), String> {
    if placed.total > 0 { Ok(()) } else { Err(format!("total: {} is not above 0", placed.total)) }
}

#[derive(Event, Serialize, Deserialize, PartialEq, Debug, Clone)]
#[event(crate = ensue_core, topic = "Order", key = r#type)]
#[serde(rename_all = "camelCase")]
struct PaymentCompleted {
    #[serde(rename = "orderId")]
    r#type: String,
}

#[derive(Event, PartialEq, Debug)]
#[event(crate = ensue_core)]
enum OrderEvent {
    Placed(Placed),
    Paid(PaymentCompleted),
}

#[derive(Event, PartialEq, Debug)]
#[event(crate = ensue_core)]
enum Anything {
    Placed(Placed),
    #[event(unknown)]
    Other(Unknown),
}

fn placed() -> Placed {
    Placed { order_id: 5001, customer_id: "CUST-1".into(), sku: "WIDGET-1".into(), total: 5998 }
}

fn envelope(event_type: &str, data: &str) -> Envelope {
    Envelope {
        id: EventId::new("evt-1").expect("a plain id"),
        source: Source::new("shop").expect("a plain source"),
        event_type: EventType::new(event_type).expect("a plain type"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: data.to_owned().into(),
    }
}

#[test]
fn a_struct_knows_its_type_stream_and_tags() {
    let info = Placed::INFO;
    assert_eq!(
        (info.event_type, info.version, info.topic, info.key_field),
        ("OrderPlaced", 2, "Order", "order_id")
    );
    assert_eq!(placed().key(), "5001");
    assert_eq!(placed().tags(), [("customerId", "CUST-1".to_owned()), ("ware", "WIDGET-1".to_owned())]);
    let draft = Draft::of(&placed()).expect("good names");
    assert_eq!(draft.stream, StreamName::new("Order", "5001").expect("a plain name"));
}

#[test]
fn name_version_tags_and_rules_have_defaults() {
    let info = PaymentCompleted::INFO;
    assert_eq!((info.event_type, info.version), ("PaymentCompleted", 1));
    let paid = PaymentCompleted { r#type: "ORD-1".into() };
    assert!(paid.tags().is_empty());
    assert_eq!(paid.validate(), Ok(()));
}

#[test]
fn the_key_field_is_called_as_it_is_in_json() {
    assert_eq!(PaymentCompleted::INFO.key_field, "orderId");
    let json = serde_json::to_value(PaymentCompleted { r#type: "ORD-1".into() }).expect("plain fields");
    assert_eq!(json.get(PaymentCompleted::INFO.key_field), Some(&"ORD-1".into()));
}

#[test]
fn validate_calls_the_named_function() {
    assert_eq!(placed().validate(), Ok(()));
    let free = Placed { total: 0, ..placed() };
    assert_eq!(free.validate(), Err("total: 0 is not above 0".to_owned()));
}

#[test]
fn a_set_decodes_what_its_events_draft() {
    let types: Vec<&str> = OrderEvent::types().iter().map(|info| info.event_type).collect();
    assert_eq!(types, ["OrderPlaced", "PaymentCompleted"]);
    for event in [OrderEvent::from(placed()), PaymentCompleted { r#type: "ORD-1".into() }.into()] {
        let draft = event.draft().expect("good names");
        let text = String::from_utf8(draft.data.to_vec()).expect("JSON is UTF-8");
        let back = OrderEvent::decode(&envelope(draft.event_type.as_str(), &text)).expect("its own draft");
        assert_eq!(back, event);
    }
}

#[test]
fn a_foreign_type_is_an_error_unless_the_set_asks_for_it() {
    let foreign = envelope("Refunded", r#"{"a": 1}"#);
    let error = OrderEvent::decode(&foreign).expect_err("not in the set");
    assert_eq!(error.code(), Code::UNKNOWN_TYPE);
    assert_eq!(error.message(), "Refunded is none of OrderPlaced, PaymentCompleted");

    let other = Anything::decode(&foreign).expect("the set takes unknown types");
    let Anything::Other(unknown) = &other else { panic!("{other:?} is not unknown") };
    assert_eq!((unknown.event_type.as_str(), &unknown.data[..]), ("Refunded", br#"{"a": 1}"#.as_slice()));
    assert_eq!(other.draft().expect_err("it has no stream").code(), Code::UNKNOWN_TYPE);
}

#[test]
fn a_known_type_with_a_bad_body_is_an_error_also_where_unknown_types_are_taken() {
    let error = Anything::decode(&envelope("OrderPlaced", r#"{"order_id":"x"}"#)).expect_err("a bad body");
    assert_eq!(error.code(), Code::INVALID_BODY);
}
