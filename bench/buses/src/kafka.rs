//! Kafka by `krafka`: an idempotent producer with `acks=all` that gathers batches, a member of a group that commits what it has read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue::core::Bus;
use krafka::Record;
use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::{Acks, Producer};

use crate::Failure;
use crate::client::{Client, Haste, Reader};
use crate::message::ItemMade;

const PARTITIONS: u16 = 4;
/// A batch of one partition goes out when it has so much, or has waited so long.
const BATCH_BYTES: usize = 256 << 10;
const LINGER: Duration = Duration::from_millis(5);

/// Kafka as it comes, which acknowledges from memory.
pub(crate) type AsItComes = Kafka<false>;
/// Kafka that syncs each batch before it acknowledges: without replicas nothing else makes it durable.
pub(crate) type Flushed = Kafka<true>;

/// See the module.
pub(crate) struct Kafka<const IS_FLUSHED: bool> {
    cluster: krafka::Kafka,
    /// Waits for batches to fill.
    gathering: Producer,
    /// Sends what it is given at once.
    prompt: Producer,
}

impl<const IS_FLUSHED: bool> Client for Kafka<IS_FLUSHED> {
    const IN_FLIGHT: usize = 4096;
    const IS_FED: bool = false;
    type Reader = Polling;

    async fn connect(url: &str) -> Result<Self, Failure> {
        let kafka = krafka::Kafka::builder(url.trim_start_matches("kafka://")).connect().await?;
        let producer = || kafka.producer().acks(Acks::All).idempotent(true);
        let gathering = producer().batch_size(BATCH_BYTES).linger(LINGER).build().await?;
        let prompt = producer().linger(Duration::ZERO).build().await?;
        Ok(Self { cluster: kafka, gathering, prompt })
    }

    async fn make(&self, channel: &str) -> Result<(), Failure> {
        if !IS_FLUSHED {
            return Ok(());
        }
        let mut topic = NewTopic::new(channel, i32::from(PARTITIONS), 1)?;
        topic.configs.insert("flush.messages".to_owned(), "1".to_owned());
        let admin = self.cluster.admin();
        for (_, made) in admin.create_topics([topic], CreateTopicsOptions::default()).await? {
            made?;
        }
        Ok(())
    }

    async fn bus(url: &str) -> Result<Arc<dyn Bus>, Failure> {
        let url = format!("kafka://{}", url.trim_start_matches("kafka://"));
        Ok(Arc::new(ensue_kafka::Config::new(url).partitions(PARTITIONS).open().await?))
    }

    async fn send(&self, to: &str, item: &ItemMade, haste: Haste) -> Result<(), Failure> {
        let producer = match haste {
            Haste::None => &self.gathering,
            Haste::Each => &self.prompt,
        };
        drop(producer.send(Record::new(to, item.body()).key(item.key().to_owned())).await?);
        Ok(())
    }

    async fn readers(&self, from: &[String], group: &str) -> Result<Vec<Polling>, Failure> {
        let Some(first) = from.first() else { return Ok(Vec::new()) };
        let consumer = self
            .cluster
            .consumer(format!("{first}.{group}"))
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .build()
            .await?;
        consumer.subscribe(from.iter().map(String::as_str)).await?;
        Ok(vec![Polling(consumer)])
    }

    fn consumed(channel: &str, _group: &str) -> String {
        channel.to_owned()
    }
}

/// A member of a group.
pub(crate) struct Polling(Consumer);

impl Reader for Polling {
    async fn next(&mut self) -> Result<Vec<Bytes>, Failure> {
        loop {
            let records = self.0.poll(Duration::from_secs(1)).await?;
            if records.is_empty() {
                continue;
            }
            self.0.commit().await?;
            return Ok(records.into_iter().filter_map(|record| record.value).collect());
        }
    }
}
