//! Consuming: polling a queue, and settling what came out of it message by message.
//!
//! A poll runs in a task of its own, because an answer of the queue that nobody takes would leave its messages hidden for nothing: dropping
//! the future that waits for it loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName as System,
    QueueAttributeName,
};
use ensue_core::bus::{Consume, Consumer, Delivery, Seek, Settled};
use ensue_core::{Code, Error, Timestamp};
use futures_util::future::{BoxFuture, join_all};
use smol_str::format_smolstr;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::{Link, patience};
use crate::config::HIDDEN_MAX;
use crate::hand::{self, ENTRIES_MAX, Hand, Held};
use crate::topology::{self, Queue};
use crate::{codec, error};

/// How long a queue is asked to wait for a message at most.
const POLL_MAX: Duration = Duration::from_secs(5);
/// How long is waited after a poll that failed: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many polls may be under way at once for one call.
const POLLS_MAX: usize = 8;
/// The attribute of a dead letter that says why it is one, and how long it may be.
const REASON: &str = "ensue-reason";
const REASON_CHARS_MAX: usize = 500;
/// How many attributes a message may have.
const ATTRIBUTES_MAX: usize = 10;

type Poll = JoinHandle<Result<Vec<Delivery>, Error>>;

/// A member of a group.
pub(crate) struct Member {
    link: Arc<Link>,
    consume: Consume,
    queue: Queue,
    hand: Arc<Hand>,
    poll: Option<Poll>,
    /// Polls for more, where one came back full.
    more: Option<JoinHandle<Vec<Delivery>>>,
    waiting: VecDeque<Delivery>,
    keeping: JoinHandle<()>,
    pause: Duration,
    /// Where it runs: it hands back what it has when it is dropped.
    runtime: Handle,
}

impl Member {
    pub(crate) async fn join(link: Arc<Link>, consume: Consume) -> Result<Self, Error> {
        let queue = link.queue(&consume).await?;
        let hand = Arc::new(Hand::new(Arc::clone(&link), queue.url.clone()));
        Ok(Self {
            keeping: tokio::spawn(Arc::clone(&hand).keep_hidden()),
            link,
            consume,
            queue,
            hand,
            poll: None,
            more: None,
            waiting: VecDeque::new(),
            pause: PAUSE_MIN,
            runtime: Handle::current(),
        })
    }

    /// Where order was asked for, one at a time: what is handed back must not be overtaken by what came with it.
    fn poll_max(&self) -> usize {
        if topology::is_ordered(self.consume.from.as_str()) { 1 } else { ENTRIES_MAX }
    }

    fn poller(&self) -> Poller {
        Poller {
            link: Arc::clone(&self.link),
            hand: Arc::clone(&self.hand),
            consume: self.consume.clone(),
            queue_url: self.queue.url.clone(),
            count: self.poll_max(),
        }
    }

    /// Waits for one poll; loses nothing when dropped.
    async fn await_poll(&mut self) -> Result<(), Error> {
        if self.poll.is_none() {
            let (poller, pause) = (self.poller(), self.pause);
            self.poll = Some(tokio::spawn(async move {
                let outcome = poller.poll(poller.wait()).await;
                if outcome.is_err() {
                    sleep(pause).await;
                }
                outcome
            }));
        }
        let Some(poll) = &mut self.poll else { return Ok(()) };
        let outcome = poll.await;
        self.poll = None;
        match outcome {
            Ok(Ok(deliveries)) => {
                self.pause = PAUSE_MIN;
                self.waiting.extend(deliveries);
                Ok(())
            }
            Ok(Err(error)) => {
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                Err(error)
            }
            Err(cause) => {
                let message = format!("cannot consume `{}`: the poll has ended", self.consume.from);
                Err(Error::new(Code::BUS_UNREACHABLE, message).with_source(cause))
            }
        }
    }

    /// Whether the last poll came back full and more is asked for.
    fn may_have_more(&self, max: usize) -> bool {
        let count = self.waiting.len();
        self.poll_max() > 1 && count < max && count.is_multiple_of(ENTRIES_MAX)
    }

    /// Looks whether there is more at once; loses nothing when dropped.
    async fn fill(&mut self, max: usize) {
        while self.more.is_some() || self.may_have_more(max) {
            let polls = max.saturating_sub(self.waiting.len()).div_ceil(ENTRIES_MAX).min(POLLS_MAX);
            let pollers: Vec<_> = (0..polls).map(|_| self.poller()).collect();
            let more = self.more.get_or_insert_with(|| {
                tokio::spawn(async move {
                    let polls = pollers.iter().map(|poller| poller.poll(Duration::ZERO));
                    // A poll that fails has left nothing in hand; the next one says what is wrong.
                    join_all(polls).await.into_iter().flatten().flatten().collect()
                })
            });
            let came = more.await.unwrap_or_default();
            self.more = None;
            if came.is_empty() {
                return;
            }
            self.waiting.extend(came);
        }
    }

    async fn settle_acks(&self, acks: &[(usize, Held)]) -> Vec<(usize, Result<(), Error>)> {
        let requests = acks.chunks(ENTRIES_MAX).map(|chunk| async move {
            let answers = delete(&self.link, &self.queue.url, chunk.iter().map(|(_, held)| held)).await;
            chunk.iter().map(|(index, _)| *index).zip(answers).collect::<Vec<_>>()
        });
        join_all(requests).await.into_iter().flatten().collect()
    }

    async fn settle_nacks(&self, nacks: &[(usize, Held, Duration)]) -> Vec<(usize, Result<(), Error>)> {
        let requests = nacks.chunks(ENTRIES_MAX).map(|chunk| async move {
            let messages = chunk.iter().map(|(_, held, delay)| (held, *delay));
            let answers = hand::hide(&self.link, &self.queue.url, messages).await;
            chunk.iter().map(|(index, _, _)| *index).zip(answers).collect::<Vec<_>>()
        });
        join_all(requests).await.into_iter().flatten().collect()
    }

    /// Puts a copy into the dead letters.
    async fn bury(&self, held: &Held, reason: &str) -> Result<(), Error> {
        let Some(url) = self.link.url_of_dead_letters(&self.queue).await? else {
            let message = format!("the queue `{}` has no dead letters", self.consume.from);
            return Err(Error::new(Code::UNSUPPORTED, message).with_fix(
                "give it a `RedrivePolicy` with Amazon's own tools, or keep what is refused in the log",
            ));
        };
        let trying = format!("cannot put a message of `{}` into its dead letters", self.consume.from);
        let mut burying = self.link.queues.send_message().queue_url(url).message_body(&held.body);
        for (name, value) in held.attributes.iter().take(ATTRIBUTES_MAX - 1) {
            burying = burying.message_attributes(name, value.clone());
        }
        let value = MessageAttributeValue::builder().data_type("String").string_value(said(reason)).build();
        let value =
            value.map_err(|cause| Error::new(Code::BUS_REFUSED, trying.clone()).with_source(cause))?;
        burying = burying.message_attributes(REASON, value);
        if topology::is_ordered(self.consume.from.as_str()) {
            burying = burying
                .message_group_id(held.group.as_deref().unwrap_or("ensue"))
                .message_deduplication_id(&held.id);
        }
        burying.send().await.map(drop).map_err(|cause| error::failed(&trying, cause))
    }
}

/// A reason as an attribute may hold it: not empty, and no control characters.
fn said(reason: &str) -> String {
    let plain = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = plain.take(REASON_CHARS_MAX).collect();
    if text.is_empty() { "no reason was given".to_owned() } else { text }
}

/// Takes messages out of their queue for good. At most ten. Answers for each.
async fn delete(
    link: &Link,
    queue_url: &str,
    messages: impl Iterator<Item = &Held>,
) -> Vec<Result<(), Error>> {
    let trying = "cannot settle a message";
    let entries: Vec<_> = messages
        .enumerate()
        .map(|(number, held)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(number.to_string());
            entry.receipt_handle(&held.receipt).build()
        })
        .filter_map(Result::ok)
        .collect();
    let count = entries.len();
    let deleting = link.queues.delete_message_batch().queue_url(queue_url);
    match deleting.set_entries(Some(entries)).send().await {
        Ok(done) => error::by_entry(trying, count, done.failed()),
        Err(cause) => {
            let error = error::failed(trying, cause);
            (0..count).map(|_| Err(error.clone())).collect()
        }
    }
}

/// What asks a queue for messages and takes them in hand.
struct Poller {
    link: Arc<Link>,
    hand: Arc<Hand>,
    consume: Consume,
    queue_url: String,
    count: usize,
}

impl Poller {
    /// Half of the hidden time at most: it is counted from when the queue is asked, because nobody says when a message came.
    fn wait(&self) -> Duration {
        POLL_MAX.min(Duration::from_secs(self.link.config.hidden_for.as_secs() / 2))
    }

    async fn poll(&self, wait: Duration) -> Result<Vec<Delivery>, Error> {
        let asked_at = Instant::now();
        let hidden = self.link.config.hidden_for;
        let asking = self
            .link
            .queues
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(i32::try_from(self.count).unwrap_or(1))
            .visibility_timeout(i32::try_from(hidden.as_secs()).unwrap_or(i32::MAX))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
            .message_system_attribute_names(System::ApproximateReceiveCount)
            .message_system_attribute_names(System::SentTimestamp)
            .message_system_attribute_names(System::MessageGroupId)
            .message_attribute_names("All");
        let longer = Builder::default().timeout_config(patience(self.link.config.answer_within + wait));
        let came = asking.customize().config_override(longer).send().await;
        let trying = format!("cannot consume `{}`", self.consume.from);
        let came = came.map_err(|cause| error::failed(&trying, cause))?;
        let mut deliveries = Vec::new();
        let mut too_late = Vec::new();
        for message in came.messages.unwrap_or_default() {
            let held = hold(&message, asked_at, hidden);
            match self.hand.take(held.clone()) {
                Some(token) => deliveries.push(self.deliver(token, &held, &message)),
                None => too_late.push(held),
            }
        }
        hand_back(&self.link, &self.queue_url, &too_late).await;
        Ok(deliveries)
    }

    fn deliver(&self, token: u64, held: &Held, message: &Message) -> Delivery {
        let system = |name: &System| message.attributes().and_then(|all| all.get(name)).map(String::as_str);
        let attempt = system(&System::ApproximateReceiveCount).and_then(|text| text.parse().ok());
        let sent_at = system(&System::SentTimestamp)
            .and_then(|text| text.parse().ok())
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
        let decoded = codec::decode(&held.body, &held.attributes, held.group.as_deref());
        let place = match decoded.id {
            Some(id) => format_smolstr!("eventbridge/{id}"),
            None => format_smolstr!("{}/{}", self.consume.from, held.id),
        };
        Delivery {
            token,
            from: self.consume.from.clone(),
            key: decoded.key,
            attempt: attempt.unwrap_or(1).max(1),
            published_at: decoded.time.or(sent_at),
            place: Some(place),
            message: decoded.message,
        }
    }
}

fn hold(message: &Message, asked_at: Instant, hidden: Duration) -> Held {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (receipt, id) = (text(message.receipt_handle()), text(message.message_id()));
    let mut held = Held::new(receipt, id, text(message.body()), asked_at, hidden);
    held.attributes = message.message_attributes().cloned().unwrap_or_default();
    held.group = message.attributes().and_then(|all| all.get(&System::MessageGroupId)).cloned();
    held
}

/// Shows messages to others at once. What fails comes when its hidden time is over.
async fn hand_back(link: &Link, queue_url: &str, messages: &[Held]) {
    for chunk in messages.chunks(ENTRIES_MAX) {
        hand::hide(link, queue_url, chunk.iter().map(|held| (held, Duration::ZERO))).await;
    }
}

impl Consumer for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(async move {
            let max = max.max(1);
            loop {
                while self.waiting.is_empty() {
                    self.await_poll().await?;
                }
                self.fill(max).await;
                let count = self.waiting.len().min(max);
                // One that waited too long is shown to others by now.
                let fresh: Vec<_> =
                    self.waiting.drain(..count).filter(|delivery| self.hand.has(delivery.token)).collect();
                if !fresh.is_empty() {
                    return Ok(fresh);
                }
            }
        })
    }

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            let mut answers: Vec<Result<(), Error>> = settled
                .iter()
                .map(|_| Err(error::too_late("its time was over, or it was settled before")))
                .collect();
            let (mut acks, mut nacks) = (Vec::new(), Vec::new());
            for (index, settled) in settled.into_iter().enumerate() {
                let refused = match settled {
                    Settled::Ack(token) => {
                        acks.extend(self.hand.release(token).map(|held| (index, held)));
                        Ok(())
                    }
                    Settled::Nack(_, delay) if delay > HIDDEN_MAX => Err(too_long(delay)),
                    Settled::Nack(token, delay) => {
                        let whole =
                            Duration::from_secs(delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
                        nacks.extend(self.hand.release(token).map(|held| (index, held, whole)));
                        Ok(())
                    }
                    Settled::Reject(token, reason) => match self.hand.look(token) {
                        None => Ok(()),
                        Some(held) => self.bury(&held, &reason).await.map(|()| {
                            acks.extend(self.hand.release(token).map(|held| (index, held)));
                        }),
                    },
                };
                if let (Err(error), Some(place)) = (refused, answers.get_mut(index)) {
                    *place = Err(error);
                }
            }
            let (acks, nacks) = tokio::join!(self.settle_acks(&acks), self.settle_nacks(&nacks));
            for (index, answer) in acks.into_iter().chain(nacks) {
                if let Some(place) = answers.get_mut(index) {
                    *place = answer;
                }
            }
            answers
        })
    }

    fn seek(&mut self, _to: Seek) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            Err(Error::new(Code::UNSUPPORTED, "a queue of SQS keeps no history to go back to").with_fix(
                "replay an archive of EventBridge with Amazon's own tools, or publish again from the log of the other side; what was taken before is recognised as a duplicate",
            ))
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, Error>> {
        Box::pin(async {
            let counts = [
                QueueAttributeName::ApproximateNumberOfMessages,
                QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
                QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            ];
            let asking = self.link.queues.get_queue_attributes().queue_url(&self.queue.url);
            let found = asking.set_attribute_names(Some(counts.to_vec())).send().await;
            let trying = format!("cannot count what waits in `{}`", self.consume.from);
            let found = found.map_err(|cause| error::failed(&trying, cause))?;
            let count =
                |name| found.attributes().and_then(|all| all.get(name)?.parse::<u64>().ok()).unwrap_or(0);
            Ok(Some(counts.iter().map(count).sum()))
        })
    }
}

impl Drop for Member {
    /// What is in hand, also what a poll under way brings, is shown to others at once.
    fn drop(&mut self) {
        self.keeping.abort();
        let held = self.hand.close();
        if held.is_empty() {
            return;
        }
        let (link, url) = (Arc::clone(&self.link), self.queue.url.clone());
        self.runtime.spawn(async move { hand_back(&link, &url, &held).await });
    }
}

fn too_long(delay: Duration) -> Error {
    let message = format!("SQS puts a message off for {HIDDEN_MAX:?} at most, not for {delay:?}");
    Error::new(Code::UNSUPPORTED, message).with_fix("put it off for less, and again afterwards")
}
