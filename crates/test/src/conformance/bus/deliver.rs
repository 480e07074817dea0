//! Who gets what, and in which order.

use std::sync::Arc;

use ensue_core::bus::Settled;

use super::Broker;
use super::words::{channel, declare, id, ids, join, message, next, open, publish, take};

pub(super) async fn each_group_gets_everything(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("groups"));
    declare(&broker, &bus, &[&orders], &["one", "two"]).await;
    let wanted = ids("event", 30);
    publish(&bus, wanted.iter().map(|id| message(&orders, "A", id)).collect()).await;
    for name in ["one", "two"] {
        let mut consumer = join(&broker, &bus, &orders, name).await;
        assert_eq!(take(&bus, &mut consumer, &wanted).await.len(), wanted.len(), "{name}");
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
        let (bus, sender) = (Arc::clone(&bus), sender.clone());
        let mut consumer = join(&broker, &bus, &orders, "one").await;
        members.spawn(async move {
            loop {
                let deliveries = next(&mut consumer).await;
                let settled = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
                for (delivery, settled) in deliveries.iter().zip(consumer.settle(settled).await) {
                    settled.expect("it can be settled");
                    sender.send(id(&bus, delivery)).await.expect("the case goes on");
                }
            }
        });
    }
    let mut all = Vec::new();
    while all.len() < wanted.len() {
        all.push(came.recv().await.expect("the members go on"));
    }
    all.sort();
    let mut wanted = wanted;
    wanted.sort();
    assert_eq!(all, wanted, "each message reaches one member");
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

pub(super) async fn one_member_sees_each_key_in_order(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("order"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let keys = ["A", "B", "C"];
    let batch = (0..50).flat_map(|number| keys.map(|key| message(&orders, key, &format!("{key}-{number}"))));
    let batch: Vec<_> = batch.collect();
    let wanted: Vec<String> = batch.iter().map(|message| message.envelope.id.to_string()).collect();
    publish(&bus, batch).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let came = take(&bus, &mut consumer, &wanted).await;
    if bus.capabilities().can_order_by_key || came.len() == wanted.len() {
        for key in keys {
            let of_key: Vec<_> = came.iter().filter(|id| id.starts_with(key)).cloned().collect();
            assert_eq!(of_key, ids(key, 50));
        }
    }
}
