//! What somebody else does with the same event bus and queue.

use std::collections::HashMap;

use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use aws_sdk_sqs::types::MessageAttributeValue;
use ensue_core::bus::{Consumer, Declare, Delivery, Topology};
use ensue_core::cloudevents::Binding;
use ensue_core::name::Channel;
use ensue_test::conformance::bus::Broker;
use serde_json::Value;

use crate::given::{self, Server};

fn shop() -> Channel {
    Channel::new("shop").expect("a valid name")
}

/// A member of a group that gets everything of the event bus `shop`.
async fn member(server: &Server) -> Box<dyn Consumer> {
    let bus = server.open().await.expect("the address is understood");
    let source = given::source("orders", "shop", None);
    let topology = Topology { targets: vec![shop()], sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    bus.consume(source).await.expect("the group can be joined")
}

async fn put(server: &Server, detail_type: &str, detail: &str) {
    let entry = PutEventsRequestEntry::builder().event_bus_name("shop").source("my.app");
    let entry = entry.detail_type(detail_type).detail(detail).build();
    let put = server.events().put_events().entries(entry).send().await.expect("the fake runs");
    assert_eq!(put.failed_entry_count(), 0, "{put:?}");
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    consumer.next(1).await.expect("the fake runs").remove(0)
}

fn headers(delivery: &Delivery) -> HashMap<&str, &str> {
    let text = |value| std::str::from_utf8(value).expect("these are text");
    delivery.message.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("it is JSON")
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn an_event_of_somebody_else_is_an_event_without_configuration() {
    let server = given::server().await;
    let mut consumer = member(&server).await;
    put(&server, "OrderPlaced", r#"{"order_id":"ORD-7","amount":9007199254740993}"#).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.content_type.as_deref(), Some("application/json"));
    assert_eq!(json(&delivery.message.body), json(br#"{"order_id":"ORD-7","amount":9007199254740993}"#));
    let said = headers(&delivery);
    assert_eq!((said["eventbridge:detail-type"], said["eventbridge:source"]), ("OrderPlaced", "my.app"));
    let body = delivery.message.body.clone();
    let event = Binding::Http.read(said.clone(), Some("application/json"), body).expect("it is an event");
    assert_eq!(event.event_type.as_str(), "OrderPlaced");
    assert_eq!(event.source.expect("a source").as_str(), "my.app");
    assert_eq!(event.id.expect("an id").as_str(), said["eventbridge:id"]);
    assert_eq!(delivery.place.as_deref(), Some(format!("eventbridge/{}", said["eventbridge:id"]).as_str()));
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_type_that_is_none_of_ours_is_left_to_the_configuration() {
    let server = given::server().await;
    let mut consumer = member(&server).await;
    put(&server, "EC2 Instance State-change Notification", r#"{"state":"stopped"}"#).await;
    let delivery = next(&mut consumer).await;
    let said = headers(&delivery);
    assert_eq!(said["eventbridge:detail-type"], "EC2 Instance State-change Notification");
    assert!(!said.keys().any(|name| name.starts_with("ce-")), "{said:?}");
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn rules_of_others_look_into_what_we_publish() {
    let server = given::server().await;
    let _ours = member(&server).await;
    let (events, queues) = (server.events(), server.queues());
    let url = queues.create_queue().queue_name("theirs").send().await.expect("the fake runs");
    let url = url.queue_url().expect("an address").to_owned();
    let pattern = r#"{"detail-type":["OrderPlaced"],"detail":{"data":{"total":[{"numeric":[">",6]}]}}}"#;
    let rule = events.put_rule().name("theirs").event_bus_name("shop").event_pattern(pattern);
    rule.send().await.expect("the fake runs");
    let arn = "arn:aws:sqs:us-east-1:123456789012:theirs";
    let target = Target::builder().id("1").arn(arn).build().expect("a whole target");
    let targets = events.put_targets().rule("theirs").event_bus_name("shop").targets(target);
    targets.send().await.expect("the fake runs");
    let bus = server.open().await.expect("the address is understood");
    for total in ["5", "7"] {
        let event = given::event("shop", "ORD-1", total, &format!("{{\"total\":{total}}}"));
        bus.publish(vec![event]).await.remove(0).expect("it is confirmed");
    }
    let came = queues.receive_message().queue_url(&url).max_number_of_messages(10).send().await;
    let bodies: Vec<Value> = came
        .expect("the fake runs")
        .messages()
        .iter()
        .map(|message| json(message.body().expect("a body").as_bytes()))
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let body = bodies.first().expect("there is one");
    assert_eq!((&body["source"], &body["detail-type"]), (&"shop-tests".into(), &"OrderPlaced".into()));
    assert_eq!((&body["detail"]["subject"], &body["detail"]["data"]["total"]), (&"ORD-1".into(), &7.into()));
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn what_is_sent_to_the_queue_directly_arrives_as_it_is() {
    let server = given::server().await;
    let mut consumer = member(&server).await;
    let queues = server.queues();
    let url = queues.get_queue_url().queue_name("orders").send().await.expect("it was made");
    let value = MessageAttributeValue::builder().data_type("String").string_value("c-1").build();
    let sending =
        queues.send_message().queue_url(url.queue_url().expect("an address")).message_body("{ no event");
    let sending = sending.message_attributes("CorrelationId", value.expect("a whole value"));
    sending.send().await.expect("the fake runs");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.body, "{ no event");
    assert_eq!(headers(&delivery), HashMap::from([("CorrelationId", "c-1")]));
}
