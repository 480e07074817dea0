//! One member of a group: a consumer of a queue on a channel of its own, which it joins again when that has ended.
//!
//! Invariants: a message leaves the queue when its settlement is known to be safe: what is put off or refused is confirmed where it goes
//! before it is acknowledged where it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Arrival;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use crate::client::Link;
use crate::codec::{self, Letter};
use crate::error;
use crate::hand::{self, Hand};
use crate::post::post;
use crate::topology::{dead_letters, text};

/// How far apart two attempts to join are.
const JOINS_EVERY: Duration = Duration::from_millis(250);
/// How often one that waits looks whether its channel is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time that a queue can put a message off.
const DELAY_MAX: Duration = Duration::from_hours(24 * 24);
/// How often a queue is counted that changes while it is.
const LOOKS_MAX: u32 = 3;
const DELAY_MS_MIN: u64 = 32;

/// See [`Consumer`].
pub(crate) struct Member {
    link: Arc<Link>,
    consume: Consume,
    pace: Interval,
    joined: Option<Joined>,
    hand: Hand,
    /// Put off where only one is in flight: it stays in hand, so that nothing passes it.
    held: Option<(Instant, Arrival)>,
}

struct Joined {
    channel: lapin::Channel,
    consumer: lapin::Consumer,
    /// Arrived, and not yet handed out.
    waiting: VecDeque<Arrival>,
    /// Nothing more will arrive: the broker has ended it, or its channel is gone.
    is_over: bool,
}

impl Member {
    pub(crate) async fn join(link: Arc<Link>, consume: Consume) -> Result<Self, Error> {
        let queue = consume.from.as_str();
        if !link.queue_exists(queue).await? {
            let message = format!("cannot consume `{queue}`: there is no such queue");
            return Err(Error::new(Code::BUS_UNROUTABLE, message));
        }
        link.check_queue(&consume).await?;
        let mut pace = interval(JOINS_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hand = Hand::new(link.config.settle_within);
        let mut member = Self { link, consume, pace, joined: None, hand, held: None };
        member.joined().await?;
        Ok(member)
    }

    fn trying(&self) -> String {
        format!("cannot consume `{}`", self.consume.from)
    }

    /// The consumer, joined again where it is gone. What was in hand then is delivered again by the broker.
    async fn joined(&mut self) -> Result<&mut Joined, Error> {
        if self.joined.as_ref().is_some_and(|joined| !joined.channel.status().connected()) {
            self.leave();
        }
        let joined = match self.joined.take() {
            Some(joined) => joined,
            None => self.rejoin().await?,
        };
        Ok(self.joined.insert(joined))
    }

    fn leave(&mut self) {
        self.joined = None;
        self.hand.clear();
        self.held = None;
    }

    async fn rejoin(&mut self) -> Result<Joined, Error> {
        self.pace.tick().await;
        let (trying, line) = (self.trying(), &self.link.consuming);
        let queue = error::short("name of the queue", self.consume.from.as_str())?;
        let channel = line.channel(&trying).await?;
        let in_flight_max = self.link.config.in_flight_max;
        line.answer(&trying, channel.basic_qos(in_flight_max, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let consumer = line.answer(&trying, consuming).await?;
        Ok(Joined { channel, consumer, waiting: VecDeque::new(), is_over: false })
    }

    /// Waits for one message at least. Loses nothing when dropped: what has arrived is kept.
    async fn arrive(&mut self) -> Result<(), Error> {
        loop {
            self.hand_back().await;
            let due = self.held.as_ref().map(|(due, _)| *due);
            let joined = self.joined().await?;
            if !joined.waiting.is_empty() {
                return Ok(());
            }
            if joined.is_over {
                self.leave();
                continue;
            }
            let look = Instant::now() + LOOK_EVERY;
            match timeout_at(due.map_or(look, |due| due.min(look)), joined.consumer.next()).await {
                Ok(Some(Ok(arrival))) => joined.waiting.push_back(arrival),
                Ok(Some(Err(cause))) => {
                    let trying = self.trying();
                    self.leave();
                    return Err(error::failed(&trying, cause));
                }
                Ok(None) => self.leave(),
                Err(_) => {} // what is held is to be handed back, or the channel has ended and nobody was told
            }
        }
    }

    /// Gives back what was held for long enough.
    async fn hand_back(&mut self) {
        let Some((_, arrival)) = self.held.take_if(|(due, _)| *due <= Instant::now()) else { return };
        // Where the channel is gone, the broker has taken it back already.
        hand::give_back(&arrival, self.link.config.answer_within).await;
    }

    fn deliver(&mut self, arrival: Arrival) -> Delivery {
        let (message, key) = codec::decode(&arrival);
        let attempt = codec::attempt(&arrival);
        let from: Channel = self.consume.from.clone();
        let token = self.hand.take(arrival);
        Delivery { token, from, key, attempt, published_at: None, place: None, message }
    }

    /// The message that goes elsewhere before this one is done with, if there is one.
    async fn copy(&self, settled: &Settled) -> Result<Option<Letter>, Error> {
        let queue = self.consume.from.as_str();
        match settled {
            Settled::Nack(token, delay) if !delay.is_zero() && self.link.config.in_flight_max > 1 => {
                let (retry, delay_ms) = self.link.need_retry_queue(queue, *delay).await?;
                let retry = error::short("name of the queue", &retry)?;
                let letter = self.hand.look(*token, |arrival| codec::again(arrival, &retry));
                Ok(letter.map(|mut letter| {
                    letter.properties = letter.properties.with_expiration(delay_ms.to_string().into());
                    letter
                }))
            }
            Settled::Reject(token, reason) => {
                let dead = dead_letters(queue);
                self.link.need_queue(&dead, FieldTable::default()).await?;
                let dead = error::short("name of the queue", &dead)?;
                Ok(self.hand.look(*token, |arrival| codec::dead(arrival, &dead, reason)))
            }
            _ => Ok(None),
        }
    }

    /// Settles one whose copy, if it needs one, is safe.
    async fn finish(&mut self, settled: &Settled) -> Result<(), Error> {
        let (Settled::Ack(token) | Settled::Nack(token, _) | Settled::Reject(token, _)) = settled;
        let Some(arrival) = self.hand.remove(*token) else {
            return Err(error::too_late(
                "it was settled before, handed back after its time, or its connection is gone",
            ));
        };
        let within = self.link.config.answer_within;
        let is_settled = match settled {
            Settled::Nack(_, delay) if delay.is_zero() => hand::give_back(&arrival, within).await,
            Settled::Nack(_, delay) if self.link.config.in_flight_max == 1 => {
                self.held = Some((Instant::now() + *delay, arrival));
                return Ok(());
            }
            _ => hand::ack(&arrival, within).await,
        };
        if !is_settled {
            // All of this channel comes again; what else is in hand need not be tried.
            self.leave();
            return Err(error::too_late("its channel has ended"));
        }
        Ok(())
    }

    /// Sends the copies and says for which of the settlements that failed.
    async fn send_copies(&self, settled: &[Settled]) -> Vec<Option<Error>> {
        let mut failures: Vec<Option<Error>> = settled.iter().map(|_| None).collect();
        let mut letters = Vec::new();
        let mut places = Vec::new();
        for (place, settled) in failures.iter_mut().zip(settled) {
            match self.copy(settled).await {
                Ok(Some(letter)) => {
                    letters.push(letter);
                    places.push(place);
                }
                Ok(None) => {}
                Err(error) => *place = Some(error),
            }
        }
        if letters.is_empty() {
            return failures;
        }
        match post(&self.link, &letters).await {
            Ok(outcomes) => {
                for (place, outcome) in places.into_iter().zip(outcomes) {
                    *place = outcome.err();
                }
            }
            Err(error) => places.into_iter().for_each(|place| *place = Some(error.clone())),
        }
        failures
    }
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            self.arrive().await?;
            let Some(joined) = &mut self.joined else { return Ok(Vec::new()) };
            joined.fill();
            let count = joined.waiting.len().min(max.max(1));
            let arrivals: Vec<_> = joined.waiting.drain(..count).collect();
            Ok(arrivals.into_iter().map(|arrival| self.deliver(arrival)).collect())
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            self.hand_back().await;
            let failures = self.send_copies(&settled).await;
            let mut answers = Vec::with_capacity(settled.len());
            for (settled, failure) in settled.iter().zip(failures) {
                answers.push(match failure {
                    Some(error) => Err(error),
                    None => self.finish(settled).await,
                });
            }
            answers
        })
    }

    fn seek(&mut self, _to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            Err(Error::new(Code::UNSUPPORTED, "a queue of RabbitMQ keeps no history to go back to").with_fix(
                "publish again from the log of the other side; what was taken before is recognised as a duplicate",
            ))
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async {
            let trying = self.trying();
            let queue = error::short("name of the queue", self.consume.from.as_str())?;
            let in_hand = (self.hand.len() + usize::from(self.held.is_some())) as u64;
            let link = Arc::clone(&self.link);
            let joined = self.joined().await?;
            let mut ready = joined.ready(&link, &trying, &queue).await?;
            for _ in 0..LOOKS_MAX {
                joined.flush(&link, &trying).await?;
                let before = std::mem::replace(&mut ready, joined.ready(&link, &trying, &queue).await?);
                if before == ready {
                    break;
                }
            }
            Ok(Some(ready + joined.waiting.len() as u64 + in_hand))
        })
    }
}

impl Joined {
    /// How many messages are in the queue and on the way to nobody.
    async fn ready(&self, link: &Link, trying: &str, queue: &ShortString) -> Result<u64, Error> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let looking = self.channel.queue_declare(queue.clone(), options, FieldTable::default());
        Ok(u64::from(link.consuming.answer(trying, looking).await?.message_count()))
    }

    /// Has the messages arrive that are on the way to us: what the channel answers comes behind them.
    async fn flush(&mut self, link: &Link, trying: &str) -> Result<(), Error> {
        let asking = self.channel.basic_qos(link.config.in_flight_max, BasicQosOptions::default());
        link.consuming.answer(trying, asking).await?;
        self.fill();
        Ok(())
    }

    /// Takes what has arrived.
    fn fill(&mut self) {
        while let Some(next) = self.consumer.next().now_or_never() {
            match next {
                Some(Ok(arrival)) => self.waiting.push_back(arrival),
                Some(Err(_)) | None => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

impl Link {
    /// The queue that puts messages off for about this long, made where it is missing, and how long exactly.
    ///
    /// A queue looks at the time of its first message only, so one that waits long would hold up those behind it. Therefore messages
    /// wait in queues by the length of their delay, four for each doubling: none is late by more than a quarter.
    async fn need_retry_queue(&self, queue: &str, delay: Duration) -> Result<(String, u64), Error> {
        if delay > DELAY_MAX {
            let message = format!("RabbitMQ puts a message off for {DELAY_MAX:?} at most, not for {delay:?}");
            return Err(
                Error::new(Code::UNSUPPORTED, message).with_fix("put it off for less, and again afterwards")
            );
        }
        let delay_ms = u64::try_from(delay.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let longest_ms = step(delay_ms);
        let name = format!("{queue}.retry.{longest_ms}ms");
        let mut settings = FieldTable::default();
        settings.insert(
            "x-message-ttl".into(),
            AMQPValue::LongLongInt(i64::try_from(longest_ms).unwrap_or(i64::MAX)),
        );
        settings.insert("x-overflow".into(), text("reject-publish"));
        settings.insert("x-dead-letter-exchange".into(), text(""));
        settings.insert("x-dead-letter-routing-key".into(), text(queue));
        settings.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        self.need_queue(&name, settings).await?;
        Ok((name, delay_ms))
    }

    /// Makes a queue of ours unless it was there when it was last looked at.
    async fn need_queue(&self, name: &str, settings: FieldTable) -> Result<(), Error> {
        let known = format!("queue {name}");
        if self.knows(&known) {
            return Ok(());
        }
        let mut all = self.plain_settings();
        for (name, value) in &settings {
            all.insert(name.clone(), value.clone());
        }
        self.make_queue(name, all).await?;
        self.remember(&known);
        Ok(())
    }
}

/// The smallest of 4, 5, 6 and 7 times a power of two that is not below.
fn step(delay_ms: u64) -> u64 {
    let delay_ms = delay_ms.max(DELAY_MS_MIN);
    let unit = 1 << (u64::BITS - delay_ms.leading_zeros() - 3);
    delay_ms.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delay_is_shorter_than_asked_for_or_longer_by_more_than_a_quarter() {
        let delays = (1..5000).chain([86_400_000, 1_000_000_007]);
        for delay_ms in delays {
            let longest_ms = step(delay_ms);
            assert!(longest_ms >= delay_ms, "{delay_ms} {longest_ms}");
            assert!(longest_ms * 4 <= delay_ms.max(DELAY_MS_MIN) * 5, "{delay_ms} {longest_ms}");
        }
        let steps: std::collections::BTreeSet<u64> = (1024..2048).map(step).collect();
        assert_eq!(steps.into_iter().collect::<Vec<_>>(), [1024, 1280, 1536, 1792, 2048]);
    }
}
