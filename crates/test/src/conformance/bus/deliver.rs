//! Who gets what, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consumer, Seek, Settled};
use ensue_core::{Code, Timestamp};
use tokio::time::timeout;

use super::Broker;
use super::words::{PAGE, channel, declare, id, ids, join, message, next, open, pause, publish, take};

pub(super) async fn each_group_gets_everything(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("groups"));
    declare(&broker, &bus, &[&orders], &["one", "two"]).await;
    let wanted = ids("event", 30);
    publish(&bus, wanted.iter().map(|id| message(&orders, "A", id)).collect()).await;
    for name in ["one", "two"] {
        let mut consumer = join(&broker, &bus, &orders, name).await;
        let mut missing: BTreeSet<&String> = wanted.iter().collect();
        while !missing.is_empty() {
            let deliveries = next(&mut consumer).await;
            for delivery in &deliveries {
                let id = id(&bus, delivery);
                // A broker may deliver a message again if it says so.
                assert!(missing.remove(&id) || delivery.attempt > 1, "`{id}` reached the group {name} twice");
            }
            let settled = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
            consumer.settle(settled).await;
        }
    }
}

pub(super) async fn members_of_a_group_share(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("members"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let wanted = ids("event", 200);
    publish(&bus, wanted.iter().map(|id| message(&orders, id, id)).collect()).await;
    let (sender, mut came) = tokio::sync::mpsc::channel(wanted.len());
    let mut members = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (bus, sender) = (open(&broker).await, sender.clone());
        let mut consumer = join(&broker, &bus, &orders, "one").await;
        members.spawn(async move {
            loop {
                let deliveries = next(&mut consumer).await;
                let settled = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
                for (delivery, settled) in deliveries.iter().zip(consumer.settle(settled).await) {
                    settled.expect("it can be settled");
                    sender.send((id(&bus, delivery), delivery.attempt)).await.expect("the case goes on");
                }
            }
        });
    }
    let (mut missing, mut shared): (BTreeSet<String>, _) = (wanted.into_iter().collect(), BTreeSet::new());
    while !missing.is_empty() {
        let (id, attempt) = came.recv().await.expect("the members go on");
        missing.remove(&id);
        // Any broker may deliver a message again, and then says so if it counts.
        assert!(attempt > 1 || shared.insert(id.clone()), "`{id}` reached two members");
    }
}

pub(super) async fn channels_are_apart(broker: Arc<dyn Broker>) {
    let bus = open(&broker).await;
    let channels: Vec<_> = (0..10).map(|number| channel(&format!("apart{number}"))).collect();
    declare(&broker, &bus, &channels.iter().collect::<Vec<_>>(), &["one"]).await;
    for (number, channel) in channels.iter().enumerate() {
        let batch = ids(&format!("c{number}"), 5).iter().map(|id| message(channel, "A", id)).collect();
        publish(&bus, batch).await;
    }
    for (number, channel) in channels.iter().enumerate() {
        let mut consumer = join(&broker, &bus, channel, "one").await;
        take(&bus, &mut consumer, &ids(&format!("c{number}"), 5)).await; // fails at one of another channel
    }
}

/// Waits are given up sooner and later, so that they are in the midst of whatever a consumer does. An intake does so with every batch.
pub(super) async fn a_wait_that_is_given_up_loses_nothing(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("given-up"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    publish(&bus, vec![message(&orders, "A", "first")]).await;
    take(&bus, &mut consumer, &["first".to_owned()]).await;
    for patience in 0..20 {
        let early = timeout(Duration::from_millis(1), consumer.next(PAGE)).await;
        assert!(early.is_err(), "nothing waits, so this wait was given up: {early:?}");
        let mut missing: BTreeSet<String> = ids(&format!("p{patience}"), 30).into_iter().collect();
        publish(&bus, missing.iter().map(|id| message(&orders, id, id)).collect()).await;
        while !missing.is_empty() {
            let deliveries = match timeout(Duration::from_millis(patience), consumer.next(PAGE)).await {
                Ok(deliveries) => deliveries.expect("the broker runs"),
                Err(_given_up) => next(&mut consumer).await,
            };
            for delivery in &deliveries {
                let id = id(&bus, delivery);
                assert!(missing.remove(&id), "`{id}` came twice");
                assert_eq!(delivery.attempt, 1, "`{id}` was lost on the way at first");
            }
            let settled = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
            for answer in consumer.settle(settled).await {
                answer.expect("it is in hand");
            }
        }
    }
}

pub(super) async fn a_late_group_gets_the_history(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("late"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let wanted = ids("event", 20);
    publish(&bus, wanted.iter().map(|id| message(&orders, "A", id)).collect()).await;
    let mut early = join(&broker, &bus, &orders, "one").await;
    take(&bus, &mut early, &wanted).await;
    declare(&broker, &bus, &[&orders], &["late"]).await;
    let mut late = join(&broker, &bus, &orders, "late").await;
    assert_eq!(take(&bus, &mut late, &wanted).await, wanted);
}

/// What is to be seen where a broker keeps no history.
pub(super) async fn a_late_group_gets_what_comes_later(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("late"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "before")]).await;
    declare(&broker, &bus, &[&orders], &["late"]).await;
    publish(&bus, vec![message(&orders, "A", "after")]).await;
    let mut late = join(&broker, &bus, &orders, "late").await;
    assert_eq!(take(&bus, &mut late, &["after".to_owned()]).await, ["after"]);
}

const KEYS_OF_ONE: [&str; 3] = ["A", "B", "C"];
const EACH_OF_ONE: usize = 50;

/// What one member gets of a few keys, and whether it got each message once.
async fn all_of_one(broker: &Arc<dyn Broker>) -> (Vec<String>, bool) {
    let (bus, orders) = (open(broker).await, channel("order"));
    declare(broker, &bus, &[&orders], &["one"]).await;
    let of_number = |number| KEYS_OF_ONE.map(|key| message(&orders, key, &format!("{key}-{number}")));
    let batch: Vec<_> = (0..EACH_OF_ONE).flat_map(of_number).collect();
    let wanted: Vec<String> = batch.iter().map(|message| message.envelope.id.to_string()).collect();
    publish(&bus, batch).await;
    let mut consumer = join(broker, &bus, &orders, "one").await;
    let came = take(&bus, &mut consumer, &wanted).await;
    let is_once = came.len() == wanted.len();
    (came, is_once)
}

pub(super) async fn one_member_sees_each_key_in_order(broker: Arc<dyn Broker>) {
    let can_order = open(&broker).await.capabilities().can_order_by_key;
    let (came, is_once) = all_of_one(&broker).await;
    if can_order || is_once {
        for key in KEYS_OF_ONE {
            let of_key: Vec<_> = came.iter().filter(|id| id.starts_with(key)).cloned().collect();
            assert_eq!(of_key, ids(key, EACH_OF_ONE));
        }
    }
}

/// What is to be seen where a broker keeps no order at all: everything comes.
pub(super) async fn one_member_sees_everything(broker: Arc<dyn Broker>) {
    all_of_one(&broker).await;
}

/// Members of one group that come and go while messages of a few keys are handled; asserts that each comes.
async fn come_and_go(broker: &Arc<dyn Broker>, mut see: impl FnMut(&str, usize)) {
    const KEYS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
    const EACH: usize = 25;
    let (bus, orders) = (open(broker).await, channel("members-change"));
    declare(broker, &bus, &[&orders], &["one"]).await;
    let all = (0..EACH).flat_map(|number| KEYS.map(|key| message(&orders, key, &format!("{key}-{number}"))));
    publish(&bus, all.collect()).await;
    let mut missing: BTreeSet<String> = KEYS.iter().flat_map(|key| ids(key, EACH)).collect();
    let mut stays = join(broker, &bus, &orders, "one").await;
    while !missing.is_empty() {
        // One that handles a page and leaves with half of it not settled.
        let mut goes = join(broker, &open(broker).await, &orders, "one").await;
        let (deliveries, is_leaving) = tokio::select! {
            came = next(&mut stays) => (came, false),
            came = next(&mut goes) => (came, true),
        };
        let handled = if is_leaving { deliveries.len().div_ceil(2) } else { deliveries.len() };
        for delivery in deliveries.iter().take(handled) {
            let id = id(&bus, delivery);
            let (key, number) = id.split_once('-').expect("a key and a number");
            see(key, number.parse().expect("a number"));
            missing.remove(&id);
        }
        let settled = deliveries.iter().take(handled).map(|delivery| Settled::Ack(delivery.token)).collect();
        let member = if is_leaving { &mut goes } else { &mut stays };
        drop(member.settle(settled).await); // one that is not settled comes again
    }
}

pub(super) async fn a_key_keeps_its_order_while_members_come_and_go(broker: Arc<dyn Broker>) {
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    come_and_go(&broker, |key, number| {
        let expected = expected.entry(key.to_owned()).or_default();
        assert!(number <= *expected, "{key}-{number} came although {key}-{expected} had not been handled");
        *expected = number + 1; // what was handled may come again, then in order
    })
    .await;
}

/// What is to be seen where keys have no order: all of it comes all the same.
pub(super) async fn everything_comes_while_members_come_and_go(broker: Arc<dyn Broker>) {
    come_and_go(&broker, |_, _| {}).await;
}

pub(super) async fn a_group_goes_on_from_elsewhere(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("seek"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let (early, late) = (ids("early", 10), ids("late", 10));
    publish(&bus, early.iter().map(|id| message(&orders, "A", id)).collect()).await;
    // The broker's clock decides, so a time is taken from what it has written. It may count in milliseconds.
    pause().await;
    publish(&bus, late.iter().map(|id| message(&orders, "A", id)).collect()).await;
    let all: Vec<String> = early.iter().chain(&late).cloned().collect();
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let (came, first_late_at) = take_timed(&bus, &mut consumer, &all, "late-0").await;
    assert_eq!(came, all);
    consumer.seek(Seek::Begin).await.expect("it can go back");
    assert_eq!(take(&bus, &mut consumer, &all).await, all);
    consumer.seek(Seek::At(first_late_at)).await.expect("it can go to a time");
    assert_eq!(take(&bus, &mut consumer, &late).await, late);
    consumer.seek(Seek::Begin).await.expect("it can go back");
    consumer.seek(Seek::End).await.expect("it can go to the end");
    publish(&bus, vec![message(&orders, "A", "new")]).await;
    assert_eq!(take(&bus, &mut consumer, &["new".to_owned()]).await, ["new"]);
}

/// What is to be seen where a broker keeps no history, or cannot move a group in it.
pub(super) async fn seeking_is_refused(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("seek"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let error = consumer.seek(Seek::Begin).await.expect_err("it cannot");
    assert_eq!(error.code(), Code::UNSUPPORTED, "{error:?}");
}

pub(super) async fn what_waits_is_counted(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("lag"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let wanted = ids("event", 7);
    publish(&bus, wanted.iter().map(|id| message(&orders, "A", id)).collect()).await;
    await_lag(&mut consumer, 7).await;
    take(&bus, &mut consumer, &wanted).await;
    await_lag(&mut consumer, 0).await;
}

/// Brokers count with some delay; one that never comes to this number fails the case by its time limit.
async fn await_lag(consumer: &mut Box<dyn Consumer>, wanted: u64) {
    while consumer.lag().await.expect("the broker runs").expect("it declares that it counts") != wanted {
        pause().await;
    }
}

/// What is to be seen where a broker does not count.
pub(super) async fn what_waits_is_unknown(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("lag"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    assert_eq!(consumer.lag().await.expect("the broker runs"), None, "it counts, so it should declare it");
}

/// Takes all of these; answers with them in order, and with the broker's time of one of them.
async fn take_timed(
    bus: &Arc<dyn Bus>,
    consumer: &mut Box<dyn Consumer>,
    wanted: &[String],
    timed: &str,
) -> (Vec<String>, Timestamp) {
    let (mut came, mut at) = (Vec::new(), None);
    while came.len() < wanted.len() {
        let deliveries = next(consumer).await;
        for delivery in &deliveries {
            let id = id(bus, delivery);
            at = at.or(delivery.published_at.filter(|_| id == timed));
            came.push(id);
        }
        let settled = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
        assert!(consumer.settle(settled).await.iter().all(Result::is_ok));
    }
    (came, at.expect("a broker that can go to a time says the time of each message"))
}
