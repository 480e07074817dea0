//! What becomes of a delivery.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::Settled;
use ensue_core::{Code, Kind};

use super::Broker;
use super::words::{channel, declare, id, join, message, next, open, publish, take};

pub(super) async fn what_is_handed_back_comes_again(broker: Arc<dyn Broker>) {
    const DELAY: Duration = Duration::from_millis(700);
    let (bus, orders) = (open(&broker).await, channel("nack"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "again")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let first = next(&mut consumer).await.pop().expect("one at least");
    assert_eq!(first.attempt, 1);
    let before = tokio::time::Instant::now();
    let settled = consumer.settle(vec![Settled::Nack(first.token, DELAY)]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    let again = next(&mut consumer).await.pop().expect("one at least");
    assert_eq!(id(&bus, &again), "again");
    if bus.capabilities().can_delay {
        assert!(before.elapsed() >= DELAY, "it came after {:?}", before.elapsed());
    }
    if bus.capabilities().can_count_attempts {
        assert_eq!(again.attempt, 2);
    }
}

pub(super) async fn what_is_refused_for_good_does_not_come_again(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("reject"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "bad")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let bad = next(&mut consumer).await.pop().expect("one at least");
    let settled = consumer.settle(vec![Settled::Reject(bad.token, "no event".to_owned())]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    drop(consumer);
    publish(&bus, vec![message(&orders, "A", "good")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    assert_eq!(take(&bus, &mut consumer, &["good".to_owned()]).await, ["good"]);
}

/// What is to be seen where a broker has no place for them.
pub(super) async fn rejection_is_refused(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("reject"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "bad")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let bad = next(&mut consumer).await.pop().expect("one at least");
    let settled = consumer.settle(vec![Settled::Reject(bad.token, "no event".to_owned())]).await.pop();
    let error = settled.expect("an answer for each").expect_err("it cannot");
    assert_eq!(error.code(), Code::UNSUPPORTED);
}

pub(super) async fn what_a_lost_member_had_in_hand_comes_again(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("lost"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "in-hand")]).await;
    let mut lost = join(&broker, &bus, &orders, "one").await;
    let in_hand = next(&mut lost).await.pop().expect("one at least");
    assert_eq!(id(&bus, &in_hand), "in-hand");
    drop(lost);
    let mut other = join(&broker, &bus, &orders, "one").await;
    assert_eq!(take(&bus, &mut other, &["in-hand".to_owned()]).await, ["in-hand"]);
}

pub(super) async fn a_delivery_is_settled_once(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("once"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "once")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let delivery = next(&mut consumer).await.pop().expect("one at least");
    let answers = consumer.settle(vec![Settled::Ack(delivery.token), Settled::Ack(delivery.token)]).await;
    let kinds: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().err().map(ensue_core::Error::kind)).collect();
    assert_eq!(kinds, [None, Some(Kind::Conflict)]);
}
