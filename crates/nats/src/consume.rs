//! One member of a group: a durable pull consumer, asked for messages again and again.
//!
//! Requests are lost when the connection breaks, and a consumer may vanish with its stream; so where one ends without an answer, the
//! consumer is looked up anew and asked again.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::{AckKind, Message};
use async_nats::{Request, Subject};
use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::name::Channel;
use ensue_core::{Code, Error, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smol_str::format_smolstr;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use crate::client::{Durable, Link};
use crate::codec;
use crate::pulls::{OPEN_FOR, Pulls};

/// How much later than its end a request is given up that the server has not answered.
const GRACE: Duration = Duration::from_millis(500);

/// See [`Consumer`].
pub(crate) struct Member {
    link: Link,
    consume: Consume,
    consumer: Option<Durable>,
    pulls: Option<Pulls>,
    last_token: u64,
    /// Delivered and not settled: the time of delivery, and where it is settled.
    open: BTreeMap<u64, (Instant, Subject)>,
}

impl Member {
    pub(crate) async fn join(link: Link, consume: Consume) -> Result<Self, Error> {
        let consumer = Some(link.consumer(&consume).await?);
        Ok(Self { link, consume, consumer, pulls: None, last_token: 0, open: BTreeMap::new() })
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

    /// Waits for one message; nothing where there was none for a while. Loses nothing when dropped: what is under way is kept.
    async fn first(&mut self, max: usize) -> Result<Option<Message>, Error> {
        if self.pulls.is_none() {
            let consumer = self.consumer().await?.clone();
            let pulls = Pulls::of(&self.link, consumer).await;
            self.pulls = Some(pulls.map_err(|cause| self.failed(cause))?);
        }
        let Some(pulls) = &mut self.pulls else { return Ok(None) };
        let came = async {
            pulls.ask(max).await?;
            pulls.next().await
        };
        let cause = match timeout(OPEN_FOR + GRACE, came).await {
            Ok(Ok(came)) => return Ok(came),
            Ok(Err(cause)) => Some(cause),
            Err(_) => self.link.is_down().then(|| "no connection".into()),
        };
        self.ask_anew();
        cause.map_or(Ok(None), |cause| Err(self.failed(cause)))
    }

    /// A message that is here already.
    fn ready(&mut self) -> Option<Message> {
        // The runtime would have every 128th message look as if it had not come yet.
        let came = unconstrained(self.pulls.as_mut()?.next()).now_or_never()?;
        came.unwrap_or_else(|_| {
            self.ask_anew();
            None
        })
    }

    /// Whether the consumer is still there is not known.
    fn ask_anew(&mut self) {
        (self.pulls, self.consumer) = (None, None);
    }

    fn deliver(&mut self, message: &Message) -> Result<Delivery, Error> {
        let info = message.info().map_err(|cause| self.failed(cause))?;
        let attempt = u32::try_from(info.delivered).unwrap_or(u32::MAX).max(1);
        let published_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok();
        let place = Some(format_smolstr!("{}#{}", info.stream, info.stream_sequence));
        let (content, key) = codec::decode(message);
        let from = Channel::new(message.subject.as_str())?;
        let settled_at = message.reply.clone();
        let settled_at = settled_at.ok_or_else(|| self.failed("a message has nowhere to be settled"))?;
        self.last_token += 1;
        self.open.insert(self.last_token, (Instant::now(), settled_at));
        Ok(Delivery { token: self.last_token, from, key, attempt, published_at, place, message: content })
    }

    /// What was not settled in time is delivered again by the server, under another token.
    fn forget_late(&mut self) {
        let settle_within = self.link.config.settle_within;
        self.open.retain(|_, (delivered_at, _)| delivered_at.elapsed() < settle_within);
    }

    /// Sends what is settled, and waits until the server has it. The server works on what comes over a connection in order, so that its
    /// answer to the last is one to all before it; not so where the connection was made anew in between.
    async fn send(&self, settled: &[(Subject, AckKind)]) -> Result<(), Error> {
        let Some(((last, kind), others)) = settled.split_last() else { return Ok(()) };
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let trying = format!("cannot settle messages of `{}`", self.consume.from);
            self.link.failed(&trying, Code::BUS_TIMEOUT, cause)
        };
        let client = &self.link.client;
        let statistics = client.statistics();
        let connects = || statistics.connects.load(Ordering::Relaxed);
        let connects_before = connects();
        for (to, kind) in others {
            client.publish(to.clone(), (*kind).into()).await.map_err(|cause| failed(cause.into()))?;
        }
        // A request, where `double_ack_with` would subscribe to an inbox of its own.
        let request = Request::new().payload((*kind).into()).timeout(Some(self.link.config.answer_within));
        client.send_request(last.clone(), request).await.map_err(|cause| failed(cause.into()))?;
        if connects() != connects_before {
            return Err(failed("the connection was made anew meanwhile".into()));
        }
        Ok(())
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
            while messages.len() < max
                && let Some(message) = self.ready()
            {
                messages.push(message);
            }
            messages.iter().map(|message| self.deliver(message)).collect()
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
            let open: Vec<Option<(Subject, AckKind)>> =
                kinds.map(|(token, kind)| Some((self.open.remove(&token)?.1, kind))).collect();
            let sent: Vec<(Subject, AckKind)> = open.iter().flatten().cloned().collect();
            let sent = self.send(&sent).await;
            let late = || Error::new(Code::BUS_TOO_LATE, "the delivery is not open any more");
            open.iter().map(|open| if open.is_some() { sent.clone() } else { Err(late()) }).collect()
        })
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let policy = match to {
                Seek::Begin => DeliverPolicy::All,
                Seek::End => DeliverPolicy::New,
                Seek::At(time) => DeliverPolicy::ByStartTime { start_time: date_time(time)? },
            };
            self.ask_anew();
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
