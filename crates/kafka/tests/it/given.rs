//! The broker that the cases share. Names of topics and groups begin with what is the case's own.

use std::env;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ensue_core::bus::{Bus, Consume, Consumer, Declare, Delivery, Mode, Outgoing, Topology};
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName, SubscriptionName};
use ensue_core::{BoxFuture, Envelope, Error, Timestamp};
use ensue_kafka::Config;
use ensue_test::conformance::bus::{Broker, Fault};
use krafka::Kafka;

/// How many partitions the topics of the tests have.
pub(crate) const PARTITIONS: u16 = 4;

/// How long a message may be in hand.
const SETTLE: Duration = Duration::from_secs(5);

static CASES: AtomicU32 = AtomicU32::new(0);

/// See [`Broker`].
pub(crate) struct Shared {
    address: String,
    prefix: String,
}

pub(crate) async fn fresh() -> Arc<dyn Broker> {
    Arc::new(shared())
}

/// The same, for what the suite does not know.
pub(crate) fn shared() -> Shared {
    let address = env::var("ENSUE_TEST_KAFKA").expect("ENSUE_TEST_KAFKA names the broker");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis();
    let case = CASES.fetch_add(1, Ordering::Relaxed);
    Shared { address, prefix: format!("case{now}-{}-{case}.", process::id()) }
}

impl Shared {
    pub(crate) fn config(&self) -> Config {
        Config::new(format!("kafka://{}", self.address))
            .prefix(&self.prefix)
            .partitions(PARTITIONS)
            .settle_within(SETTLE)
    }

    pub(crate) async fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.config().open().await.expect("the broker runs"))
    }

    /// A client of somebody else.
    pub(crate) async fn foreign(&self) -> Kafka {
        Kafka::builder(&self.address).connect().await.expect("the broker runs")
    }

    /// What a channel is called in the broker.
    pub(crate) fn topic(&self, channel: &Channel) -> String {
        format!("{}{channel}", self.prefix)
    }
}

impl Broker for Shared {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config().open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { panic!("the shared broker lets everyone in: ask for one of the case's own") })
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        panic!("{fault:?} would strike every case that runs: ask for a broker of the case's own")
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { panic!("the shared broker has no tunnel: ask for one of the case's own") })
    }

    fn cut(&self) -> usize {
        panic!("the shared broker has no tunnel: ask for one of the case's own")
    }

    fn is_alive(&self) -> bool {
        true
    }
}

/// The channel of the tests.
pub(crate) fn orders() -> Channel {
    Channel::new("orders").expect("a valid channel")
}

pub(crate) fn source(group: &str) -> Consume {
    let group = SubscriptionName::new(group).expect("a valid name");
    Consume { group, from: orders(), fed_by: None }
}

/// Makes the channel.
pub(crate) async fn declare(bus: &Arc<dyn Bus>) {
    let topology = Topology { targets: vec![orders()], sources: Vec::new() };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
}

pub(crate) async fn join(bus: &Arc<dyn Bus>, group: &str) -> Box<dyn Consumer> {
    bus.consume(source(group)).await.expect("the group can be joined")
}

/// An event of this key and id, published in this mode.
pub(crate) fn message(key: &str, id: &str, mode: Mode) -> Outgoing {
    Outgoing {
        to: orders(),
        stream: StreamName::new("Order", key).expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("shop").expect("a valid source"),
            event_type: EventType::new("OrderPlaced").expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: "{\"total\":7}".into(),
        },
        mode,
    }
}

/// Publishes, and asserts that all of it is confirmed; answers with the places.
pub(crate) async fn publish(bus: &Arc<dyn Bus>, batch: Vec<Outgoing>) -> Vec<String> {
    let answers = bus.publish(batch).await.into_iter();
    answers.map(|answer| answer.expect("it is confirmed").place.to_string()).collect()
}

/// The next deliveries, through whatever can be tried again.
pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Vec<Delivery> {
    loop {
        match consumer.next(64).await {
            Ok(deliveries) => return deliveries,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

/// The id in the headers of a delivery.
pub(crate) fn id(delivery: &Delivery) -> String {
    let header = delivery.message.headers.iter().find(|(name, _)| name == "ce_id").expect("an id");
    String::from_utf8(header.1.to_vec()).expect("text")
}
