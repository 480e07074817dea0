//! What a member has in hand, and the task that keeps it hidden from others for as long as the member lives.
//!
//! Invariant: by this clock a message is out of hand before its queue shows it to others, because the time begins before the queue is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue};
use ensue_core::Error;
use tokio::time::{Instant, sleep};

use crate::client::Link;
use crate::error;

/// The most entries that SQS takes in one request.
pub(crate) const ENTRIES_MAX: usize = 10;
/// How often in its hidden time a message is asked to stay hidden.
const LOOKS: u32 = 4;

/// A message in hand.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) receipt: String,
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) attributes: HashMap<String, MessageAttributeValue>,
    pub(crate) group: Option<String>,
    /// Since when it is in hand.
    since: Instant,
    /// Until when its queue hides it.
    hidden_until: Instant,
}

impl Held {
    pub(crate) fn new(
        receipt: String,
        id: String,
        body: String,
        asked_at: Instant,
        hidden: Duration,
    ) -> Self {
        let hidden_until = asked_at + hidden;
        Self { receipt, id, body, attributes: HashMap::new(), group: None, since: asked_at, hidden_until }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.hidden_until <= now
    }
}

/// All that a member has in hand.
pub(crate) struct Hand {
    link: Arc<Link>,
    queue_url: String,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    held: BTreeMap<u64, Held>,
    last_token: u64,
    /// Whether the member is gone, so that nothing may come into its hand any more.
    is_closed: bool,
}

impl Hand {
    pub(crate) fn new(link: Arc<Link>, queue_url: String) -> Self {
        Self { link, queue_url, inside: Mutex::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it in hand; nothing where the member is gone.
    pub(crate) fn take(&self, held: Held) -> Option<u64> {
        let mut inside = self.inside();
        if inside.is_closed {
            return None;
        }
        inside.last_token += 1;
        let token = inside.last_token;
        inside.held.insert(token, held);
        Some(token)
    }

    /// Whether it may still be settled.
    pub(crate) fn has(&self, token: u64) -> bool {
        let now = Instant::now();
        self.inside().held.get(&token).is_some_and(|held| !held.is_late(now))
    }

    /// Gives it up, if it may still be settled.
    pub(crate) fn release(&self, token: u64) -> Option<Held> {
        let now = Instant::now();
        self.inside().held.remove(&token).filter(|held| !held.is_late(now))
    }

    /// A copy of it, if it may still be settled.
    pub(crate) fn look(&self, token: u64) -> Option<Held> {
        let now = Instant::now();
        self.inside().held.get(&token).filter(|held| !held.is_late(now)).cloned()
    }

    /// Gives up everything, and takes nothing any more.
    pub(crate) fn close(&self) -> Vec<Held> {
        let mut inside = self.inside();
        inside.is_closed = true;
        std::mem::take(&mut inside.held).into_values().collect()
    }

    /// Asks, again and again, that what is in hand stays hidden. Ends when it is dropped.
    pub(crate) async fn keep_hidden(self: Arc<Self>) {
        loop {
            sleep(self.link.config.hidden_for / LOOKS).await;
            let due = self.due();
            for chunk in due.chunks(ENTRIES_MAX) {
                self.extend(chunk).await;
            }
        }
    }

    /// What would be shown to others soon, and for how many seconds more it may be hidden. What is late is forgotten.
    fn due(&self) -> Vec<(u64, Held, Duration)> {
        let (now, hidden_for) = (Instant::now(), self.link.config.hidden_for);
        let mut inside = self.inside();
        inside.held.retain(|_, held| !held.is_late(now));
        let due = inside.held.iter().filter_map(|(token, held)| {
            let is_soon = held.hidden_until - now <= hidden_for * (LOOKS - 1) / LOOKS;
            let left = (held.since + self.link.config.settle_within).saturating_duration_since(now);
            let more = Duration::from_secs(left.min(hidden_for).as_secs());
            (is_soon && now + more > held.hidden_until).then(|| (*token, held.clone(), more))
        });
        due.collect()
    }

    /// Those for which it fails are forgotten when their time is over.
    async fn extend(&self, due: &[(u64, Held, Duration)]) {
        let asked_at = Instant::now();
        let answers =
            hide(&self.link, &self.queue_url, due.iter().map(|(_, held, more)| (held, *more))).await;
        let mut inside = self.inside();
        for ((token, _, more), answer) in due.iter().zip(answers) {
            if let (Ok(()), Some(held)) = (answer, inside.held.get_mut(token)) {
                held.hidden_until = asked_at + *more;
            }
        }
    }
}

/// Hides messages for some time from now on, whole seconds; no time at all hands them back. At most ten. Answers for each.
pub(crate) async fn hide(
    link: &Link,
    queue_url: &str,
    messages: impl Iterator<Item = (&Held, Duration)>,
) -> Vec<Result<(), Error>> {
    let trying = "cannot change for how long a message is hidden";
    let entries: Vec<_> = messages
        .enumerate()
        .map(|(number, (held, time))| {
            let seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(number.to_string());
            entry.receipt_handle(&held.receipt).visibility_timeout(seconds).build()
        })
        .filter_map(Result::ok)
        .collect();
    let count = entries.len();
    if count == 0 {
        return Vec::new();
    }
    let changing = link.queues.change_message_visibility_batch().queue_url(queue_url);
    match changing.set_entries(Some(entries)).send().await {
        Ok(done) => error::by_entry(trying, count, done.failed()),
        Err(cause) => {
            let error = error::failed(trying, cause);
            (0..count).map(|_| Err(error.clone())).collect()
        }
    }
}
