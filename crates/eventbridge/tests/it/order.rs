//! What an ordered queue buys, although the event bus before it promises nothing.

use std::time::Duration;

use ensue_core::bus::{Bus, Declare, Settled, Topology};
use ensue_core::name::Channel;

use crate::given;

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn an_ordered_queue_hands_out_one_message_and_what_comes_back_is_the_next() {
    let server = given::server().await;
    let bus = server.config().open().await.expect("the address is understood");
    let source = given::source("orders.fifo", "shop", None);
    let shop = Channel::new("shop").expect("a valid name");
    let topology = Topology { targets: vec![shop], sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    for id in ["first", "second", "third"] {
        let event = given::event("shop", "ORD-1", id, "{\"total\":7}");
        bus.publish(vec![event]).await.remove(0).expect("it is confirmed");
    }
    let mut members = [
        bus.consume(source.clone()).await.expect("the group can be joined"),
        bus.consume(source.clone()).await.expect("the group can be joined"),
    ];
    let mut came = Vec::new();
    while came.len() < 4 {
        let [one, two] = &mut members;
        let (deliveries, member) = tokio::select! {
            deliveries = one.next(10) => (deliveries, one),
            deliveries = two.next(10) => (deliveries, two),
        };
        let deliveries = deliveries.expect("the fake runs");
        assert_eq!(deliveries.len(), 1, "one is in hand at a time");
        for delivery in deliveries {
            came.push((given::id(&delivery), delivery.attempt));
            let settled = match came.len() {
                1 => Settled::Nack(delivery.token, Duration::from_secs(1)),
                _ => Settled::Ack(delivery.token),
            };
            member.settle(vec![settled]).await.remove(0).expect("it can be settled");
        }
    }
    let wanted = [("first", 1), ("first", 2), ("second", 1), ("third", 1)];
    assert_eq!(came, wanted.map(|(id, attempt)| (id.to_owned(), attempt)));
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn what_is_refused_in_an_ordered_queue_lets_the_next_one_through() {
    let server = given::server().await;
    let bus = server.config().open().await.expect("the address is understood");
    let source = given::source("orders.fifo", "shop", None);
    let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    for id in ["bad", "good"] {
        let event = given::event("shop", "ORD-1", id, "{\"total\":7}");
        bus.publish(vec![event]).await.remove(0).expect("it is confirmed");
    }
    let mut consumer = bus.consume(source).await.expect("the group can be joined");
    let bad = consumer.next(1).await.expect("the fake runs").remove(0);
    assert_eq!(given::id(&bad), "bad");
    let refused = Settled::Reject(bad.token, "no\nevent".to_owned());
    consumer.settle(vec![refused]).await.remove(0).expect("it can be refused");
    let good = consumer.next(1).await.expect("the fake runs").remove(0);
    assert_eq!(given::id(&good), "good");
    let dead = given::dead_letters_of("orders.fifo");
    let mut consumer = bus.consume(dead).await.expect("the dead letters can be read");
    let letter = consumer.next(1).await.expect("the fake runs").remove(0);
    assert_eq!(given::id(&letter), "bad");
    let (_, reason) =
        letter.message.headers.iter().find(|(name, _)| name == "ensue-reason").expect("it says why");
    assert_eq!(reason, "no event");
}
