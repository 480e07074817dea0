//! What becomes of the order of a key.

use std::time::Duration;

use ensue_core::bus::{Mode, Settled};

use crate::given::{self, declare, id, join, message, next, publish};

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn what_was_handed_back_comes_before_what_is_behind_it_and_other_keys_pass() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    let batch = [("A", "A-0"), ("A", "A-1"), ("B", "B-0")].map(|(key, id)| message(key, id, Mode::Binary));
    publish(&bus, batch.to_vec()).await;
    let mut consumer = join(&bus, "billing").await;
    let mut came = Vec::new();
    while came.len() < 4 {
        // One after the other, so that there is something behind.
        let Ok(deliveries) = consumer.next(1).await else { continue };
        for delivery in deliveries {
            came.push((id(&delivery), delivery.attempt));
            let settled = if came.last() == Some(&("A-0".to_owned(), 1)) {
                Settled::Nack(delivery.token, Duration::from_millis(700))
            } else {
                Settled::Ack(delivery.token)
            };
            consumer.settle(vec![settled]).await.remove(0).expect("it can be settled");
        }
    }
    let of = |key: &str| came.iter().filter(|(id, _)| id.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of("A"), [("A-0".to_owned(), 1), ("A-0".to_owned(), 2), ("A-1".to_owned(), 1)]);
    let place = |wanted: (&str, u32)| came.iter().position(|(id, attempt)| (id.as_str(), *attempt) == wanted);
    assert!(place(("B-0", 1)) < place(("A-0", 2)), "another key does not wait: {came:?}");
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_member_that_follows_goes_on_below_what_was_not_settled() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    let ids = ["A-0", "A-1", "A-2", "A-3"];
    publish(&bus, ids.iter().map(|id| message("A", id, Mode::Binary)).collect()).await;
    let mut first = join(&bus, "billing").await;
    let mut deliveries = Vec::new();
    while deliveries.len() < ids.len() {
        deliveries.extend(next(&mut first).await);
    }
    // All but the second: what is above it is settled here, and yet not below what the broker knows.
    let acks = deliveries.iter().filter(|delivery| id(delivery) != "A-1");
    for settled in first.settle(acks.map(|delivery| Settled::Ack(delivery.token)).collect()).await {
        settled.expect("it can be settled");
    }
    drop(first);
    let mut second = join(&bus, "billing").await;
    let mut came = Vec::new();
    while came.len() < 3 {
        came.extend(next(&mut second).await.iter().map(id));
    }
    assert_eq!(came, ["A-1", "A-2", "A-3"], "the first is done with, the rest is delivered again");
}
