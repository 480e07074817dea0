//! A reaction: what lies ready in its topic becomes one transaction, which remembers the events and holds what they cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_postgres::Client;

use super::{BATCH_MAX, relay, table};
use crate::Failure;
use crate::course::Course;

#[derive(Serialize, Deserialize)]
struct Order {
    order: String,
}

/// Reacts until a server fails.
pub(super) async fn run(
    client: Client,
    consumer: StreamConsumer,
    step: usize,
    hint: Arc<Notify>,
) -> Result<(), Failure> {
    let react = table::prepare(&client, table::REACT).await?;
    let step = i16::try_from(step)?;
    let mut batches = consumer.stream().ready_chunks(BATCH_MAX);
    while let Some(batch) = batches.next().await {
        let batch: Vec<BorrowedMessage<'_>> = batch.into_iter().collect::<Result<_, _>>()?;
        let caused: BTreeMap<i64, Order> = batch.iter().map(caused).collect::<Result<_, _>>()?;
        let events: Vec<i64> = caused.keys().copied().collect();
        let keys: Vec<&str> = caused.values().map(|order| order.order.as_str()).collect();
        let payloads: Vec<String> = caused.values().map(serde_json::to_string).collect::<Result<_, _>>()?;
        client.execute(&react, &[&step, &events, &keys, &payloads]).await?;
        hint.notify_one();
        if let Some(last) = batch.last() {
            consumer.store_offset_from_message(last)?;
        }
    }
    Err("the consumer ended".into())
}

/// The event's id, and what the handler of these empty steps answers: the next event of the same order.
fn caused(message: &BorrowedMessage<'_>) -> Result<(i64, Order), Failure> {
    let headers = message.headers().ok_or("an event has headers")?;
    let id = headers.iter().find(|header| header.key == relay::EVENT).and_then(|header| header.value);
    let id = std::str::from_utf8(id.ok_or("an event has an id")?)?.parse()?;
    Ok((id, serde_json::from_slice(message.payload().unwrap_or_default())?))
}

/// Tells the course of every order that has ended.
pub(super) async fn follow(consumer: StreamConsumer, course: Arc<Course>) -> Result<(), Failure> {
    loop {
        let message = consumer.recv().await?;
        let order: Order = serde_json::from_slice(message.payload().unwrap_or_default())?;
        course.finished(order.order.parse()?);
        consumer.store_offset_from_message(&message)?;
    }
}
