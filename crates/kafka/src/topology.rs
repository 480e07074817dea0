//! Topics: made where they are missing, looked at where they are there, never changed.

use std::time::Duration;

use ensue_core::bus::{Declare, Declared, Topology};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use krafka::KrafkaError;
use krafka::admin::{
    ConfigResource, CreateTopicsOptions, DescribeConfigsOptions, DescribeTopicsOptions, NewTopic,
    TopicDescription,
};
use krafka::error::ErrorCode;
use tokio::time::{Instant, interval};

use crate::client::{Connection, Link};
use crate::error::{failed, is_missing};

const CLEANUP: &str = "cleanup.policy";
const RETENTION: &str = "retention.ms";
const BATCH_BYTES: &str = "max.message.bytes";
/// What Kafka takes where nobody has said otherwise, and nobody may ask.
const BATCH_BYTES_DEFAULT: usize = 1_048_588;
/// How often a topic that was just made is looked for.
const AGAIN: Duration = Duration::from_millis(50);

/// What of a topic's settings matters here. Nothing where we may not ask.
#[derive(Debug)]
pub(crate) struct Settings {
    is_compacted: bool,
    retention_ms: Option<i64>,
    pub(crate) batch_bytes_max: usize,
}

/// What a channel is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Target,
    Source,
}

impl Link {
    pub(crate) async fn declare(&self, topology: &Topology, how: Declare) -> Result<Declared, Error> {
        let connection = self.connection().await?;
        let targets = topology.targets.iter().map(|target| (target, Use::Target));
        let sources = topology.sources.iter().map(|source| (&source.from, Use::Source));
        let mut declared = Declared::default();
        for (channel, used) in targets.chain(sources) {
            self.declare_topic(&connection, channel, used, how, &mut declared).await?;
        }
        Ok(declared)
    }

    async fn declare_topic(
        &self,
        connection: &Connection,
        channel: &Channel,
        used: Use,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        let topic = self.topic(channel);
        let line = format!("topic `{topic}`");
        if declared.missing.contains(&line) {
            return Ok(());
        }
        if let Some(found) = connection.describe(&topic).await? {
            self.check(connection, &topic, &found, used).await?;
            push(&mut declared.found, line);
            return Ok(());
        }
        if how == Declare::Make && !self.make(connection, &topic).await? {
            let found = connection.await_topic(&topic, self.config.answer_within).await?;
            self.check(connection, &topic, &found, used).await?;
        }
        push(&mut declared.missing, line);
        Ok(())
    }

    /// Whether it was us who made it.
    async fn make(&self, connection: &Connection, topic: &str) -> Result<bool, Error> {
        let trying = format!("cannot make the topic `{topic}`");
        let (partitions, replicas) =
            (self.config.partitions.unwrap_or(-1), self.config.replicas.unwrap_or(-1));
        let wanted = NewTopic::new(topic, partitions, replicas).map_err(|cause| failed(&trying, cause))?;
        let wanted = match self.config.retention {
            Some(time) => wanted.with_config(RETENTION, time.as_millis().to_string()),
            None => wanted,
        };
        let made = connection.admin.create_topics([wanted], CreateTopicsOptions::default()).await;
        let made = made.map_err(|cause| failed(&trying, cause))?;
        for (_, answer) in made {
            match answer {
                Ok(()) => {}
                Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => return Ok(false),
                Err(cause) => return Err(failed(&trying, cause)),
            }
        }
        connection.await_topic(topic, self.config.answer_within).await?;
        Ok(true)
    }

    /// Whether what is there can keep the promises.
    async fn check(
        &self,
        connection: &Connection,
        topic: &str,
        found: &TopicDescription,
        used: Use,
    ) -> Result<(), Error> {
        let settings = connection.settings(topic).await;
        let settings =
            settings.map_err(|cause| failed(&format!("cannot look at the topic `{topic}`"), cause))?;
        let refused = |what: String| {
            Err(Error::new(Code::BUS_TOPOLOGY, format!("the topic `{topic}` is there and {what}")))
        };
        if let Some(wanted) = self.config.partitions
            && usize::try_from(wanted) != Ok(found.partitions.len())
        {
            return refused(format!("has {} partitions, {wanted} are needed", found.partitions.len()));
        }
        if let (Some(wanted), Some(found)) = (self.config.retention, settings.retention_ms)
            && i64::try_from(wanted.as_millis()) != Ok(found)
        {
            return refused(format!(
                "keeps messages for {found} ms (`{RETENTION}`), {} ms are needed",
                wanted.as_millis()
            ));
        }
        if used == Use::Target && settings.is_compacted {
            return refused(format!(
                "forgets all but the last message of a key (`{CLEANUP}`), which must keep each of them"
            ));
        }
        if used == Use::Target && settings.batch_bytes_max < self.config.message_bytes_max {
            return refused(format!(
                "takes {} bytes at most (`{BATCH_BYTES}`), {} are needed (`message_bytes_max`)",
                settings.batch_bytes_max, self.config.message_bytes_max
            ));
        }
        Ok(())
    }
}

impl Connection {
    /// The topic, if it is there.
    pub(crate) async fn describe(&self, topic: &str) -> Result<Option<TopicDescription>, Error> {
        let trying = format!("cannot look up the topic `{topic}`");
        let answers = self.admin.describe_topics([topic], DescribeTopicsOptions::default()).await;
        let answers = answers.map_err(|cause| failed(&trying, cause))?;
        match answers.into_values().next() {
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(cause)) if is_missing(&cause) => Ok(None),
            Some(Err(cause)) => Err(failed(&trying, cause)),
            None => Err(Error::new(Code::BUS_REFUSED, format!("{trying}: the broker left it out"))),
        }
    }

    /// A topic that was just made is known to each broker, and led by one, a moment later.
    async fn await_topic(&self, topic: &str, within: Duration) -> Result<TopicDescription, Error> {
        let until = Instant::now() + within;
        let mut again = interval(AGAIN);
        loop {
            again.tick().await;
            if let Some(found) = self.describe(topic).await?
                && found.partitions.iter().all(|partition| partition.leader.is_some())
            {
                return Ok(found);
            }
            if Instant::now() > until {
                let message = format!("the topic `{topic}` was made, and no broker leads it yet");
                return Err(Error::new(Code::BUS_TIMEOUT, message));
            }
        }
    }

    /// What of its settings matters here.
    pub(crate) async fn settings(&self, topic: &str) -> Result<Settings, KrafkaError> {
        let names = [CLEANUP, RETENTION, BATCH_BYTES].map(str::to_owned).to_vec();
        let options = DescribeConfigsOptions::default().config_names(names);
        let answers = self.admin.describe_configs([ConfigResource::topic(topic)], options).await?;
        let entries = match answers.into_values().next() {
            Some(Ok(entries)) => entries,
            Some(Err(KrafkaError::Broker { code: ErrorCode::TopicAuthorizationFailed, .. })) | None => {
                Vec::new()
            }
            Some(Err(cause)) => return Err(cause),
        };
        let value = |name: &str| {
            entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.as_deref())
        };
        let number = |name: &str| value(name).and_then(|text| text.parse::<i64>().ok());
        Ok(Settings {
            is_compacted: value(CLEANUP).is_some_and(|policy| policy.contains("compact")),
            retention_ms: number(RETENTION),
            batch_bytes_max: number(BATCH_BYTES)
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(BATCH_BYTES_DEFAULT),
        })
    }
}

fn push(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}
