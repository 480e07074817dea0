//! Publishing: what goes in comes out, what cannot go in is refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ensue_core::bus::{Declare, Mode, Settled, Topology};
use ensue_core::name::Source;
use ensue_core::{Code, Error, Kind};

use super::Broker;
use super::words::{
    channel, declare, event, group, id, ids, join, message, next, open, pause, publish, take,
};

pub(super) async fn what_is_published_arrives_equal(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("equal"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    for (mode, name) in [(Mode::Binary, "binary"), (Mode::Structured, "structured")] {
        let mut sent = message(&orders, "ORD-1", name);
        sent.mode = mode;
        sent.envelope.extensions = vec![("region".into(), "eu".into())];
        publish(&bus, vec![sent.clone()]).await;
        let mut consumer = join(&broker, &bus, &orders, "one").await;
        let deliveries = next(&mut consumer).await;
        let delivery = deliveries.iter().find(|delivery| id(&bus, delivery) == name).expect("it has come");
        let came = event(&bus, delivery);
        assert_eq!(came.data, sent.envelope.data);
        assert_eq!(came.event_type, sent.envelope.event_type);
        assert_eq!(came.extensions, sent.envelope.extensions);
        if mode == Mode::Binary {
            assert_eq!(delivery.key.as_deref(), Some("ORD-1"));
        }
        let acknowledged = deliveries.iter().map(|delivery| Settled::Ack(delivery.token));
        for settled in consumer.settle(acknowledged.collect()).await {
            settled.expect("it can be settled");
        }
    }
}

pub(super) async fn text_of_any_language_survives_in_headers(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("text"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let mut sent = message(&orders, "Größe 7 %41 \"x\" 東京 🎈", "text");
    sent.envelope.source = Source::new("https://例え.jp/ a%20b").expect("a valid source");
    publish(&bus, vec![sent.clone()]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let deliveries = next(&mut consumer).await;
    let delivery = deliveries.first().expect("one at least");
    assert_eq!(event(&bus, delivery).source, Some(sent.envelope.source));
    assert_eq!(delivery.key.as_deref(), Some(sent.stream.key.as_str()));
}

pub(super) async fn a_message_too_large_is_refused_and_delays_nobody(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("large"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let bytes_max = bus.capabilities().message_bytes_max;
    let mut large = message(&orders, "A", "large");
    large.envelope.data = Bytes::from(vec![b'1'; bytes_max + 1]);
    let batch = vec![large, message(&orders, "A", "behind"), message(&orders, "B", "beside")];
    let answers = bus.publish(batch).await;
    let codes: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().err().map(ensue_core::Error::code)).collect();
    assert_eq!(codes, [Some(Code::TOO_LARGE), Some(Code::TOO_LARGE), None]);
    let mut fits = message(&orders, "C", "fits");
    fits.envelope.data = Bytes::from(vec![b'1'; bytes_max - 4096]);
    publish(&bus, vec![fits]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    take(&bus, &mut consumer, &["beside".to_owned(), "fits".to_owned()]).await;
}

pub(super) async fn publishing_to_nowhere_is_refused(broker: Arc<dyn Broker>) {
    let bus = open(&broker).await;
    let answer = bus.publish(vec![message(&channel("nowhere"), "A", "lost")]).await.pop();
    let error = answer.expect("an answer for each message").expect_err("there is no such channel");
    assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}");
}

pub(super) async fn of_a_batch_only_what_goes_nowhere_fails(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("batch"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let nowhere = channel("nowhere");
    let wanted = ids("event", 30);
    let pairs = wanted.iter().flat_map(|id| [message(&orders, id, id), message(&nowhere, id, id)]);
    let answers = bus.publish(pairs.collect()).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::code)).collect();
    assert_eq!(codes, [None, Some(Code::BUS_UNROUTABLE)].repeat(wanted.len()));
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    assert_eq!(take(&bus, &mut consumer, &wanted).await.len(), wanted.len());
}

/// What is to be seen where a broker does not tell.
pub(super) async fn nowhere_swallows(broker: Arc<dyn Broker>) {
    let bus = open(&broker).await;
    let answers = bus.publish(vec![message(&channel("nowhere"), "A", "lost")]).await;
    assert!(answers.iter().all(Result::is_ok), "it does tell, so it should declare it: {answers:?}");
}

pub(super) async fn a_message_published_twice_is_kept_once(broker: Arc<dyn Broker>) {
    assert_eq!(copies(broker).await, 1);
}

/// What is to be seen where a broker does not know duplicates.
pub(super) async fn twice_is_two(broker: Arc<dyn Broker>) {
    assert_eq!(copies(broker).await, 2, "it drops duplicates, so it should declare it");
}

async fn copies(broker: Arc<dyn Broker>) -> usize {
    let (bus, orders) = (open(&broker).await, channel("twice"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    for id in ["twice", "twice", "last"] {
        publish(&bus, vec![message(&orders, "A", id)]).await;
    }
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    let came = take(&bus, &mut consumer, &["twice".to_owned(), "last".to_owned()]).await;
    came.iter().filter(|id| *id == "twice").count()
}

pub(super) async fn many_publishers_at_once_lose_nothing(broker: Arc<dyn Broker>) {
    const PUBLISHERS: usize = 50;
    const EACH: usize = 10;
    let (bus, orders) = (open(&broker).await, channel("many"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let (bus, orders) = (Arc::clone(&bus), orders.clone());
            tokio::spawn(async move {
                for id in ids(&format!("p{number}"), EACH) {
                    publish(&bus, vec![message(&orders, &format!("K{number}"), &id)]).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("it has published");
    }
    let wanted: Vec<String> = (0..PUBLISHERS).flat_map(|number| ids(&format!("p{number}"), EACH)).collect();
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    take(&bus, &mut consumer, &wanted).await;
}

pub(super) async fn a_publisher_that_is_dropped_loses_nothing_confirmed(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("dropped"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let confirmed = Arc::new(Mutex::new(Vec::new()));
    let publisher = tokio::spawn({
        let (bus, orders, confirmed) = (open(&broker).await, orders.clone(), Arc::clone(&confirmed));
        async move {
            for number in 0.. {
                let id = format!("event-{number}");
                publish(&bus, vec![message(&orders, "A", &id)]).await;
                confirmed.lock().expect("nobody panics").push(id);
            }
        }
    });
    while confirmed.lock().expect("nobody panics").len() < 100 {
        pause().await;
    }
    publisher.abort();
    assert!(publisher.await.is_err_and(|end| end.is_cancelled()), "it was dropped in the middle");
    let mut missing: BTreeSet<String> = confirmed.lock().expect("nobody panics").iter().cloned().collect();
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    while !missing.is_empty() {
        let deliveries = next(&mut consumer).await;
        for delivery in &deliveries {
            missing.remove(&id(&bus, delivery)); // one that was on its way may have come too
        }
        drop(consumer.settle(deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect()).await);
    }
}

pub(super) async fn a_dry_run_says_what_is_missing_and_makes_nothing(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("dry"));
    let sources = vec![broker.source(group("one"), &orders)];
    let topology = Topology { targets: vec![orders], sources };
    let first = bus.declare(&topology, Declare::DryRun).await.expect("it can be compared");
    assert!(!first.missing.is_empty() && first.found.is_empty(), "{first:?}");
    let again = bus.declare(&topology, Declare::DryRun).await.expect("it can be compared");
    assert_eq!(again, first, "a dry run makes nothing");
    let made = bus.declare(&topology, Declare::Make).await.expect("it can be made");
    assert_eq!(made.missing, first.missing, "what was said to be missing is made");
    let after = bus.declare(&topology, Declare::DryRun).await.expect("it can be compared");
    assert_eq!((after.found, after.missing), (first.missing, Vec::new()));
    let absent = Topology { targets: vec![channel("other")], sources: Vec::new() };
    let other = bus.declare(&absent, Declare::DryRun).await.map_err(|error| error.kind());
    assert!(other != Err(Kind::NotFound) && other.is_ok_and(|declared| declared.missing.len() == 1));
}
