//! The topics, one for each kind of event, new in each run; producers and consumers of them.

use std::process;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::FutureProducer;

use super::{EVENTS, Flush};
use crate::Failure;

/// On two cores one partition is the most: each partition of a batch is a write and a flush of its own.
const PARTITIONS: i32 = 1;
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Makes the topics; returns their names, in the order of [`EVENTS`].
pub(super) async fn make(kafka: &str, flush: Flush) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = EVENTS.iter().map(|event| format!("{event}-{}", process::id())).collect();
    let admin: AdminClient<DefaultClientContext> = config(kafka).create()?;
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| topic(name, flush)).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for made in admin.create_topics(&topics, &options).await? {
        made.map_err(|(name, error)| format!("cannot make the topic {name}: {error}"))?;
    }
    await_leaders(&admin, &names)?;
    Ok(names)
}

/// The broker tells that a topic is made before it tells who leads it.
fn await_leaders(admin: &AdminClient<DefaultClientContext>, names: &[String]) -> Result<(), Failure> {
    let deadline = Instant::now() + LEADERS_WITHIN;
    for name in names {
        loop {
            let metadata = admin.inner().fetch_metadata(Some(name), LEADERS_WITHIN)?;
            let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions).peekable();
            if partitions.peek().is_some() && partitions.all(|partition| partition.leader() >= 0) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("the topic {name} has no leader").into());
            }
        }
    }
    Ok(())
}

fn topic(name: &str, flush: Flush) -> NewTopic<'_> {
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    match flush {
        Flush::EveryBatch => topic.set("flush.messages", "1"),
        Flush::Never => topic,
    }
}

/// Waits for all replicas, keeps the order, and sends what is there at once: the batch comes from the outbox.
pub(super) fn producer(kafka: &str) -> Result<FutureProducer, Failure> {
    let mut config = config(kafka);
    config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
    config.set("socket.nagle.disable", "true");
    Ok(config.create()?)
}

/// The one member of a group of its own, which commits what it has stored, once a second.
pub(super) fn consumer(kafka: &str, topics: &[String], event: usize) -> Result<StreamConsumer, Failure> {
    let topic = topics.get(event).ok_or("every event has a topic")?;
    let mut config = config(kafka);
    config.set("group.id", format!("after-{topic}")).set("auto.offset.reset", "earliest");
    config.set("enable.auto.offset.store", "false").set("auto.commit.interval.ms", "1000");
    config.set("fetch.min.bytes", "1").set("fetch.wait.max.ms", "500").set("socket.nagle.disable", "true");
    let consumer: StreamConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

fn config(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    config
}
