//! One member of a group: a durable pull consumer, asked for messages again and again.
//!
//! A pull is lost when the connection breaks, and a consumer may vanish with its stream; so each pull is short, and one that ends without
//! an answer is asked again of a consumer that is looked up anew.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Request;
use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{AckKind, Message};
use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::name::Channel;
use ensue_core::{Code, Error, Timestamp};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use smol_str::format_smolstr;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use crate::client::{Durable, Link};
use crate::codec;

/// How long the server keeps a pull open, and how much later it is given up.
const PULL: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(500);

/// See [`Consumer`].
pub(crate) struct Member {
    link: Link,
    consume: Consume,
    consumer: Option<Durable>,
    pull: Option<pull::Batch>,
    last_token: u64,
    /// Delivered and not settled, with the time of delivery.
    open: BTreeMap<u64, (Instant, Message)>,
}

impl Member {
    pub(crate) async fn join(link: Link, consume: Consume) -> Result<Self, Error> {
        let consumer = Some(link.consumer(&consume).await?);
        Ok(Self { link, consume, consumer, pull: None, last_token: 0, open: BTreeMap::new() })
    }

    fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let trying = format!("cannot consume `{}`", self.consume.from);
        self.link.failed(&trying, Code::BUS_UNREACHABLE, cause)
    }

    async fn consumer(&mut self) -> Result<&Durable, Error> {
        if self.consumer.is_none() {
            self.consumer = Some(self.link.consumer(&self.consume).await?);
        }
        self.consumer.as_ref().ok_or_else(|| Error::new(Code::BUS_UNREACHABLE, "the consumer is gone"))
    }

    /// Waits for one message; nothing where the pull has ended. Loses nothing when dropped: the pull is kept. What is asked for in batches
    /// is asked for ahead, so that the next batch is here when it is wanted.
    async fn first(&mut self, max: usize) -> Result<Option<Message>, Error> {
        if self.pull.is_none() {
            let wanted = if max == 1 { 1 } else { max.saturating_mul(2) };
            let pull = self.consumer().await?.batch().max_messages(wanted).expires(PULL).messages().await;
            self.pull = Some(pull.map_err(|cause| self.failed(cause))?);
        }
        let Some(pull) = &mut self.pull else { return Ok(None) };
        match timeout(PULL + GRACE, pull.next()).await {
            Ok(Some(Ok(message))) => Ok(Some(message)),
            Ok(None) => {
                self.pull = None;
                Ok(None)
            }
            Ok(Some(Err(cause))) => {
                (self.pull, self.consumer) = (None, None);
                Err(self.failed(cause))
            }
            Err(_) if self.link.is_down() => {
                (self.pull, self.consumer) = (None, None);
                Err(self.failed("no connection"))
            }
            Err(_) => {
                (self.pull, self.consumer) = (None, None);
                Ok(None)
            }
        }
    }

    fn deliver(&mut self, message: Message) -> Result<Delivery, Error> {
        let info = message.info().map_err(|cause| self.failed(cause))?;
        let attempt = u32::try_from(info.delivered).unwrap_or(u32::MAX).max(1);
        let published_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok();
        let place = Some(format_smolstr!("{}#{}", info.stream, info.stream_sequence));
        let (content, key) = codec::decode(&message);
        let from = Channel::new(message.subject.as_str())?;
        self.last_token += 1;
        self.open.insert(self.last_token, (Instant::now(), message));
        Ok(Delivery { token: self.last_token, from, key, attempt, published_at, place, message: content })
    }

    /// What was not settled in time is delivered again by the server, under another token.
    fn forget_late(&mut self) {
        let settle_within = self.link.config.settle_within;
        self.open.retain(|_, (delivered_at, _)| delivered_at.elapsed() < settle_within);
    }

    async fn settle_one(&self, open: Option<(Instant, Message)>, kind: AckKind) -> Result<(), Error> {
        let Some((_, message)) = open else {
            return Err(Error::new(Code::BUS_TOO_LATE, "the delivery is not open any more"));
        };
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let trying = format!("cannot settle a message of `{}`", self.consume.from);
            self.link.failed(&trying, Code::BUS_TIMEOUT, cause)
        };
        let reply = message.reply.clone().ok_or_else(|| failed("it has nowhere to be settled".into()))?;
        // A request, where `double_ack_with` would subscribe to an inbox of its own for each message.
        let request = Request::new().payload(kind.into()).timeout(Some(self.link.config.answer_within));
        let settled = self.link.client.send_request(reply, request).await;
        settled.map(drop).map_err(|cause| failed(cause.into()))
    }
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            self.forget_late();
            let first = loop {
                if let Some(message) = self.first(max.max(1)).await? {
                    break message;
                }
            };
            let mut messages = vec![first];
            // The runtime would have every 128th message look as if it had not come yet.
            while messages.len() < max
                && let Some(pull) = &mut self.pull
                && let Some(Some(Ok(message))) = unconstrained(pull.next()).now_or_never()
            {
                messages.push(message);
            }
            messages.into_iter().map(|message| self.deliver(message)).collect()
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            self.forget_late();
            let kinds = settled.into_iter().map(|settled| match settled {
                Settled::Ack(token) => (token, AckKind::Ack),
                Settled::Nack(token, delay) => (token, AckKind::Nak((!delay.is_zero()).then_some(delay))),
                Settled::Reject(token, _) => (token, AckKind::Term),
            });
            let open: Vec<_> = kinds.map(|(token, kind)| (self.open.remove(&token), kind)).collect();
            join_all(open.into_iter().map(|(open, kind)| self.settle_one(open, kind))).await
        })
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let policy = match to {
                Seek::Begin => DeliverPolicy::All,
                Seek::End => DeliverPolicy::New,
                Seek::At(time) => DeliverPolicy::ByStartTime { start_time: date_time(time)? },
            };
            (self.pull, self.consumer) = (None, None);
            self.open.clear();
            self.consumer = Some(self.link.move_consumer(&self.consume, policy).await?);
            Ok(())
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async {
            let mut consumer = self.consumer().await?.clone();
            let info = consumer.info().await.map_err(|cause| self.failed(cause))?;
            Ok(Some(info.num_pending + info.num_ack_pending as u64))
        })
    }
}

fn date_time(time: Timestamp) -> Result<DateTime, Error> {
    DateTime::from_unix_timestamp_nanos(time.as_nanosecond()).map_err(|cause| {
        Error::new(Code::BUS_REFUSED, format!("NATS knows no such time as {time}")).with_source(cause)
    })
}
