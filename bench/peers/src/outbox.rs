//! A hand-written service, written for throughput. What a step causes goes into an outbox in PostgreSQL, in the transaction
//! that remembers its event as handled; a relay carries the outbox to Kafka; five consumers react, each in a group of its own.
//!
//! Every wait is for a hint or for a message, never for a poll; every transaction is a batch of what is there, at most 500. One
//! process holds it all, so that a hint costs nothing: several services would have to send it through the database.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::Failure;
use crate::course::{Course, Figures, Load};

mod intake;
mod reaction;
mod relay;
mod table;
mod topic;

/// Events in a transaction.
const BATCH_MAX: usize = 500;

/// The events of an order: each but the last has a reaction that causes the next.
const EVENTS: [&str; 6] = ["placed", "paid", "reserved", "shipped", "notified", "closed"];

/// Where the servers are.
#[derive(Args)]
pub(crate) struct Outbox {
    /// postgres://USER@HOST:PORT/DATABASE
    #[arg(long)]
    postgres: String,
    /// HOST:PORT
    #[arg(long)]
    kafka: String,
    /// When Kafka's log is on the disk
    #[arg(long, value_enum, default_value_t = Flush::EveryBatch)]
    flush: Flush,
}

/// When Kafka's log is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flush {
    /// Before a batch is acknowledged, as everything else here is.
    EveryBatch,
    /// When the operating system writes its pages back, which is Kafka's default: not durable on a single machine.
    Never,
}

impl Outbox {
    /// New tables, new topics, the service, and the load.
    pub(crate) async fn run(self, load: Load) -> Result<Figures, Failure> {
        table::make(&self.postgres).await?;
        let topics = topic::make(&self.kafka, self.flush).await?;
        let course = Course::new();
        let hint = Arc::new(Notify::new());
        let (place, placed) = mpsc::channel(1_024);

        let mut service = JoinSet::new();
        service.spawn(intake::run(table::connect(&self.postgres).await?, Arc::clone(&hint), placed));
        service.spawn(relay::run(
            self.postgres.clone(),
            self.kafka.clone(),
            topics.clone(),
            Arc::clone(&hint),
        ));
        for step in 0..EVENTS.len() - 1 {
            let consumer = topic::consumer(&self.kafka, &topics, step)?;
            let client = table::connect(&self.postgres).await?;
            service.spawn(reaction::run(client, consumer, step, Arc::clone(&hint)));
        }
        let closed = topic::consumer(&self.kafka, &topics, EVENTS.len() - 1)?;
        service.spawn(reaction::follow(closed, Arc::clone(&course)));

        tokio::select! {
            figures = course.run(intake::Intake(place), load) => figures,
            Some(ended) = service.join_next() => Err(ended?.err().unwrap_or_else(|| "a part of the service ended".into())),
        }
    }
}
