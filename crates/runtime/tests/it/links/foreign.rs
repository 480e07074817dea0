//! Messages of others: mapped by configuration, with what their frameworks say of them.

use bytes::Bytes;
use ensue_core::bus::Message;
use ensue_core::{Envelope, Recorded};
use ensue_runtime::{App, Intake, Pick};
use ensue_test::{Harness, MemoryBus};

use super::words::{bus, shared, take_in};
use crate::words::OrderPlaced;

const QUEUE: &str = "legacy";

/// Headers and content type of a message, where its type is found, and which that is.
type Foreign = (&'static [(&'static str, &'static str)], Option<&'static str>, &'static str, &'static str);

fn pick(text: &str) -> Pick {
    text.parse().expect("it says where")
}

/// A log that takes in what is foreign.
fn mapped(bus: &MemoryBus, map: impl Fn(Intake) -> Intake + 'static) -> Harness {
    let bus = bus.clone();
    Harness::new(move |app: App| {
        app.intake(map(Intake::new("legacy", shared(&bus)).from(QUEUE).topic("Order")))
    })
}

async fn taken(mut log: Harness, bus: &MemoryBus) -> Vec<Recorded> {
    log.running().await;
    take_in(&mut log, bus).await;
    assert!(log.dead_letters().await.is_empty(), "{:?}", log.dead_letters().await);
    log.recorded().await
}

async fn one(log: Harness, bus: &MemoryBus) -> Recorded {
    let [only] = <[Recorded; 1]>::try_from(taken(log, bus).await).expect("one event");
    only
}

fn extension<'a>(envelope: &'a Envelope, name: &str) -> Option<&'a str> {
    envelope.extensions.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn type_and_key_are_found_in_headers_fields_the_key_or_are_said() {
    let body = r#"{"event_type":"OrderPlaced","data":{"order_id":7},"id":"L-1"}"#;
    let cases = [
        ("header:x-type", "header:X-Order", "OrderShipped", "H-1"),
        ("field:event_type", "field:data.order_id", "OrderPlaced", "7"),
        ("const:OrderSeen", "key", "OrderSeen", "K-1"),
        ("const:OrderSeen", "const:all", "OrderSeen", "all"),
    ];
    for (event_type, key, wanted_type, wanted_key) in cases {
        let bus = bus();
        bus.post(QUEUE, Some("K-1"), &[("x-type", "OrderShipped"), ("x-order", "H-1")], body);
        let log = mapped(&bus, move |intake| intake.event_type(pick(event_type)).key(pick(key)));
        let event = one(log, &bus).await;
        assert_eq!(event.envelope.event_type.as_str(), wanted_type);
        assert_eq!(event.stream.to_string(), format!("Order/{wanted_key}"));
        assert_eq!(event.envelope.data, body, "the body stays as it was");
        assert!(event.envelope.content_type.is_json());
        assert_eq!(event.envelope.source.as_str(), "memory:legacy");
    }
}

#[tokio::test]
async fn a_cloud_event_needs_no_mapping_in_whatever_binding_or_mode() {
    let structured =
        r#"{"specversion":"1.0","id":"1","source":"s","type":"OrderPlaced","subject":"O-1","data":{"a":1}}"#;
    for prefix in ["ce_", "ce-", "cloudEvents_", "cloudEvents:"] {
        let bus = bus();
        let attributes = [
            ("specversion", "1.0"),
            ("id", "1"),
            ("source", "s"),
            ("type", "OrderPlaced"),
            ("subject", "O-1"),
        ];
        let named: Vec<(String, &str)> =
            attributes.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
        let headers: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        bus.post(QUEUE, None, &headers, r#"{"a":1}"#);
        let event = one(mapped(&bus, |intake| intake), &bus).await;
        assert_eq!(event.stream.to_string(), "Order/O-1", "{prefix}");
        assert_eq!((event.envelope.id.as_str(), &event.envelope.data[..]), ("1", &br#"{"a":1}"#[..]));
    }
    for content_type in [Some("application/cloudevents+json; charset=utf-8".into()), None] {
        let bus = bus();
        let message = Message { headers: Vec::new(), content_type, body: structured.into() };
        bus.post_message(QUEUE, None, message);
        let event = one(mapped(&bus, |intake| intake), &bus).await;
        assert_eq!((event.stream.to_string().as_str(), event.envelope.source.as_str()), ("Order/O-1", "s"));
    }
}

#[tokio::test]
async fn flow_and_cause_are_what_the_frameworks_call_them() {
    let mass_transit = r#"{"messageId":"m-1","conversationId":"flow-1","initiatorId":"cause-1","messageType":["urn:message:Shop:OrderPlaced"],"message":{"order":"O-1"}}"#;
    let cases: [Foreign; 4] = [
        (
            &[
                ("NServiceBus.MessageId", "m-1"),
                ("NServiceBus.ConversationId", "flow-1"),
                ("NServiceBus.CorrelationId", "other"),
                ("NServiceBus.RelatedTo", "cause-1"),
                (
                    "NServiceBus.EnclosedMessageTypes",
                    "Shop.OrderPlaced, Shop, Version=1.0.0.0;Shop.IEvent, Shop",
                ),
            ],
            None,
            "header:NServiceBus.EnclosedMessageTypes",
            "Shop.OrderPlaced",
        ),
        (
            &[("MT-MessageId", "m-1"), ("MT-ConversationId", "flow-1"), ("MT-InitiatorId", "cause-1")],
            None,
            "const:OrderPlaced",
            "OrderPlaced",
        ),
        (&[], Some("application/vnd.masstransit+json"), "const:OrderPlaced", "OrderPlaced"),
        (
            &[
                ("amqp:message-id", "m-1"),
                ("amqp:correlation-id", "flow-1"),
                ("NServiceBus.RelatedTo", "cause-1"),
            ],
            None,
            "const:OrderPlaced",
            "OrderPlaced",
        ),
    ];
    for (headers, content_type, event_type, wanted) in cases {
        let bus = bus();
        let headers =
            headers.iter().map(|(name, value)| ((*name).into(), Bytes::from(value.to_string()))).collect();
        let message =
            Message { headers, content_type: content_type.map(Into::into), body: mass_transit.into() };
        bus.post_message(QUEUE, Some("O-1"), message);
        let event = one(mapped(&bus, move |intake| intake.event_type(pick(event_type))), &bus).await.envelope;
        assert_eq!(event.event_type.as_str(), wanted);
        assert_eq!(event.id.as_str(), "m-1");
        assert_eq!(event.correlation.expect("it has a flow").as_str(), "flow-1");
        assert_eq!(event.causation.expect("it has a cause").as_str(), "cause-1");
        assert_eq!(
            event.extensions.iter().find(|(name, _)| name == "idfrom").map(|(_, from)| from.as_str()),
            Some("message")
        );
    }
}

#[tokio::test]
async fn the_wire_format_of_confluent_passes_through_with_the_id_of_its_schema() {
    let bus = bus();
    let mut body = vec![0, 0, 0, 1, 2];
    body.extend_from_slice(br#"{"order":"O-1"}"#);
    bus.post(QUEUE, None, &[], body.clone());
    let log = mapped(&bus, |intake| intake.event_type(pick("const:OrderPlaced")).key(pick("field:order")));
    let event = one(log, &bus).await;
    assert_eq!(event.stream.to_string(), "Order/O-1", "fields are found behind the header");
    assert_eq!(event.envelope.data, body, "byte by byte");
    assert_eq!(extension(&event.envelope, "schemaid"), Some("258"));
    assert!(!event.envelope.content_type.is_json(), "the bytes are none");
}

#[tokio::test]
async fn equal_messages_without_ids_are_told_apart_by_their_places_or_else_by_their_deliveries() {
    for (has_places, wanted) in [(true, "place"), (false, "delivery")] {
        let bus = bus().with(move |can| can.can_replay = has_places);
        let mut log = mapped(&bus, |intake| intake.event_type(pick("const:OrderSeen")));
        log.running().await;
        log.settle().await;
        bus.deliver_times(2);
        for _ in 0..2 {
            bus.post(QUEUE, Some("O-1"), &[], r#"{"order":"O-1"}"#);
        }
        take_in(&mut log, &bus).await;
        let recorded = log.recorded().await;
        assert_eq!(recorded.len(), 2, "{wanted}");
        assert!(bus.strikes() > 0, "each came twice");
        assert!(recorded.iter().all(|event| extension(&event.envelope, "idfrom") == Some(wanted)));
    }
}

#[tokio::test]
async fn a_type_that_the_application_knows_says_where_it_belongs_and_what_is_valid() {
    let bus = bus();
    let other = bus.clone();
    let mut log = Harness::new(move |app: App| {
        let intake = Intake::new("legacy", shared(&other)).from(QUEUE).event_type(pick("const:OrderPlaced"));
        app.external::<OrderPlaced>().intake(intake)
    });
    bus.post(QUEUE, None, &[], r#"{"order":"ORD-1","cents":5}"#);
    bus.post(QUEUE, None, &[], r#"{"order":"ORD-2","cents":0}"#);
    log.running().await;
    take_in(&mut log, &bus).await;
    assert_eq!(log.events_of("Order/ORD-1").await, ["OrderPlaced"]);
    assert!(log.events_of("Order/ORD-2").await.is_empty());
    let letters = log.dead_letters().await;
    assert_eq!(letters.iter().map(|letter| letter.parked.code.as_str()).collect::<Vec<_>>(), ["E0106"]);
}
