//! One member of a group: messages come on a stream that the service ends from time to time, and settling has calls of its own.
//!
//! A task of its own takes messages in and extends their leases, so both go on whatever the caller does; it ends when the member is
//! dropped, and hands back what it has.
//!
//! Invariants: what is refused for good is confirmed where it goes before it is acknowledged where it was.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use futures_util::future::{BoxFuture, join_all};
use smol_str::format_smolstr;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::Link;
use crate::error::Refused;
use crate::hand::Hand;
use crate::pull::Puller;
use crate::wire::{ACKNOWLEDGE, Acknowledge, Empty, MODIFY_ACK_DEADLINE, ModifyAckDeadline, Received};
use crate::{codec, error, topology};

/// How many are settled by one call; the service takes requests of 512 KiB here.
const SETTLED_MAX: usize = 1000;

/// See [`Consumer`].
pub(crate) struct Member {
    link: Arc<Link>,
    from: Channel,
    subscription: String,
    /// Where to what was refused for good is published.
    dead_letters: Option<String>,
    hand: Arc<Hand>,
    /// When it is dropped, the task that works for this member ends.
    _stay: oneshot::Sender<()>,
}

impl Member {
    pub(crate) async fn join(link: Arc<Link>, consume: Consume) -> Result<Self, Error> {
        let found = link.subscription(&consume).await?;
        let hand = Arc::new(Hand::new(&link.config));
        let (stay, left) = oneshot::channel();
        let puller = Puller {
            link: Arc::clone(&link),
            from: consume.from.clone(),
            subscription: found.name.clone(),
            hand: Arc::clone(&hand),
        };
        tokio::spawn(puller.run(left));
        let dead_letters = found.dead_letter.map(|policy| policy.topic);
        Ok(Self { link, from: consume.from, subscription: found.name, dead_letters, hand, _stay: stay })
    }

    fn delivery(&self, token: u64, received: &Received) -> Delivery {
        let came = received.message.clone().unwrap_or_default();
        let (message, key) = codec::decode(&came);
        Delivery {
            token,
            from: self.from.clone(),
            key,
            attempt: u32::try_from(received.delivery_attempt).unwrap_or(1).max(1),
            published_at: came.publish_time.and_then(codec::time),
            place: Some(format_smolstr!("{}/{}", topology::id(&self.subscription), came.message_id)),
            message,
        }
    }

    /// Publishes the dead letter; nothing is kept where the subscription has no place for it.
    async fn bury(&self, received: &Received, reason: &str) -> Result<(), Error> {
        let (Some(topic), Some(message)) = (&self.dead_letters, &received.message) else { return Ok(()) };
        let letter = codec::dead(message, &self.subscription, reason);
        self.link.publish_request(topic, vec![letter]).await.map(drop)
    }

    async fn acknowledge(&self, ack_ids: Vec<String>) -> Result<(), Refused> {
        let asked = Acknowledge { subscription: self.subscription.clone(), ack_ids };
        let answered: Result<Empty, _> = self.link.call(&ACKNOWLEDGE, &self.subscription, asked).await;
        let trying = || format!("cannot acknowledge what came from `{}`", self.from);
        answered.map(drop).map_err(|failure| Refused::new(&trying(), failure))
    }
}

impl Link {
    /// Sets how much longer these are ours; no time hands them back.
    pub(crate) async fn lease(
        &self,
        subscription: &str,
        received: Vec<Received>,
        time: Duration,
    ) -> Result<(), Error> {
        let ack_ids: Vec<String> = received.into_iter().map(|received| received.ack_id).collect();
        self.lease_ids(subscription, &ack_ids, time).await
    }

    pub(crate) async fn lease_ids(
        &self,
        subscription: &str,
        ack_ids: &[String],
        time: Duration,
    ) -> Result<(), Error> {
        let seconds = i32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        for part in ack_ids.chunks(SETTLED_MAX) {
            let asked = ModifyAckDeadline {
                subscription: subscription.to_owned(),
                ack_deadline_seconds: seconds,
                ack_ids: part.to_vec(),
            };
            let answered: Result<Empty, _> = self.call(&MODIFY_ACK_DEADLINE, subscription, asked).await;
            answered.map_err(|failure| {
                let id = topology::id(subscription);
                error::failed(&format!("cannot change the leases of what came from `{id}`"), failure)
            })?;
        }
        Ok(())
    }
}

/// What becomes of the deliveries of one call, by their places in it.
#[derive(Default)]
struct Plan {
    acks: Vec<(usize, Received)>,
    backs: Vec<(usize, Received)>,
    rejects: Vec<(usize, Received, String)>,
    answers: Vec<Result<(), Error>>,
}

impl Plan {
    fn answer(&mut self, place: usize, answer: Result<(), Error>) {
        if let Some(slot) = self.answers.get_mut(place) {
            *slot = answer;
        }
    }
}

impl Member {
    /// Takes them out of hand. What is put off stays, and is done with here.
    fn plan(&self, settled: Vec<Settled>) -> Plan {
        let mut plan = Plan::default();
        let mut state = self.hand.lock();
        for (place, settled) in settled.into_iter().enumerate() {
            let (Settled::Ack(token) | Settled::Nack(token, _) | Settled::Reject(token, _)) = &settled;
            let Some(received) = state.remove(*token) else {
                plan.answers.push(Err(error::too_late()));
                continue;
            };
            plan.answers.push(Ok(()));
            match settled {
                Settled::Ack(_) => plan.acks.push((place, received)),
                Settled::Nack(_, delay) if delay.is_zero() => plan.backs.push((place, received)),
                Settled::Nack(_, delay) => state.hold(received, Instant::now() + delay),
                Settled::Reject(_, reason) => plan.rejects.push((place, received, reason)),
            }
        }
        plan
    }

    async fn reject(&self, plan: &mut Plan) {
        let rejects = std::mem::take(&mut plan.rejects);
        let buried = rejects.iter().map(|(_, received, reason)| self.bury(received, reason));
        let buried: Vec<Result<(), Error>> = join_all(buried).await;
        for ((place, received, _), buried) in rejects.into_iter().zip(buried) {
            match buried {
                Ok(()) => plan.acks.push((place, received)),
                Err(error) => {
                    plan.answer(place, Err(error));
                    plan.backs.push((place, received));
                }
            }
        }
    }

    async fn acknowledge_all(&self, plan: &mut Plan) {
        let acks = std::mem::take(&mut plan.acks);
        for part in acks.chunks(SETTLED_MAX) {
            let ack_ids = part.iter().map(|(_, received)| received.ack_id.clone()).collect();
            let answers = self.acknowledge(ack_ids).await;
            let mut behind = Vec::new();
            {
                let mut state = self.hand.lock();
                for (place, received) in part {
                    let refused = answers.as_ref().err();
                    match refused.map_or(Ok(()), |refused| refused.answer(&received.ack_id)) {
                        Ok(()) => state.done(received),
                        Err(error) => {
                            behind.extend(state.forget(received));
                            plan.answer(*place, Err(error));
                        }
                    }
                }
            }
            if !behind.is_empty() {
                // Where that fails too, their leases end.
                drop(self.link.lease(&self.subscription, behind, Duration::ZERO).await);
            }
        }
    }

    async fn hand_back(&self, plan: &mut Plan) {
        let backs = std::mem::take(&mut plan.backs);
        if backs.is_empty() {
            return;
        }
        let (places, received): (Vec<usize>, Vec<Received>) = backs.into_iter().unzip();
        let all: Vec<Received> = {
            let mut state = self.hand.lock();
            received.into_iter().flat_map(|received| state.back(received)).collect()
        };
        if let Err(error) = self.link.lease(&self.subscription, all, Duration::ZERO).await {
            for place in places {
                if plan.answers.get(place).is_some_and(Result::is_ok) {
                    plan.answer(place, Err(error.clone()));
                }
            }
        }
    }
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            loop {
                let (delivered, failure) = {
                    let mut state = self.hand.lock();
                    let delivered = state.deliver(max.max(1), Instant::now());
                    let failure = if delivered.is_empty() { state.take_failure() } else { None };
                    (delivered, failure)
                };
                if !delivered.is_empty() {
                    self.hand.change.notify_one();
                    return Ok(delivered.iter().map(|(token, came)| self.delivery(*token, came)).collect());
                }
                match failure {
                    Some(error) => return Err(error),
                    None => self.hand.news.notified().await,
                }
            }
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            let mut plan = self.plan(settled);
            self.reject(&mut plan).await;
            self.acknowledge_all(&mut plan).await;
            self.hand_back(&mut plan).await;
            self.hand.change.notify_one();
            self.hand.room.notify_one();
            plan.answers
        })
    }

    fn seek(&mut self, _to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let message =
                "seeking in Pub/Sub is not built: Google's fake, on which it would be tested, cannot do it";
            Err(Error::new(Code::UNSUPPORTED, message).with_fix(
                "seek the subscription with Google's own tools; what was taken before is recognised as a duplicate",
            ))
        })
    }

    /// The service counts for its own monitoring only.
    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async { Ok(None) })
    }
}
