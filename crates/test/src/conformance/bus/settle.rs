//! What becomes of a delivery.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consumer, Declare, Delivery, Settled, Topology};
use ensue_core::name::Channel;
use ensue_core::{Code, Kind};
use tokio::time::Instant;

use super::Broker;
use super::words::{channel, declare, event, group, id, ids, join, message, next, open, publish, take};

pub(super) async fn what_is_handed_back_comes_again(broker: Arc<dyn Broker>) {
    const DELAY: Duration = Duration::from_millis(700);
    let (bus, orders) = (open(&broker).await, channel("nack"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "again")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let first = next(&mut consumer).await.pop().expect("one at least");
    assert_eq!(first.attempt, 1);
    let before = Instant::now();
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

pub(super) async fn what_is_refused_for_good_is_in_the_dead_letters(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("dead"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let source = broker.source(group("one"), &orders);
    let dead = broker.dead_letters(&source).expect("it declares dead letters, so it says where they are");
    let topology = Topology { targets: Vec::new(), sources: vec![dead.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the dead letters can be consumed");
    let bad = message(&orders, "A", "bad");
    publish(&bus, vec![bad.clone()]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let came = next(&mut consumer).await.pop().expect("one at least");
    let settled = consumer.settle(vec![Settled::Reject(came.token, "no event".to_owned())]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    let mut letters = bus.consume(dead).await.expect("the dead letters can be consumed");
    let letter = next(&mut letters).await.pop().expect("one at least");
    assert_eq!((id(&bus, &letter), event(&bus, &letter).data), ("bad".to_owned(), bad.envelope.data));
    let settled = letters.settle(vec![Settled::Ack(letter.token)]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

/// What is to be seen where a broker has none.
pub(super) async fn there_are_no_dead_letters(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("dead"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let source = broker.source(group("one"), &orders);
    assert_eq!(broker.dead_letters(&source), None, "it has dead letters, so it should declare it");
}

/// Two members on connections of their own: one has a message in hand, the other one has none.
struct Held {
    slow: Box<dyn Consumer>,
    in_hand: Delivery,
    other: Box<dyn Consumer>,
    bus: Arc<dyn Bus>,
    orders: Channel,
}

impl Held {
    async fn new(broker: &Arc<dyn Broker>, name: &str) -> Self {
        let (bus, orders) = (open(broker).await, channel(name));
        declare(broker, &bus, &[&orders], &["one"]).await;
        let mut one = join(broker, &bus, &orders, "one").await;
        let mut two = join(broker, &open(broker).await, &orders, "one").await;
        publish(&bus, vec![message(&orders, "A", "slow")]).await;
        let (mut came, is_first) = tokio::select! {
            came = next(&mut one) => (came, true),
            came = next(&mut two) => (came, false),
        };
        let in_hand = came.pop().expect("one at least");
        let (slow, other) = if is_first { (one, two) } else { (two, one) };
        Self { slow, in_hand, other, bus, orders }
    }
}

pub(super) async fn what_is_not_settled_in_time_comes_again(broker: Arc<dyn Broker>) {
    let mut held = Held::new(&broker, "slow").await;
    let limit = held.bus.capabilities().redelivers_after.expect("the case needs a limit");
    let before = Instant::now();
    let again = next(&mut held.other).await.pop().expect("one at least");
    assert_eq!(id(&held.bus, &again), "slow");
    // The time began when the broker sent it to the slow one, which was before we looked at the clock.
    let earliest = limit / 2;
    assert!(before.elapsed() >= earliest, "it came after {:?}, with a limit of {limit:?}", before.elapsed());
    let settled = held.other.settle(vec![Settled::Ack(again.token)]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

/// What is to be seen where a delivery stays with its member: what comes later passes it by.
pub(super) async fn what_is_in_hand_stays_there(broker: Arc<dyn Broker>) {
    let mut held = Held::new(&broker, "slow").await;
    let wanted = ids("later", 20);
    publish(&held.bus, wanted.iter().map(|id| message(&held.orders, "A", id)).collect()).await;
    let settled = held.slow.settle(vec![Settled::Ack(held.in_hand.token)]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    drop(held.slow);
    take(&held.bus, &mut held.other, &wanted).await; // fails at one that was in hand
}

pub(super) async fn settling_too_late_is_refused(broker: Arc<dyn Broker>) {
    let mut held = Held::new(&broker, "too-late").await;
    let again = next(&mut held.other).await.pop().expect("one at least");
    assert_eq!(id(&held.bus, &again), "slow");
    let late = held.slow.settle(vec![Settled::Ack(held.in_hand.token)]).await.pop();
    let error = late.expect("an answer for each").expect_err("it was delivered again in the meantime");
    assert_eq!(error.code(), Code::BUS_TOO_LATE, "{error:?}");
    let settled = held.other.settle(vec![Settled::Ack(again.token)]).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

/// What is to be seen where nobody notices: settling twice what was delivered twice is no harm to what comes later.
pub(super) async fn settling_late_harms_nobody(broker: Arc<dyn Broker>) {
    let mut held = Held::new(&broker, "too-late").await;
    if held.bus.capabilities().redelivers_after.is_some() {
        let again = next(&mut held.other).await.pop().expect("one at least");
        assert_eq!(id(&held.bus, &again), "slow");
        drop(held.other.settle(vec![Settled::Ack(again.token)]).await);
    }
    drop(held.slow.settle(vec![Settled::Ack(held.in_hand.token)]).await);
    drop(held.slow);
    publish(&held.bus, vec![message(&held.orders, "A", "later")]).await;
    take(&held.bus, &mut held.other, &["later".to_owned()]).await; // fails at a third delivery
}
