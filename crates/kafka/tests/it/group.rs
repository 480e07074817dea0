//! Where a group stands, and how it is moved.

use std::collections::BTreeSet;

use ensue_core::bus::{Bus, Consumer, Mode, Seek, Settled};
use ensue_core::{Code, Timestamp};
use std::sync::Arc;

use crate::given::{self, declare, id, join, message, next, publish};

/// Takes and acknowledges until so many have come.
async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> BTreeSet<String> {
    let mut came = BTreeSet::new();
    while came.len() < count {
        let deliveries = next(consumer).await;
        came.extend(deliveries.iter().map(id));
        let acks = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
        for settled in consumer.settle(acks).await {
            settled.expect("it can be settled");
        }
    }
    came
}

async fn publish_each(bus: &Arc<dyn Bus>, ids: &[&str]) {
    publish(bus, ids.iter().map(|id| message(id, id, Mode::Binary)).collect()).await;
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_group_goes_on_from_the_beginning_the_end_and_a_time() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    publish_each(&bus, &["a", "b", "c"]).await;
    let mut consumer = join(&bus, "billing").await;
    assert_eq!(take(&mut consumer, 3).await, set(&["a", "b", "c"]));
    let between = Timestamp::now();
    publish_each(&bus, &["d", "e"]).await;

    consumer.seek(Seek::Begin).await.expect("it holds all partitions");
    assert_eq!(take(&mut consumer, 5).await, set(&["a", "b", "c", "d", "e"]));
    consumer.seek(Seek::At(between)).await.expect("it holds all partitions");
    assert_eq!(take(&mut consumer, 2).await, set(&["d", "e"]));
    consumer.seek(Seek::Begin).await.expect("it holds all partitions");
    consumer.seek(Seek::End).await.expect("it holds all partitions");
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some(0));
    drop(consumer);
    publish_each(&bus, &["f"]).await;
    let mut other = join(&bus, "billing").await;
    assert_eq!(take(&mut other, 1).await, set(&["f"]), "the place is the group's, not the member's");
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn what_was_in_hand_before_a_seek_can_no_longer_be_settled() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    publish_each(&bus, &["a"]).await;
    let mut consumer = join(&bus, "billing").await;
    let in_hand = next(&mut consumer).await.pop().expect("one at least");
    consumer.seek(Seek::Begin).await.expect("it holds all partitions");
    let settled = consumer.settle(vec![Settled::Ack(in_hand.token)]).await.remove(0);
    assert_eq!(settled.expect_err("it was of the old place").code(), Code::BUS_TOO_LATE);
    assert_eq!(take(&mut consumer, 1).await, set(&["a"]));
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn one_of_several_members_cannot_move_their_group() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    let (mut one, mut other) = (join(&bus, "billing").await, join(&bus, "billing").await);
    let mut came = BTreeSet::new();
    let mut number = 0;
    // Until each of them has something: then both hold partitions.
    while came.len() < 2 {
        number += 1;
        publish_each(&bus, &[&format!("a{number}"), &format!("b{number}"), &format!("c{number}")]).await;
        tokio::select! {
            _ = next(&mut one) => came.insert(1),
            _ = next(&mut other) => came.insert(2),
        };
    }
    let holding = tokio::spawn(async move { while other.next(1).await.is_ok() {} });
    let error = one.seek(Seek::Begin).await.expect_err("it does not hold all partitions");
    assert_eq!(error.code(), Code::UNSUPPORTED, "{error:?}");
    assert!(error.message().contains("2 members"), "{error:?}");
    holding.abort();
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn lag_is_what_the_group_has_not_settled() {
    let broker = given::shared();
    let bus = broker.bus().await;
    declare(&bus).await;
    publish_each(&bus, &["a", "b", "c"]).await;
    let mut consumer = join(&bus, "billing").await;
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some(3));
    take(&mut consumer, 3).await;
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some(0));
    publish_each(&bus, &["d"]).await;
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some(1));
}
