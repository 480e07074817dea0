//! The order that `in_flight_max(1)` buys.

use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Declare, Settled, Topology};
use ensue_core::name::{Channel, SubscriptionName};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};

use crate::given;

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn with_one_in_flight_what_is_handed_back_comes_before_what_is_behind_it() {
    let server = given::here().await;
    let bus = server.config().in_flight_max(1).open().await.expect("the address is understood");
    assert!(bus.capabilities().can_order_by_key);
    let group = SubscriptionName::new("billing").expect("a valid name");
    let from = Channel::new("orders").expect("a valid channel");
    let consume = Consume { group, from, fed_by: None };
    let topology = Topology { targets: Vec::new(), sources: vec![consume.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    let foreign = server.foreign().await;
    let channel = foreign.create_channel().await.expect("the broker runs");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker confirms");
    for body in ["first", "second", "third"] {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent =
            channel.basic_publish("".into(), "orders".into(), options, body.as_bytes(), properties).await;
        assert!(sent.expect("it is sent").await.expect("it is confirmed").is_ack());
    }
    let mut consumer = bus.consume(consume.clone()).await.expect("the group can be joined");
    let mut standby = bus.consume(consume).await.expect("a second member may join");
    let mut came = Vec::new();
    while came.len() < 5 {
        // Both are asked; while the first is there the second gets nothing.
        let deliveries = tokio::select! {
            deliveries = consumer.next(10) => deliveries.expect("the broker runs"),
            _ = standby.next(10) => panic!("two members are active at once"),
        };
        for delivery in deliveries {
            came.push((String::from_utf8_lossy(&delivery.message.body).into_owned(), delivery.attempt));
            let settled = match came.len() {
                1 => Settled::Nack(delivery.token, Duration::from_millis(300)),
                2 => Settled::Nack(delivery.token, Duration::ZERO),
                _ => Settled::Ack(delivery.token),
            };
            consumer.settle(vec![settled]).await.remove(0).expect("it can be settled");
        }
    }
    let wanted = [("first", 1), ("first", 2), ("first", 3), ("second", 1), ("third", 1)];
    assert_eq!(came, wanted.map(|(body, attempt)| (body.to_owned(), attempt)));
}
