//! What the cases are written with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consumer, Declare, Delivery, Mode, Outgoing, Settled, Topology};
use ensue_core::cloudevents::{Parsed, json};
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName, SubscriptionName};
use ensue_core::{Envelope, Timestamp};

use super::Broker;

/// How many deliveries are asked for at once.
pub(super) const PAGE: usize = 64;

/// A channel of the suite.
pub(super) fn channel(name: &str) -> Channel {
    Channel::new(format!("conformance.{name}")).expect("a valid channel")
}

pub(super) fn group(name: &str) -> SubscriptionName {
    SubscriptionName::new(name).expect("a valid name")
}

/// A connection.
pub(super) async fn open(broker: &Arc<dyn Broker>) -> Arc<dyn Bus> {
    broker.open().await.expect("the broker runs")
}

/// Makes the channels, consumed by these groups.
pub(super) async fn declare(
    broker: &Arc<dyn Broker>,
    bus: &Arc<dyn Bus>,
    targets: &[&Channel],
    groups: &[&str],
) {
    let pairs = targets.iter().flat_map(|target| groups.iter().map(move |name| (*target, *name)));
    let topology = Topology {
        targets: targets.iter().map(|target| (*target).clone()).collect(),
        sources: pairs.map(|(target, name)| broker.source(group(name), target)).collect(),
    };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
}

/// One member of a group.
pub(super) async fn join(
    broker: &Arc<dyn Broker>,
    bus: &Arc<dyn Bus>,
    target: &Channel,
    name: &str,
) -> Box<dyn Consumer> {
    bus.consume(broker.source(group(name), target)).await.expect("the group can be joined")
}

/// An event of this key and id.
pub(super) fn message(to: &Channel, key: &str, id: &str) -> Outgoing {
    Outgoing {
        to: to.clone(),
        stream: StreamName::new("Order", key).expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("conformance").expect("a valid source"),
            event_type: EventType::new("OrderPlaced").expect("a valid type"),
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

/// Publishes, and asserts that all of it is confirmed.
pub(super) async fn publish(bus: &Arc<dyn Bus>, batch: Vec<Outgoing>) {
    for answer in bus.publish(batch).await {
        answer.expect("it is confirmed");
    }
}

/// Publishes one message again and again until it is confirmed; answers with how often it was not.
pub(super) async fn publish_stubbornly(bus: &Arc<dyn Bus>, message: Outgoing) {
    while let Err(error) = bus.publish(vec![message.clone()]).await.pop().expect("an answer for each message")
    {
        assert!(error.is_retryable(), "{error:?}");
        pause().await;
    }
}

/// Between two tries, so that a broker that is down is not asked as fast as a processor can.
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The event that was delivered, as a link reads it.
pub(super) fn event(bus: &Arc<dyn Bus>, delivery: &Delivery) -> Parsed {
    let message = &delivery.message;
    if message.content_type.as_deref().is_some_and(|text| text.starts_with(json::MEDIA_TYPE)) {
        return json::parse(&message.body).expect("the structured event reads");
    }
    let headers = message
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("headers of ours are text")));
    let binding = bus.capabilities().binding;
    binding.read(headers, message.content_type.as_deref(), message.body.clone()).expect("the event reads")
}

/// The id of the event that was delivered.
pub(super) fn id(bus: &Arc<dyn Bus>, delivery: &Delivery) -> String {
    event(bus, delivery).id.expect("an event of ours has an id").to_string()
}

/// The next deliveries, through whatever can be tried again.
pub(super) async fn next(consumer: &mut Box<dyn Consumer>) -> Vec<Delivery> {
    loop {
        match consumer.next(PAGE).await {
            Ok(deliveries) => return deliveries,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        pause().await;
    }
}

/// Takes and acknowledges until all of these ids have come; answers with them in the order in which they came.
pub(super) async fn take(
    bus: &Arc<dyn Bus>,
    consumer: &mut Box<dyn Consumer>,
    wanted: &[String],
) -> Vec<String> {
    let mut missing: BTreeSet<&String> = wanted.iter().collect();
    let mut came = Vec::new();
    while !missing.is_empty() {
        let deliveries = next(consumer).await;
        for delivery in &deliveries {
            let id = id(bus, delivery);
            assert!(wanted.contains(&id), "`{id}` was never published here");
            missing.remove(&id);
            came.push(id);
        }
        // One that is not settled comes again, which those who call this allow for.
        drop(consumer.settle(deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect()).await);
    }
    came
}

/// `prefix-0`, `prefix-1`, …
pub(super) fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}
