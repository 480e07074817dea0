//! Publishing: what a call has for one partition goes out in one batch of records, which Kafka takes or refuses as a whole. So no message
//! can be kept while one before it in the same call, and of the same key, is not.
//!
//! The producer of the driver gathers what it is given until it is told to send, or for longer than a call takes. A call that has more
//! than a batch holds sends one batch after the other's confirmation; calls that have less share a batch.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use ensue_core::bus::{Outgoing, Receipt};
use ensue_core::name::Channel;
use ensue_core::{Code, Error, Key};
use futures_util::future::{Either, join_all, select};
use krafka::producer::{DeliveryHandle, Producer, RecordMetadata};
use krafka::{Kafka, KrafkaError, Record};
use smol_str::format_smolstr;

use crate::client::{Connection, Link};
use crate::codec;
use crate::error::{failed, is_missing, too_large};

/// How many calls are under way at once.
pub(crate) const CALLS_MAX: usize = 16;
/// What a batch is at least, and what of it is not records.
const BATCH_BYTES_MIN: usize = 1_000_000;
const BATCH_OVERHEAD: usize = 256;

type Answer = Result<Receipt, Error>;

/// The producer, with room for all calls that may be under way.
pub(crate) async fn producer(link: &Link, kafka: &Kafka) -> Result<Producer, KrafkaError> {
    let batch_bytes = batch_bytes(link);
    kafka
        .producer()
        .batch_size(batch_bytes)
        .buffer_memory(2 * CALLS_MAX * (batch_bytes + BATCH_OVERHEAD))
        .linger(link.request_within())
        .delivery_timeout(2 * link.request_within())
        .max_block(link.config.answer_within)
        .metrics_push(false)
        .build()
        .await
}

fn batch_bytes(link: &Link) -> usize {
    (link.config.message_bytes_max + BATCH_OVERHEAD).max(BATCH_BYTES_MIN)
}

/// Answers for each message, in the order in which they were given.
pub(crate) async fn publish(link: &Link, batch: Vec<Outgoing>) -> Vec<Answer> {
    let connection = match link.connection().await {
        Ok(connection) => connection,
        Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut call = Call::new(link, &connection, batch.len());
    for (index, outgoing) in batch.into_iter().enumerate() {
        call.add(index, &outgoing).await;
    }
    call.send().await;
    let (answers, is_over) = (call.answers, call.is_over);
    if is_over {
        link.forget(&connection).await;
    }
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect()
}

/// One call to publish.
struct Call<'a> {
    link: &'a Link,
    connection: &'a Arc<Connection>,
    answers: Vec<Option<Answer>>,
    /// What failed first for a key, and where in the call.
    failures: HashMap<(Channel, Key), (usize, Error)>,
    /// What goes out next.
    chunk: Vec<Pending>,
    chunk_bytes: usize,
    /// The least that a topic of the chunk takes in one batch.
    chunk_bytes_max: usize,
    /// Whether the driver's producer cannot go on.
    is_over: bool,
}

/// A message that the producer has, and its answer.
type Handed = ((usize, (Channel, Key)), DeliveryHandle);

struct Pending {
    index: usize,
    key: (Channel, Key),
    record: Record,
}

impl<'a> Call<'a> {
    fn new(link: &'a Link, connection: &'a Arc<Connection>, messages: usize) -> Self {
        Self {
            link,
            connection,
            answers: vec![None; messages],
            failures: HashMap::new(),
            chunk: Vec::new(),
            chunk_bytes: 0,
            chunk_bytes_max: usize::MAX,
            is_over: false,
        }
    }

    async fn add(&mut self, index: usize, outgoing: &Outgoing) {
        let key = (outgoing.to.clone(), outgoing.stream.key.clone());
        if let Some(before) = self.failure_before(index, &key) {
            return self.settle(index, key, Err(before));
        }
        let topic = self.link.topic(&outgoing.to);
        let record = codec::encode(outgoing, &topic);
        let bytes = record.estimated_size();
        let bytes_max = match self.connection.batch_bytes_max(&topic).await {
            Ok(bytes_max) => bytes_max.saturating_sub(BATCH_OVERHEAD).min(batch_bytes(self.link)),
            Err(cause) => return self.settle(index, key, Err(unpublished(&outgoing.to, cause))),
        };
        let message_bytes_max = self.link.config.message_bytes_max.min(bytes_max);
        if bytes > message_bytes_max {
            let error = too_large(outgoing.to.as_str(), bytes, message_bytes_max);
            return self.settle(index, key, Err(error));
        }
        if self.chunk_bytes + bytes > bytes_max {
            self.send().await;
        }
        self.chunk_bytes += bytes;
        self.chunk_bytes_max = self.chunk_bytes_max.min(bytes_max);
        self.chunk.push(Pending { index, key, record });
    }

    /// Once one of a key has failed, those behind it fail too.
    fn failure_before(&self, index: usize, key: &(Channel, Key)) -> Option<Error> {
        let (first, error) = self.failures.get(key)?;
        (*first < index).then(|| {
            let message = format!("not sent, because one of the same key before it failed: {error}");
            Error::new(error.code(), message)
        })
    }

    fn settle(&mut self, index: usize, key: (Channel, Key), answer: Answer) {
        let answer = self.failure_before(index, &key).map_or(answer, Err);
        if let Err(error) = &answer {
            let failure = self.failures.entry(key).or_insert_with(|| (index, error.clone()));
            if index < failure.0 {
                *failure = (index, error.clone());
            }
        }
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = Some(answer);
        }
    }

    /// Sends the chunk and waits for what becomes of it.
    async fn send(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return;
        }
        let connection = self.connection;
        let Ok(_room) = connection.room.acquire().await else { return };
        let (handed, departure) = self.hand_over(chunk).await;
        let (places, handles): (Vec<_>, Vec<_>) = handed.into_iter().unzip();
        let departs = pin!(connection.gathering.depart(&connection.producer, departure));
        let confirmed = match select(join_all(handles), departs).await {
            Either::Left((confirmed, _)) => confirmed,
            Either::Right((_turn, confirmed)) => confirmed.await,
        };
        for ((index, key), confirmed) in places.into_iter().zip(confirmed) {
            self.is_over |= confirmed.as_ref().is_err_and(KrafkaError::is_fatal);
            let answer = confirmed.map(|place| receipt(&place)).map_err(|cause| unpublished(&key.0, cause));
            self.settle(index, key, answer);
        }
    }

    /// Gives all of it to the producer, with nobody else's messages in between, and says with which departure it goes out.
    async fn hand_over(&mut self, chunk: Vec<Pending>) -> (Vec<Handed>, u64) {
        let bytes = std::mem::take(&mut self.chunk_bytes);
        let bytes_max = std::mem::replace(&mut self.chunk_bytes_max, usize::MAX);
        let connection = self.connection;
        let gathered = connection.gathering.join(&connection.producer, bytes, bytes_max).await;
        let mut handed = Vec::with_capacity(chunk.len());
        for Pending { index, key, record } in chunk {
            if let Some(before) = self.failure_before(index, &key) {
                self.settle(index, key, Err(before));
                continue;
            }
            match connection.producer.enqueue(record).await {
                Ok(handle) => handed.push(((index, key), handle)),
                Err(cause) => {
                    self.is_over |= cause.is_fatal();
                    let error = unpublished(&key.0, cause);
                    self.settle(index, key, Err(error));
                }
            }
        }
        (handed, gathered.departures())
    }
}

/// Cannot happen while the driver keeps its word.
fn unanswered() -> Error {
    Error::new(Code::BUS_REFUSED, "the driver gave no answer for a message")
}

fn unpublished(channel: &Channel, cause: KrafkaError) -> Error {
    let trying = format!("cannot publish to `{channel}`");
    if is_missing(&cause) { Connection::unroutable(&trying) } else { failed(&trying, cause) }
}

fn receipt(place: &RecordMetadata) -> Receipt {
    Receipt { place: format_smolstr!("{}[{}]@{}", place.topic, place.partition, place.offset) }
}
