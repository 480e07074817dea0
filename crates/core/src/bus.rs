//! The port to a broker. Handlers never see it: a broker is a link between two logs.
//!
//! An adapter says events in its broker's own words (headers, message ids, routing keys) when it publishes, and hands over what
//! arrives as it is: reading a message is the business of the link, because it may come from somebody who has never heard of
//! us, and must be kept as it came if it cannot be read.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use smol_str::SmolStr;

use crate::capability::BusCapabilities;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::name::{Channel, StreamName, SubscriptionName};

/// A connection to a broker. It is shared by tasks and reconnects by itself; a call that cannot be carried out in the
/// meantime fails with a retryable error.
pub trait Bus: Send + Sync {
    /// What this broker can do.
    fn capabilities(&self) -> &BusCapabilities;

    /// Compares the broker with the topology and, where asked to, makes what is missing. Never changes or removes what exists:
    /// what is there and is otherwise than the topology needs is an error that names both.
    fn declare(&self, topology: &Topology, declare: Declare) -> BoxFuture<'_, Result<Declared, Error>>;

    /// Publishes in order and answers for each message, in the same order. A message is published when the broker has it
    /// safely, not before. Where one fails, those of the same channel and key behind it in the batch fail too, so that no key
    /// is ever out of order. Dropping the future leaves the outcome open.
    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>>;

    /// Joins a consumer group.
    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>>;
}

/// One member of a consumer group. Dropping it leaves the group; what it has not settled is delivered again.
pub trait Consumer: Send {
    /// Waits for at least one message and returns at most `max`. Dropping the future loses nothing.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;

    /// Settles messages one by one, never cumulatively, and answers for each. One that cannot be settled, because its time was
    /// over or its connection is gone, is delivered again.
    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>>;

    /// Goes on from elsewhere, for the whole group. Fails with `E0506` where the broker keeps no history.
    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<(), Error>>;

    /// How many messages wait for this group in the broker, where the broker can say.
    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>>;
}

/// What a link needs of its broker.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// What is published to.
    pub targets: Vec<Channel>,
    /// What is consumed.
    pub sources: Vec<Consume>,
}

/// How far [`Bus::declare`] goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declare {
    /// Says what is missing and makes nothing.
    DryRun,
    /// Makes what is missing.
    Make,
}

/// The difference between a topology and a broker, in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// One line for each thing that was there.
    pub found: Vec<String>,
    /// One line for each thing that was missing, and that was made unless this was a dry run.
    pub missing: Vec<String>,
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Where to.
    pub to: Channel,
    /// The stream of the event. Order is kept per key.
    pub stream: StreamName,
    /// What.
    pub envelope: Envelope,
    /// How.
    pub mode: Mode,
}

/// How an event becomes a message, in the words of `CloudEvents`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Attributes are headers, the data is the body.
    #[default]
    Binary,
    /// The body is a JSON document of both.
    Structured,
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
    /// The consumer group. Each group gets every message, each member of a group a share of them.
    pub group: SubscriptionName,
    /// From where.
    pub from: Channel,
    /// What feeds the channel, where the broker tells what is published to from what is consumed: an exchange, a topic, a bus.
    /// Elsewhere ([`can_feed`](BusCapabilities::can_feed)) nothing stands here; the runtime sees to it.
    pub fed_by: Option<Feed>,
}

/// Where a channel gets its messages from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feed {
    /// What is published to.
    pub from: Channel,
    /// Which of it, as the broker writes it (a routing key, a pattern); all of it where nothing is said.
    pub filter: Option<SmolStr>,
}

/// Where to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// With the oldest message that the broker still has.
    Begin,
    /// With what is published from now on.
    End,
    /// With the first message published at or after a time.
    At(Timestamp),
}

/// A message that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Names this delivery when it is settled, to the consumer that handed it out.
    pub token: u64,
    /// Where it came from.
    pub from: Channel,
    /// The key by which the broker orders it, if it has one.
    pub key: Option<SmolStr>,
    /// How often it was delivered, from 1; 1 where the broker does not count.
    pub attempt: u32,
    /// When the broker got it, where it says so.
    pub published_at: Option<Timestamp>,
    /// Where the broker keeps it, such as topic, partition and offset, where that is the same each time it is delivered and
    /// no other message's. It tells apart messages that bring no id of their own; where there is none, the first delivery does.
    pub place: Option<SmolStr>,
    /// What.
    pub message: Message,
}

/// What a broker carries: headers and a body.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Headers in their order, names as they came. Properties that a broker keeps outside of headers are among them under
    /// the broker's name, such as `amqp:correlation-id`.
    pub headers: Vec<(SmolStr, Bytes)>,
    /// The content type, where the broker has a place for it.
    pub content_type: Option<SmolStr>,
    /// The body, as it came.
    pub body: Bytes,
}

/// What became of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Done with.
    Ack(u64),
    /// Again, not before so long.
    Nack(u64, Duration),
    /// Never again, and why: to the dead letters of the broker where it has them.
    Reject(u64, String),
}
