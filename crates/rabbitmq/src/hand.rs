//! What a member has in hand: delivered and not settled. What is not settled in time is handed back, also where the member does nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::message::Delivery as Arrival;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Back to the queue, to be delivered again.
const TAKEN_BACK: BasicNackOptions = BasicNackOptions { multiple: false, requeue: true };
/// How often in the time for settling it is looked for what is late.
const LOOKS: u32 = 8;
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);

type Open = BTreeMap<u64, (Instant, Arrival)>;

/// See the module.
pub(crate) struct Hand {
    open: Arc<Mutex<Open>>,
    last_token: u64,
    watch: JoinHandle<()>,
}

impl Hand {
    /// Wants to be called on a runtime of tokio.
    pub(crate) fn new(settle_within: Duration) -> Self {
        let open = Arc::new(Mutex::new(Open::new()));
        let watch = tokio::spawn(watch(Arc::clone(&open), settle_within));
        Self { open, last_token: 0, watch }
    }

    /// Takes a delivery in hand and names it.
    pub(crate) fn take(&mut self, arrival: Arrival) -> u64 {
        self.last_token += 1;
        lock(&self.open).insert(self.last_token, (Instant::now(), arrival));
        self.last_token
    }

    /// Looks at a delivery that is in hand.
    pub(crate) fn look<T>(&self, token: u64, look: impl FnOnce(&Arrival) -> T) -> Option<T> {
        lock(&self.open).get(&token).map(|(_, arrival)| look(arrival))
    }

    /// Takes a delivery out of hand, to settle it.
    pub(crate) fn remove(&self, token: u64) -> Option<Arrival> {
        lock(&self.open).remove(&token).map(|(_, arrival)| arrival)
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.open).len()
    }

    /// Forgets all of it, because the broker has taken it back by itself.
    pub(crate) fn clear(&self) {
        lock(&self.open).clear();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says to the broker that a message is done with: whether its channel still took that.
///
/// The driver may wait for ever for a channel that ends in this moment, so it is given up after a while.
pub(crate) async fn ack(arrival: &Arrival, within: Duration) -> bool {
    matches!(timeout(within, arrival.ack(BasicAckOptions::default())).await, Ok(Ok(true)))
}

/// Gives a message back to its queue, under the same conditions.
pub(crate) async fn give_back(arrival: &Arrival, within: Duration) -> bool {
    matches!(timeout(within, arrival.nack(TAKEN_BACK)).await, Ok(Ok(true)))
}

async fn watch(open: Arc<Mutex<Open>>, settle_within: Duration) {
    let mut looks = interval((settle_within / LOOKS).max(LOOK_EVERY_MIN));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = looks.tick().await;
        let late: Vec<Arrival> = lock(&open)
            .extract_if(.., |_, (since, _)| *since + settle_within <= now)
            .map(|(_, (_, arrival))| arrival)
            .collect();
        // Where the channel is gone, the broker has taken it back already.
        join_all(late.iter().map(|arrival| give_back(arrival, settle_within))).await;
    }
}
