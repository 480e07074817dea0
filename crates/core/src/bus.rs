//! The port to a broker. Handlers never see it: a broker is a link between two logs.

use std::time::Duration;

use futures_util::future::BoxFuture;
use smol_str::SmolStr;

use crate::capability::BusCapabilities;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::name::{Key, SubscriptionName, Topic};

/// A connection to a broker. Reconnects by itself; a call that cannot be carried out in the meantime fails with a
/// retryable error.
pub trait Bus: Send + Sync {
    /// What this broker can do.
    fn capabilities(&self) -> &BusCapabilities;

    /// Makes the broker hold what the topology names, and says what had to be made. Changes nothing that exists.
    fn declare(&self, topology: &Topology) -> BoxFuture<'_, Result<Declared, Error>>;

    /// Publishes in order. Resolves when the broker has each message safely, or says for each why not. Dropping the
    /// future leaves the outcome open.
    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>>;

    /// Joins a consumer group.
    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>>;
}

/// One member of a consumer group.
pub trait Consumer: Send {
    /// Waits for at least one message and returns at most `max`. Dropping the future loses nothing.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;

    /// Settles messages one by one, never cumulatively.
    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), Error>>;
}

/// Topics and who reads them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// What is published to.
    pub topics: Vec<Topic>,
    /// Who consumes which topic.
    pub groups: Vec<(SubscriptionName, Topic)>,
}

/// What [`Bus::declare`] had to make, in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// One line for each thing made.
    pub made: Vec<String>,
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// Order is kept per key.
    pub key: Key,
    /// What.
    pub envelope: Envelope,
}

/// The broker's confirmation: where the message went, as the broker names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// For logs and support.
    pub place: SmolStr,
}

/// What to consume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consume {
    /// The consumer group.
    pub group: SubscriptionName,
    /// From where.
    pub topics: Vec<Topic>,
}

/// A message that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Names this delivery when it is settled.
    pub token: u64,
    /// Where it came from.
    pub topic: Topic,
    /// Its key, if it has one.
    pub key: Option<Key>,
    /// How often it was delivered, from 1.
    pub attempt: u32,
    /// What.
    pub envelope: Envelope,
}

/// What became of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Done with.
    Ack(u64),
    /// Again, after a while.
    Nack(u64, Duration),
    /// Never again.
    Reject(u64, String),
}
