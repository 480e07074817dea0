//! Carries the outbox to Kafka, in order. What is carried and not yet deleted when it dies is carried again, which the inbox
//! absorbs; so the deletion need not wait for the disk.

use std::sync::Arc;

use futures_util::future::try_join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Notify;
use tokio_postgres::Row;

use super::{BATCH_MAX, table, topic};
use crate::Failure;

/// The header that consumers know an event by.
pub(super) const EVENT: &str = "event";

/// Runs until a server fails.
pub(super) async fn run(
    postgres: String,
    kafka: String,
    topics: Vec<String>,
    hint: Arc<Notify>,
) -> Result<(), Failure> {
    let client = table::connect(&postgres).await?;
    client.batch_execute("SET synchronous_commit = off").await?;
    let waiting = table::prepare(&client, table::WAITING).await?;
    let carried = table::prepare(&client, table::CARRIED).await?;
    let producer = topic::producer(&kafka)?;
    loop {
        let rows = client.query(&waiting, &[&i64::try_from(BATCH_MAX)?]).await?;
        if rows.is_empty() {
            hint.notified().await;
            continue;
        }
        let sent: Result<Vec<_>, Failure> = rows.iter().map(|row| send(&producer, &topics, row)).collect();
        for delivered in try_join_all(sent?).await? {
            delivered.map_err(|(error, _)| error)?;
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        client.execute(&carried, &[&ids]).await?;
    }
}

fn send(
    producer: &FutureProducer,
    topics: &[String],
    row: &Row,
) -> Result<rdkafka::producer::DeliveryFuture, Failure> {
    let topic: i16 = row.get(1);
    let topic = topics.get(usize::try_from(topic)?).ok_or("every event has a topic")?;
    let (id, key, payload): (i64, &str, &str) = (row.get(0), row.get(2), row.get(3));
    let id = id.to_string();
    let headers = OwnedHeaders::new().insert(Header { key: EVENT, value: Some(&id) });
    let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
    producer.send_result(record).map_err(|(error, _)| error.into())
}
