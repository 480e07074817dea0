//! What somebody else does with the same service, by Google's own description of it.

use std::collections::BTreeSet;

use ensue_core::bus::{Bus, Consume, Declare, Delivery, Feed, Mode, Outgoing, Settled, Topology};
use ensue_core::cloudevents::{Binding, json};
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName, SubscriptionName};
use ensue_core::{Code, Envelope, Timestamp};
use ensue_pubsub::PubsubBus;
use serde_json::{Value, json};

use crate::given::{self, TOKEN};

pub(crate) fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a valid channel")
}

pub(crate) fn group(from: &str) -> Consume {
    let group = SubscriptionName::new("billing").expect("a valid name");
    Consume { group, from: channel(from), fed_by: None }
}

/// What a subscription of the group is fed by.
pub(crate) fn fed(subscription: &str, topic: &str, filter: Option<&str>) -> Consume {
    let feed = Feed { from: channel(topic), filter: filter.map(Into::into) };
    Consume { fed_by: Some(feed), ..group(subscription) }
}

pub(crate) async fn declare(bus: &PubsubBus, source: &Consume) {
    let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
}

pub(crate) fn event(to: &str, key: &str, id: &str, event_type: &str) -> Outgoing {
    Outgoing {
        to: channel(to),
        stream: StreamName::new("Order", key).expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("shop").expect("a valid source"),
            event_type: EventType::new(event_type).expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: "{\"total\":7}".into(),
        },
        mode: Mode::Binary,
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a [u8]> {
    let found = delivery.message.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| &value[..])
}

fn topic(name: &str) -> Value {
    json!({ "name": given::topic(name) })
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_message_of_somebody_else_arrives_with_all_that_it_has() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    let source = group("orders");
    declare(&bus, &source).await;
    server.call(
        "Publisher/Publish",
        &json!({
            "topic": given::topic("orders"),
            "messages": [
                { "data": "AAEC", "attributes": { "kind": "Größe", "content-type": "image/png" }, "orderingKey": "A" },
                { "data": "", "attributes": { "ce-subject": "B" } },
            ],
        }),
    );
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(consumer.next(10).await.expect("the service runs"));
    }
    came.sort_by_key(|delivery| delivery.key.clone());
    let [first, second] = &came[..] else { panic!("two came: {came:?}") };
    assert_eq!(&first.message.body[..], [0, 1, 2]);
    assert_eq!(first.message.content_type.as_deref(), Some("image/png"));
    assert_eq!(header(first, "kind"), Some("Größe".as_bytes()));
    assert_eq!((first.key.as_deref(), second.key.as_deref()), (Some("A"), Some("B")));
    assert_eq!((first.from.as_str(), first.attempt), ("orders", 1));
    assert!(first.published_at.is_some_and(|at| at > Timestamp::UNIX_EPOCH), "{first:?}");
    assert!(first.place.is_some() && first.place != second.place, "{came:?}");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn an_event_is_to_somebody_else_what_the_binding_says() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    server.call("Publisher/CreateTopic", &topic("orders"));
    server.call("Subscriber/CreateSubscription", &given::subscription("theirs", "orders"));
    let binary = event("orders", "ORD-1", "e1", "OrderPlaced");
    let structured = Outgoing { mode: Mode::Structured, ..event("orders", "ORD-1", "e2", "OrderPlaced") };
    for answer in bus.publish(vec![binary, structured]).await {
        answer.expect("it is confirmed");
    }
    let pull = json!({ "subscription": given::subscription_name("theirs"), "maxMessages": 10 });
    let pulled = server.call("Subscriber/Pull", &pull);
    let received = pulled.get("receivedMessages").and_then(Value::as_array).expect("some");
    let messages: Vec<&Value> = received.iter().filter_map(|received| received.get("message")).collect();
    let of = |content_type: &str| {
        let found = messages
            .iter()
            .find(|message| message.pointer("/attributes/content-type") == Some(&json!(content_type)));
        found.copied().unwrap_or_else(|| panic!("one of {content_type}: {pulled}"))
    };
    let (binary, structured) = (of("application/json"), of(json::MEDIA_TYPE));
    let attributes = &binary["attributes"];
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e1"),
        ("ce-source", "shop"),
        ("ce-type", "OrderPlaced"),
        ("ce-time", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(attributes[name], value, "{binary}");
    }
    assert_eq!((&binary["data"], &binary["orderingKey"]), (&json!("eyJ0b3RhbCI6N30="), &json!("ORD-1")));
    let names: BTreeSet<&str> =
        structured["attributes"].as_object().expect("some").keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["content-type"]), "{structured}");
    assert_eq!(structured["orderingKey"], "ORD-1");
    assert_eq!(bus.capabilities().binding, Binding::Pubsub);
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_subscription_of_other_settings_is_refused_and_left_alone() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    for name in ["orders", "bills", "elsewhere"] {
        server.call("Publisher/CreateTopic", &topic(name));
    }
    let good = json!({
        "ackDeadlineSeconds": 10,
        "enableMessageOrdering": true,
        "deadLetterPolicy": { "deadLetterTopic": given::topic("mine.dead"), "maxDeliveryAttempts": 100 },
    });
    server.call("Publisher/CreateTopic", &topic("mine.dead"));
    let dead = json!({ "deadLetterTopic": given::topic("elsewhere"), "maxDeliveryAttempts": 7 });
    let bad = [
        ("topic", json!(given::topic("bills")), ["bills", "orders"]),
        ("enableMessageOrdering", json!(false), ["false", "true"]),
        ("filter", json!("attributes:kind"), ["attributes:kind", "none"]),
        ("deadLetterPolicy", dead, ["after 7", "after 100"]),
        ("deadLetterPolicy", Value::Null, ["none", "mine.dead"]),
        ("enableExactlyOnceDelivery", json!(true), ["true", "false"]),
        ("pushConfig", json!({ "pushEndpoint": "https://example.com" }), ["pushes", "somebody else"]),
    ];
    let source = fed("mine", "orders", None);
    let name = json!({ "subscription": given::subscription_name("mine") });
    for (setting, value, words) in bad {
        let mut wrong = given::subscription("mine", "orders");
        let settings = wrong.as_object_mut().expect("an object");
        settings.extend(good.as_object().expect("an object").clone());
        settings.insert(setting.to_owned(), value);
        server.call("Subscriber/CreateSubscription", &wrong);
        let before = server.call("Subscriber/GetSubscription", &name);
        let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
        let declared = bus.declare(&topology, Declare::Make).await.map(drop);
        let joined = bus.consume(source.clone()).await.map(drop);
        for error in [declared.expect_err("it is otherwise"), joined.expect_err("it is otherwise")] {
            assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{setting}: it names both: {text}");
        }
        assert_eq!(server.call("Subscriber/GetSubscription", &name), before, "{setting}");
        server.call("Subscriber/DeleteSubscription", &name);
    }
    let mut wanted = given::subscription("mine", "orders");
    wanted.as_object_mut().expect("an object").extend(good.as_object().expect("an object").clone());
    server.call("Subscriber/CreateSubscription", &wanted);
    bus.consume(source).await.expect("this one will do");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_subscription_of_somebody_else_is_consumed_as_it_is() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    server.call("Publisher/CreateTopic", &topic("orders"));
    server.call("Subscriber/CreateSubscription", &given::subscription("theirs", "orders"));
    let source = group("theirs");
    let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
    let declared = bus.declare(&topology, Declare::Make).await.expect("it is there");
    assert_eq!((&declared.found[..], declared.missing.len()), (&["subscription `theirs`".to_owned()][..], 0));
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let mut consumer = bus.consume(source).await.expect("it can be consumed");
    let came = consumer.next(10).await.expect("the service runs").remove(0);
    assert_eq!(came.attempt, 1, "it has no dead letters, so nobody counts");
    let refused = vec![Settled::Reject(came.token, "no".to_owned())];
    consumer.settle(refused).await.remove(0).expect("it has no dead letters, so it is gone");
    let missing = bus.consume(group("nobodys")).await.map(drop).expect_err("there is none");
    assert_eq!(missing.code(), Code::BUS_UNROUTABLE, "{missing:?}");
    assert!(missing.message().contains("nobodys.billing"), "{missing:?}");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_filter_lets_through_what_it_says_and_a_bad_one_is_refused() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    let source = fed("placed", "orders", Some("attributes.ce-type = \"OrderPlaced\""));
    declare(&bus, &source).await;
    let types = ["OrderPaid", "OrderPlaced", "OrderShipped", "OrderPlaced"];
    let events = types.iter().enumerate();
    let batch = events.map(|(number, name)| event("orders", "A", &format!("e{number}"), name));
    for answer in bus.publish(batch.collect()).await {
        answer.expect("it is confirmed");
    }
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    let mut came = Vec::new();
    while came.len() < 2 {
        for delivery in consumer.next(10).await.expect("the service runs") {
            came.push(String::from_utf8_lossy(header(&delivery, "ce-id").expect("an id")).into_owned());
            consumer.settle(vec![Settled::Ack(delivery.token)]).await.remove(0).expect("it can be settled");
        }
    }
    assert_eq!(came, ["e1", "e3"]);
    let bad = fed("bad", "orders", Some("what is this"));
    let topology = Topology { targets: Vec::new(), sources: vec![bad] };
    let error = bus.declare(&topology, Declare::Make).await.expect_err("it is no filter");
    assert!(error.code() == Code::BUS_REFUSED && error.message().contains("filter"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_dead_letter_says_why_and_keeps_its_key() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    let came = consumer.next(10).await.expect("the service runs").remove(0);
    let reason = format!("{} no event", "ö".repeat(600));
    let settled = consumer.settle(vec![Settled::Reject(came.token, reason.clone())]).await.remove(0);
    settled.expect("it can be refused");
    let mut letters = bus.consume(group("mine.dead")).await.expect("they can be consumed");
    let letter = letters.next(10).await.expect("the service runs").remove(0);
    let said = String::from_utf8_lossy(header(&letter, "x-ensue-reason").expect("a reason")).into_owned();
    assert!(reason.starts_with(&said) && said.len() == 1024, "{said}");
    assert_eq!(header(&letter, "CloudPubSubDeadLetterSourceSubscription"), Some(&b"mine"[..]));
    assert_eq!((letter.key.as_deref(), text(&letter)), (Some("A"), text(&came)));
    assert_eq!(header(&letter, "ce-id"), Some(&b"e1"[..]));
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn what_is_delivered_too_often_is_moved_to_the_dead_letters_by_the_service() {
    let server = given::server().await;
    let bus = server.config(TOKEN).delivery_limit(5).open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    bus.publish(vec![event("orders", "A", "e1", "OrderPlaced")]).await.remove(0).expect("it is confirmed");
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    for attempt in 1..=5 {
        let came = consumer.next(10).await.expect("the service runs").remove(0);
        assert_eq!(came.attempt, attempt);
        let back = vec![Settled::Nack(came.token, std::time::Duration::ZERO)];
        consumer.settle(back).await.remove(0).expect("it can be handed back");
    }
    let mut letters = bus.consume(group("mine.dead")).await.expect("they can be consumed");
    let letter = letters.next(10).await.expect("the service runs").remove(0);
    assert_eq!(header(&letter, "ce-id"), Some(&b"e1"[..]));
}
