//! Going on from elsewhere. The place of a group is a number for each partition, and whoever holds a partition goes on from its own; so the
//! place can be moved only by a member that holds all of them.

use std::time::Duration;

use ensue_core::bus::Seek;
use ensue_core::{Code, Error};
use krafka::KrafkaError;
use krafka::admin::{DescribeConsumerGroupsOptions, ListOffsetsOptions, OffsetSpec, TopicPartition};
use krafka::consumer::OffsetAndMetadata;
use tokio::time::Instant;

use crate::client::Connection;
use crate::consume::Member;

/// How long one look for the assignment takes at most.
const LOOK: Duration = Duration::from_millis(100);

impl Member {
    pub(crate) async fn seek_to(&mut self, to: Seek) -> Result<(), Error> {
        let connection = self.link.connection().await?;
        let partitions = self.partitions(&connection).await.map_err(|cause| self.failed(cause))?;
        self.hold_all(&connection, &partitions).await?;
        let places = self.places(&connection, &partitions, to).await.map_err(|cause| self.failed(cause))?;
        // What is here is of the old place; what is in hand can no longer be settled.
        self.forget(|_| true);
        let moved = match &self.session {
            Some(session) => move_to(&session.consumer, places).await,
            None => Err(KrafkaError::closed("the membership is gone")),
        };
        if moved.is_err() {
            // Another membership begins where the broker says.
            self.leave();
        }
        moved.map_err(|cause| self.failed(cause))
    }

    /// Waits until this member holds all partitions, unless others do.
    async fn hold_all(&mut self, connection: &Connection, all: &[TopicPartition]) -> Result<(), Error> {
        let until = Instant::now() + self.link.config.answer_within;
        loop {
            self.session().await?;
            let Some(session) = &self.session else { continue };
            let looked = session.consumer.poll(LOOK).await;
            let held = session.consumer.assignment().await.remove(&self.topic).unwrap_or_default();
            self.forget_lost();
            match looked {
                Ok(records) => self.work.take(records),
                Err(cause) if cause.is_retriable() => {}
                Err(cause) => return Err(self.failed(cause)),
            }
            if held.len() == all.len() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(self.not_alone(connection, held.len(), all.len()).await);
            }
        }
    }

    async fn not_alone(&self, connection: &Connection, held: usize, all: usize) -> Error {
        let options = DescribeConsumerGroupsOptions::default();
        let groups = connection.admin.describe_consumer_groups([&self.group], options).await;
        let members = groups.ok().and_then(|groups| groups.into_values().next()?.ok());
        let members = members.map_or(0, |group| group.members.len());
        let message = format!(
            "the group `{}` has {members} members, and this one holds {held} of {all} partitions of `{}`",
            self.group, self.topic
        );
        Error::new(Code::UNSUPPORTED, message).with_fix(
            "stop the other members, or move the group with the broker's own tools while nobody is in it",
        )
    }

    async fn places(
        &self,
        connection: &Connection,
        partitions: &[TopicPartition],
        to: Seek,
    ) -> Result<Vec<(TopicPartition, i64)>, KrafkaError> {
        let time = match to {
            Seek::Begin => return list(connection, partitions, OffsetSpec::Earliest).await,
            Seek::End => return list(connection, partitions, OffsetSpec::Latest).await,
            Seek::At(time) => time.as_millisecond(),
        };
        let Some(session) = &self.session else { return Err(KrafkaError::closed("there is no membership")) };
        // Before the question about the time: what comes in between is as new as that.
        let ends = list(connection, partitions, OffsetSpec::Latest).await?;
        let wanted: Vec<_> = partitions.iter().map(|place| (self.topic.as_str(), place.partition)).collect();
        let mut found = session.consumer.offsets_for_times(&wanted, time).await;
        let place = |(place, end): (TopicPartition, i64)| {
            let key = (place.topic.clone(), place.partition);
            let offset = found.remove(&key).unwrap_or_else(|| Err(KrafkaError::timeout("list offsets")))?;
            // A partition in which nothing is as new as that goes on with what comes.
            Ok((place, if offset < 0 { end } else { offset }))
        };
        ends.into_iter().map(place).collect()
    }
}

/// Offsets of all partitions, in their order.
async fn list(
    connection: &Connection,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Vec<(TopicPartition, i64)>, KrafkaError> {
    let wanted: Vec<_> = partitions.iter().map(|place| (place.clone(), spec)).collect();
    let mut found = connection.admin.list_offsets(wanted, ListOffsetsOptions::default()).await?;
    let offset = |place: &TopicPartition| {
        let found = found.remove(place).unwrap_or_else(|| Err(KrafkaError::timeout("list offsets")))?;
        Ok((place.clone(), found.offset))
    };
    partitions.iter().map(offset).collect()
}

async fn move_to(
    consumer: &krafka::consumer::Consumer,
    places: Vec<(TopicPartition, i64)>,
) -> Result<(), KrafkaError> {
    let offsets = places.iter().map(|(place, offset)| (place.clone(), OffsetAndMetadata::new(*offset)));
    consumer.commit_offsets(offsets.collect::<Vec<_>>()).await?;
    consumer.seek_many(places).await
}
