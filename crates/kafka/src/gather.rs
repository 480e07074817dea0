//! Calls that wait for the broker go out together.
//!
//! A broker takes one batch of a partition after the other, and one that syncs takes its time for each. If every call sent batches of its
//! own, each would wait for those of all others. So few are under way, and what is called meanwhile is gathered.

use futures_util::FutureExt;
use krafka::producer::Producer;
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

/// How many are under way: one that the broker works at, and one that is there when it is done.
const UNDER_WAY: usize = 2;

/// When the driver's producer is told to send what it has been given.
pub(crate) struct Gathering {
    /// Held while a call hands its messages over, so that those for one partition are in one batch.
    gathered: Mutex<Gathered>,
    turns: Semaphore,
}

/// What the producer has been given and was not told to send yet.
pub(crate) struct Gathered {
    bytes: usize,
    /// The least that a topic among it takes in one batch.
    bytes_max: usize,
    /// How often it was told.
    departures: u64,
}

impl Gathering {
    pub(crate) fn new() -> Self {
        Self { gathered: Mutex::new(Gathered::after(0)), turns: Semaphore::new(UNDER_WAY) }
    }

    /// The right to hand over so many bytes; what is there already goes out if they do not fit in beside it.
    pub(crate) async fn join(
        &self,
        producer: &Producer,
        bytes: usize,
        bytes_max: usize,
    ) -> MutexGuard<'_, Gathered> {
        let mut gathered = self.gathered.lock().await;
        if gathered.bytes > 0 && gathered.bytes + bytes > gathered.bytes_max.min(bytes_max) {
            gathered.depart(producer);
        }
        gathered.bytes += bytes;
        gathered.bytes_max = gathered.bytes_max.min(bytes_max);
        gathered
    }

    /// Waits until few are under way, and sends what was gathered; the permit is to be held until it is confirmed. `None`: it has gone
    /// out with what another call sent.
    pub(crate) async fn depart(&self, producer: &Producer, before: u64) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok()?;
        let mut gathered = self.gathered.lock().await;
        (gathered.departures == before).then(|| {
            gathered.depart(producer);
            turn
        })
    }
}

impl Gathered {
    /// Which departure it goes out with.
    pub(crate) fn departures(&self) -> u64 {
        self.departures
    }

    fn depart(&mut self, producer: &Producer) {
        // Begun and not waited for: what is there is on its way, and each message has an answer of its own.
        drop(producer.flush().now_or_never());
        *self = Self::after(self.departures + 1);
    }

    fn after(departures: u64) -> Self {
        Self { bytes: 0, bytes_max: usize::MAX, departures }
    }
}
