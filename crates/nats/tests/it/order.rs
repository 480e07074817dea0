//! The order that `in_flight_max(1)` buys.

use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Declare, Settled, Topology};
use ensue_core::name::{Channel, SubscriptionName};

use crate::given;

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn with_one_in_flight_what_is_handed_back_comes_before_what_is_behind_it() {
    let server = given::server().await;
    let bus = server.config(given::TOKEN).in_flight_max(1).open().await.expect("the server runs");
    assert!(bus.capabilities().can_order_by_key);
    let group = SubscriptionName::new("billing").expect("a valid name");
    let from = Channel::new("shop.orders").expect("a valid channel");
    let consume = Consume { group, from, fed_by: None };
    let topology = Topology { targets: Vec::new(), sources: vec![consume.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    let foreign = server.foreign().await;
    for body in ["first", "second"] {
        let sent = foreign.publish("shop.orders", body.into()).await.expect("the server runs");
        sent.await.expect("the stream keeps it");
    }
    let mut consumer = bus.consume(consume).await.expect("the group can be joined");
    let mut came = Vec::new();
    while came.len() < 3 {
        for delivery in consumer.next(10).await.expect("the server runs") {
            came.push((String::from_utf8_lossy(&delivery.message.body).into_owned(), delivery.attempt));
            let settled = if came.len() == 1 {
                Settled::Nack(delivery.token, Duration::from_millis(300))
            } else {
                Settled::Ack(delivery.token)
            };
            consumer.settle(vec![settled]).await.remove(0).expect("it can be settled");
        }
    }
    let wanted = [("first", 1), ("first", 2), ("second", 1)];
    assert_eq!(came, wanted.map(|(body, attempt)| (body.to_owned(), attempt)));
}
