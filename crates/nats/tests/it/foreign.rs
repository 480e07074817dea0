//! What somebody else does with the same server.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use ensue_core::Code;
use ensue_core::bus::{Bus, Consume, Declare, Topology};
use ensue_core::name::{Channel, SubscriptionName};
use ensue_test::conformance::bus::Broker;

use crate::given;

fn orders() -> Channel {
    Channel::new("shop.orders").expect("a valid channel")
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_stream_that_cannot_keep_the_promises_is_refused_and_left_alone() {
    let server = given::server().await;
    let (foreign, bus) = (server.foreign().await, server.open().await.expect("the server runs"));
    let keeping = |subject: &str| Config {
        name: subject.to_uppercase(),
        subjects: vec![format!("{subject}.>")],
        ..Config::default()
    };
    let below = |subject: &str| Topology {
        targets: vec![Channel::new(format!("{subject}.orders")).expect("a valid name")],
        sources: Vec::new(),
    };
    // None is deleted: a server that still removes files may refuse to make others.
    let bad = [
        ("unconfirmed", Config { no_ack: true, ..keeping("unconfirmed") }),
        ("forgetful", Config { storage: StorageType::Memory, ..keeping("forgetful") }),
        ("queue", Config { retention: RetentionPolicy::WorkQueue, ..keeping("queue") }),
    ];
    for (subject, config) in bad {
        foreign.create_stream(config.clone()).await.expect("the server takes it");
        let error = bus.declare(&below(subject), Declare::Make).await.expect_err("it is otherwise");
        assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
        let left = foreign.get_stream(&config.name).await.expect("it is there");
        let left = &left.cached_info().config;
        assert_eq!(
            (left.no_ack, left.storage, left.retention),
            (config.no_ack, config.storage, config.retention)
        );
    }
    foreign.create_stream(keeping("shop")).await.expect("the server takes it");
    let declared = bus.declare(&below("shop"), Declare::Make).await.expect("this one will do");
    assert_eq!(declared.found, ["stream `SHOP` for `shop.orders`"]);
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_stream_is_made_with_the_retention_that_was_asked_for_and_one_of_another_is_refused() {
    let server = given::server().await;
    let foreign = server.foreign().await;
    let keeping = |hours| server.config(given::TOKEN).retention(Duration::from_hours(hours)).open();
    let topology = Topology { targets: vec![orders()], sources: Vec::new() };
    let bus = keeping(1).await.expect("the server runs");
    for _ in 0..2 {
        bus.declare(&topology, Declare::Make).await.expect("it is made, and then found");
    }
    let other = keeping(2).await.expect("the server runs");
    let error = other.declare(&topology, Declare::Make).await.expect_err("it is otherwise");
    assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
    let left = foreign.get_stream("shop_orders").await.expect("it is there");
    assert_eq!(left.cached_info().config.max_age, Duration::from_hours(1));
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_consumer_that_was_deleted_is_made_anew_and_reads_foreign_bytes() {
    let server = given::server().await;
    let (foreign, bus) = (server.foreign().await, server.open().await.expect("the server runs"));
    let group = SubscriptionName::new("billing").expect("a valid name");
    let consume = Consume { group, from: orders(), fed_by: None };
    let topology = Topology { targets: Vec::new(), sources: vec![consume.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    let mut consumer = bus.consume(consume).await.expect("the group can be joined");
    let deleted = foreign.delete_consumer_from_stream("billing--shop_orders", "shop_orders").await;
    assert!(deleted.expect("it was there").success, "the consumer was deleted");
    let bytes: &[u8] = b"\x00 no event";
    let sent = foreign.publish("shop.orders", bytes.into()).await.expect("the server runs");
    sent.await.expect("the stream keeps it");
    let deliveries = loop {
        match consumer.next(10).await {
            Ok(deliveries) => break deliveries,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    };
    let bodies: Vec<&[u8]> = deliveries.iter().map(|delivery| &delivery.message.body[..]).collect();
    assert_eq!(bodies, [bytes]);
    assert_eq!(deliveries.iter().map(|delivery| &delivery.key).collect::<Vec<_>>(), [&None]);
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_consumer_of_other_settings_is_refused_and_left_alone() {
    let server = given::server().await;
    let bus = server.open().await.expect("the server runs");
    let group = SubscriptionName::new("billing").expect("a valid name");
    let consume = Consume { group, from: orders(), fed_by: None };
    let topology = Topology { targets: Vec::new(), sources: vec![consume.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    let other = server.config(given::TOKEN).in_flight_max(7).open().await.expect("the server runs");
    let declared = other.declare(&topology, Declare::Make).await.map(|_| ());
    let joined = other.consume(consume.clone()).await.map(|_| ());
    for error in [declared.expect_err("it is otherwise"), joined.expect_err("it is otherwise")] {
        assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("1024 messages") && text.contains("for 7"), "it names both: {text}");
    }
    bus.consume(consume).await.expect("it is as it was");
}
