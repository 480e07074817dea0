//! The connection: made at the first call, and anew after a failure that the driver cannot recover from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Outgoing, Receipt, Topology};
use ensue_core::name::Channel;
use ensue_core::{BusCapabilities, Code, Error};
use futures_util::future::BoxFuture;
use krafka::admin::{AdminClient, DescribeFeaturesOptions};
use krafka::producer::Producer;
use krafka::{Kafka, KafkaBuilder, KrafkaError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval, timeout_at};

use crate::config::Config;
use crate::consume::Member;
use crate::error::failed;
use crate::gather::Gathering;
use crate::{capability, publish};

/// How often a cluster that is not there is asked again.
const AGAIN: Duration = Duration::from_millis(200);
const CONNECTING: &str = "cannot connect to Kafka";
/// The feature that tells whether the broker keeps groups itself (KIP-848).
const GROUPS: &str = "group.version";

/// A connection to Kafka.
pub struct KafkaBus {
    link: Link,
    capabilities: BusCapabilities,
}

/// What the parts of the adapter share.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) config: Arc<Config>,
    connection: Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>,
}

/// What lives as long as the driver's producer does. Consumers have connections of their own, because a broker answers one request of a
/// connection after the other, and waiting for messages is one.
pub(crate) struct Connection {
    pub(crate) admin: AdminClient,
    pub(crate) producer: Producer,
    pub(crate) gathering: Gathering,
    /// Calls that are under way, so that the producer has room for each of them at once.
    pub(crate) room: Semaphore,
    /// How many bytes a topic takes in one batch.
    pub(crate) batch_bytes_max: Mutex<HashMap<String, usize>>,
    pub(crate) has_groups: bool,
}

impl KafkaBus {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        let capabilities = capability::of(&config);
        let link = Link { config: Arc::new(config), connection: Arc::default() };
        match link.builder()?.connect().await {
            // One that is not there may come later, which is no error here.
            Err(cause) if cause.is_retriable() => {}
            Err(cause) => return Err(failed(CONNECTING, cause)),
            Ok(_) => {}
        }
        Ok(Self { link, capabilities })
    }
}

impl Bus for KafkaBus {
    fn capabilities(&self) -> &BusCapabilities {
        &self.capabilities
    }

    fn declare(&self, topology: &Topology, declare: Declare) -> BoxFuture<'_, Result<Declared, Error>> {
        let topology = topology.clone();
        Box::pin(async move { self.link.declare(&topology, declare).await })
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(publish::publish(&self.link, batch))
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>> {
        Box::pin(async move {
            let member = Member::join(self.link.clone(), consume).await?;
            Ok(Box::new(member) as Box<dyn Consumer>)
        })
    }
}

impl Link {
    /// The topic of a channel.
    pub(crate) fn topic(&self, channel: &Channel) -> String {
        format!("{}{channel}", self.config.prefix)
    }

    /// One request has half of the time, so that a second try fits in.
    pub(crate) fn request_within(&self) -> Duration {
        self.config.answer_within / 2
    }

    fn builder(&self) -> Result<KafkaBuilder, Error> {
        let (servers, _) = self.config.servers()?;
        Ok(Kafka::builder(servers)
            .client_id("ensue")
            .security(self.config.security()?)
            .request_timeout(self.request_within())
            .connect_timeout(self.request_within()))
    }

    /// A connection of its own, asked for again and again until the time is over.
    pub(crate) async fn dial(&self) -> Result<Kafka, Error> {
        let until = Instant::now() + self.config.answer_within;
        let mut again = interval(AGAIN);
        let mut last = KrafkaError::timeout("connect");
        loop {
            again.tick().await;
            match timeout_at(until, self.builder()?.connect()).await {
                Ok(Ok(kafka)) => return Ok(kafka),
                Ok(Err(cause)) if cause.is_retriable() && Instant::now() < until => last = cause,
                Ok(Err(cause)) if !cause.is_retriable() => return Err(failed(CONNECTING, cause)),
                Ok(Err(_)) | Err(_) => {
                    let message = format!("{CONNECTING}: {last}");
                    return Err(Error::new(Code::BUS_UNREACHABLE, message).with_source(last));
                }
            }
        }
    }

    /// The connection that everybody shares.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref() {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::open(self, self.dial().await?).await?);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Forgets a connection whose driver cannot go on.
    pub(crate) async fn forget(&self, connection: &Arc<Connection>) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *slot = None;
        }
    }
}

impl Connection {
    async fn open(link: &Link, kafka: Kafka) -> Result<Self, Error> {
        let admin = kafka.admin().default_api_timeout(link.config.answer_within);
        let features = admin.describe_features(DescribeFeaturesOptions::default()).await;
        let features = features.map_err(|cause| failed(CONNECTING, cause))?;
        let mut levels = features.finalized.iter().filter(|feature| feature.name == GROUPS);
        let producer = publish::producer(link, &kafka).await.map_err(|cause| failed(CONNECTING, cause))?;
        Ok(Self {
            admin,
            producer,
            gathering: Gathering::new(),
            room: Semaphore::new(publish::CALLS_MAX),
            batch_bytes_max: Mutex::default(),
            has_groups: levels.any(|feature| feature.max_version_level > 0),
        })
    }

    /// How many bytes a topic takes in one batch, asked once.
    pub(crate) async fn batch_bytes_max(&self, topic: &str) -> Result<usize, KrafkaError> {
        let known = |map: &Mutex<HashMap<String, usize>>| {
            map.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
        };
        if let Some(bytes) = known(&self.batch_bytes_max) {
            return Ok(bytes);
        }
        self.producer.partitions_for(topic).await?;
        let bytes = self.settings(topic).await?.batch_bytes_max;
        let mut map = self.batch_bytes_max.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(topic.to_owned(), bytes);
        Ok(bytes)
    }

    /// What is not there, in the words of the port.
    pub(crate) fn unroutable(trying: &str) -> Error {
        Error::new(Code::BUS_UNROUTABLE, format!("{trying}: the topic is not there"))
    }
}
