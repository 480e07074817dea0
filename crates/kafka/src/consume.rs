//! One member of a group: a consumer of the driver on a connection of its own, made anew where it cannot go on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::{Code, Error, Timestamp};
use futures_util::future::BoxFuture;
use krafka::admin::{
    ListConsumerGroupOffsetsOptions, ListOffsetsOptions, ListedOffset, OffsetSpec, TopicPartition,
};
use krafka::consumer::{AutoOffsetReset, ConsumerRebalanceListener, GroupProtocol, OffsetAndMetadata};
use krafka::error::ErrorCode;
use krafka::{CloseOptions, KrafkaError};
use smol_str::format_smolstr;
use tokio::time::{Instant, interval, timeout};

use crate::client::{Connection, Link};
use crate::codec;
use crate::error::failed;
use crate::stall::{Place, Stalls};
use crate::work::{Handed, Work};

/// How long one look for messages takes at most.
const LOOK: Duration = Duration::from_secs(1);
/// How often a broker that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How many messages may wait here before no more are taken.
const WAITING_MAX: usize = 4096;
/// How often it is looked whether partitions stand still.
const STALLS_EVERY: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// See [`Consumer`].
pub(crate) struct Member {
    pub(crate) link: Link,
    pub(crate) consume: Consume,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) session: Option<Session>,
    pub(crate) work: Work,
    /// Partitions whose progress the broker has not confirmed.
    unconfirmed: BTreeSet<i32>,
    looked_at: Option<Instant>,
    stalls: Stalls,
    stalls_at: Instant,
}

/// A membership.
pub(crate) struct Session {
    pub(crate) consumer: krafka::consumer::Consumer,
    lost: Lost,
}

/// Partitions that were taken away and are still to be forgotten.
#[derive(Clone, Default)]
struct Lost(Arc<Mutex<BTreeSet<i32>>>);

impl Lost {
    fn note(&self, partitions: &[TopicPartition]) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.extend(partitions.iter().map(|partition| partition.partition));
    }

    fn take(&self) -> BTreeSet<i32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ConsumerRebalanceListener for Lost {
    async fn on_partitions_assigned(&self, _partitions: &[TopicPartition]) {}

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.note(partitions);
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        self.note(partitions);
    }
}

impl Member {
    pub(crate) async fn join(link: Link, consume: Consume) -> Result<Self, Error> {
        let topic = link.topic(&consume.from);
        let group = format!("{}{}", link.config.prefix, consume.group);
        let connection = link.connection().await?;
        if connection.describe(&topic).await?.is_none() {
            return Err(Connection::unroutable(&format!("cannot consume `{}`", consume.from)));
        }
        let mut member = Self {
            link,
            consume,
            topic,
            group,
            session: None,
            work: Work::default(),
            unconfirmed: BTreeSet::new(),
            looked_at: None,
            stalls: Stalls::default(),
            stalls_at: Instant::now(),
        };
        member.session().await?;
        Ok(member)
    }

    pub(crate) fn failed(&self, cause: KrafkaError) -> Error {
        failed(&format!("cannot consume `{}`", self.consume.from), cause)
    }

    /// The membership, made where there is none. What an earlier one had in hand is delivered anew.
    pub(crate) async fn session(&mut self) -> Result<&Session, Error> {
        if self.session.is_none() {
            self.forget(|_| true);
            let session = self.open_session().await?;
            self.session = Some(session);
        }
        self.session.as_ref().ok_or_else(|| Error::new(Code::BUS_UNREACHABLE, "there is no membership"))
    }

    async fn open_session(&self) -> Result<Session, Error> {
        let has_groups = self.link.connection().await?.has_groups;
        let kafka = self.link.dial().await?;
        let lost = Lost::default();
        let builder = kafka
            .consumer(&self.group)
            .group_protocol(if has_groups { GroupProtocol::Consumer } else { GroupProtocol::Classic })
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .max_poll_interval(self.link.config.settle_within)
            .metrics_push(false)
            .rebalance_listener(lost.clone());
        let builder = match &self.link.config.instance {
            Some(instance) => builder.group_instance_id(format!("{instance}.{}", self.consume.from)),
            None => builder,
        };
        let consumer = builder.build().await.map_err(|cause| self.failed(cause))?;
        consumer.subscribe([&self.topic]).await.map_err(|cause| self.failed(cause))?;
        Ok(Session { consumer, lost })
    }

    /// Forgets what belongs to partitions that were taken away.
    pub(crate) fn forget_lost(&mut self) {
        let lost = self.session.as_ref().map(|session| session.lost.take()).unwrap_or_default();
        if !lost.is_empty() {
            self.forget(|partition| lost.contains(&partition));
        }
    }

    pub(crate) fn forget(&mut self, is_lost: impl Fn(i32) -> bool) {
        self.unconfirmed.retain(|partition| !is_lost(*partition));
        self.work.lose(is_lost);
    }

    /// Looks for messages once, which also keeps the membership.
    async fn look(&mut self) -> Result<(), Error> {
        let wait = self.work.ready_in(Instant::now()).map_or(LOOK, |wait| wait.min(LOOK));
        let is_full = self.work.waiting() >= WAITING_MAX;
        let topic = self.topic.clone();
        self.session().await?;
        self.commit().await?;
        let Some(session) = &self.session else { return Ok(()) };
        let partitions = session.consumer.assignment().await.remove(&topic).unwrap_or_default();
        if is_full {
            session.consumer.pause(&topic, &partitions).await;
        } else {
            session.consumer.resume(&topic, &partitions).await;
        }
        let looked = session.consumer.poll(wait).await;
        self.forget_lost();
        self.looked_at = Some(Instant::now());
        match looked {
            Ok(records) => self.work.take(records),
            Err(cause) => {
                if !cause.is_retriable() {
                    self.leave();
                }
                let is_forgotten =
                    matches!(&cause, KrafkaError::Broker { code: ErrorCode::InvalidRequest, .. });
                let error = self.failed(cause);
                // The driver asks wrongly under its new name where the coordinator has moved; the next membership begins from nothing.
                return Err(if is_forgotten {
                    Error::new(Code::BUS_UNREACHABLE, error.message()).with_source(error)
                } else {
                    error
                });
            }
        }
        if self.stalls_at.elapsed() >= STALLS_EVERY {
            self.leave_if_stalled().await;
            self.stalls_at = Instant::now();
        }
        Ok(())
    }

    /// Tells the broker how far the partitions are whose progress it has not confirmed.
    async fn commit(&mut self) -> Result<(), Error> {
        let offsets = self.unconfirmed.iter().filter_map(|partition| {
            let offset = self.work.committable(*partition)?;
            let place = TopicPartition::new(self.topic.clone(), *partition);
            Some((place, OffsetAndMetadata::new(offset)))
        });
        let offsets: Vec<_> = offsets.collect();
        let Some(session) = self.session.as_ref().filter(|_| !offsets.is_empty()) else { return Ok(()) };
        let committed = session.consumer.commit_offsets(offsets).await;
        match committed.map_err(|cause| failed("cannot settle", cause)) {
            Ok(()) => {
                self.unconfirmed.clear();
                Ok(())
            }
            Err(error) => {
                if error.code() == Code::BUS_TOO_LATE {
                    // The group has gone on without us: what was in hand is somebody else's now.
                    self.forget(|_| true);
                }
                Err(error)
            }
        }
    }

    fn deliver(&self, handed: Handed) -> Delivery {
        let Handed { token, attempt, record } = handed;
        let (message, key) = codec::decode(&record);
        let published_at = Timestamp::from_millisecond(record.timestamp).ok();
        let place = Some(format_smolstr!("{}/{}#{}", self.topic, record.partition, record.offset));
        Delivery { token, from: self.consume.from.clone(), key, attempt, published_at, place, message }
    }

    /// One that has much to do must not forget its group.
    fn must_look(&self) -> bool {
        self.looked_at.is_none_or(|at| at.elapsed() >= LOOK)
    }
}

fn not_open() -> Error {
    Error::new(Code::BUS_TOO_LATE, "the delivery is not open any more")
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            let until = Instant::now() + self.link.config.answer_within;
            let mut again = interval(AGAIN);
            loop {
                if !self.must_look() {
                    self.work.expire(Instant::now(), self.link.config.settle_within);
                    let handed = self.work.deliver(max.max(1), Instant::now());
                    if !handed.is_empty() {
                        return Ok(handed.into_iter().map(|handed| self.deliver(handed)).collect());
                    }
                }
                match self.look().await {
                    Ok(()) => {}
                    Err(error) if error.is_retryable() && Instant::now() < until => {
                        again.tick().await;
                    }
                    Err(error) if error.code() == Code::BUS_TOO_LATE => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            self.forget_lost();
            let now = Instant::now();
            self.work.expire(now, self.link.config.settle_within);
            let mut answers: Vec<(bool, Result<(), Error>)> = Vec::with_capacity(settled.len());
            for settled in settled {
                let (is_done, partition) = match settled {
                    Settled::Ack(token) | Settled::Reject(token, _) => (true, self.work.done(token)),
                    Settled::Nack(token, delay) => (false, self.work.again(token, now + delay)),
                };
                if is_done {
                    self.unconfirmed.extend(partition);
                }
                answers.push((is_done, partition.map(|_| ()).ok_or_else(not_open)));
            }
            let committed = self.commit().await;
            let answer = |(is_done, answer): (bool, Result<(), Error>)| match &committed {
                Err(error) if is_done => answer.and(Err(error.clone())),
                _ => answer,
            };
            answers.into_iter().map(answer).collect()
        })
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.seek_to(to))
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async {
            let connection = self.link.connection().await?;
            let lag = self.measure(&connection).await.map_err(|cause| self.failed(cause))?;
            Ok(Some(lag))
        })
    }
}

impl Member {
    /// All partitions of the topic.
    pub(crate) async fn partitions(
        &self,
        connection: &Connection,
    ) -> Result<Vec<TopicPartition>, KrafkaError> {
        let partitions = connection.producer.partitions_for(&self.topic).await?;
        Ok(partitions.iter().map(|found| TopicPartition::new(self.topic.clone(), found.partition)).collect())
    }

    /// What lies between the group's place and the end, in offsets: those that compaction has removed count too.
    async fn measure(&self, connection: &Connection) -> Result<u64, KrafkaError> {
        let partitions = self.partitions(connection).await?;
        let options = ListConsumerGroupOffsetsOptions::default().partitions(partitions.clone());
        let committed = connection.admin.list_consumer_group_offsets(&self.group, options).await?;
        let begins = bounds(connection, &partitions, OffsetSpec::Earliest).await?;
        let ends = bounds(connection, &partitions, OffsetSpec::Latest).await?;
        let mut lag = 0;
        for place in &partitions {
            let (begin, end) = (bound(&begins, place)?, bound(&ends, place)?);
            let place = match committed.get(place) {
                Some(answer) => answer.clone()?.offset,
                None => None,
            };
            let place = place.unwrap_or(begin).max(begin);
            lag += u64::try_from(end - place).unwrap_or_default();
        }
        Ok(lag)
    }

    /// Gives up a membership that gets nothing of a partition in which there is more.
    async fn leave_if_stalled(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| self.work.waiting() < WAITING_MAX) else {
            return;
        };
        let assigned = session.consumer.assignment().await.remove(&self.topic).unwrap_or_default();
        let Ok(Ok(ends)) = timeout(LOOK, self.ends(&assigned)).await else { return };
        let mut places = Vec::new();
        for (partition, end) in ends {
            let next = session.consumer.fetch_position(&self.topic, partition).await;
            places.push(Place { partition, next, end });
        }
        if self.stalls.look(places, Instant::now()) {
            self.leave();
        }
    }

    /// The ends of partitions; one whose leader is not known is left out.
    async fn ends(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Error> {
        let connection = self.link.connection().await?;
        let places = partitions.iter().map(|partition| TopicPartition::new(self.topic.clone(), *partition));
        let places: Vec<_> = places.collect();
        let ends = bounds(&connection, &places, OffsetSpec::Latest).await;
        let ends = ends.map_err(|cause| self.failed(cause))?;
        Ok(places.iter().filter_map(|place| Some((place.partition, bound(&ends, place).ok()?))).collect())
    }
}

type Bounds = HashMap<TopicPartition, Result<ListedOffset, KrafkaError>>;

async fn bounds(
    connection: &Connection,
    places: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Bounds, KrafkaError> {
    let wanted: Vec<_> = places.iter().map(|place| (place.clone(), spec)).collect();
    connection.admin.list_offsets(wanted, ListOffsetsOptions::default()).await
}

fn bound(bounds: &Bounds, place: &TopicPartition) -> Result<i64, KrafkaError> {
    match bounds.get(place) {
        Some(answer) => Ok(answer.clone()?.offset),
        None => Err(KrafkaError::timeout("list offsets")),
    }
}

impl Member {
    /// Leaves the group behind the back of whoever goes on, so that others get its partitions at once.
    pub(crate) fn leave(&mut self) {
        let (Some(session), Ok(runtime)) = (self.session.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let options = CloseOptions::new().timeout(LEAVE_WITHIN);
            // One that cannot say so is taken out when its session is over.
            drop(session.consumer.close_with(options).await);
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}
