//! The load, the clock, and what is made of both.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::Notify;

use crate::Failure;
use crate::message;

/// A latency above this is counted as this.
const MICROS_MAX: u64 = 3_600_000_000;

/// How much, how fast.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Load {
    /// Messages for the throughput
    #[arg(long, default_value_t = 30_000)]
    pub(crate) messages: usize,
    /// Topics that the broker's own client uses at once
    #[arg(long, default_value_t = 1)]
    pub(crate) topics: usize,
    /// Messages a second, for the latency
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// For how long
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u32,
}

impl Load {
    /// How many are sent at the fixed rate.
    pub(crate) fn paced(self) -> usize {
        self.rate as usize * self.seconds as usize
    }
}

/// What came of it. Messages a second, and latencies from the moment a message was due.
#[derive(Serialize, Default)]
pub(crate) struct Figures {
    pub(crate) raw: Side,
    /// Of which publishing is the relay's, consuming the intake's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<LinkSide>,
    /// What the device takes for one synced write, and how it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<(u64, &'static str)>,
}

/// By the client of the broker, or by the log itself.
#[derive(Serialize, Default)]
pub(crate) struct Side {
    pub(crate) publish_per_s: f64,
    pub(crate) consume_per_s: f64,
    pub(crate) latency: Latency,
}

/// Over links.
#[derive(Serialize, Default)]
pub(crate) struct LinkSide {
    pub(crate) relay_per_s: f64,
    pub(crate) intake_per_s: f64,
    /// Committed to the log, sent by the relay, received by the broker's own client.
    pub(crate) relay_latency: Latency,
    /// Sent by the broker's own client, taken in, read at the tail of the log.
    pub(crate) intake_latency: Latency,
}

/// In microseconds.
#[derive(Serialize, Default)]
pub(crate) struct Latency {
    p50: u64,
    p99: u64,
    max: u64,
}

/// Counts what arrives, and remembers how long each took.
pub(crate) struct Meter {
    wanted: usize,
    seen: Mutex<Seen>,
    all: Notify,
}

struct Seen {
    count: usize,
    first: Option<Instant>,
    last: Option<Instant>,
    latencies: Histogram<u64>,
}

impl Meter {
    /// Waits for so many.
    pub(crate) fn new(wanted: usize) -> Result<Arc<Self>, Failure> {
        let latencies = Histogram::new_with_max(MICROS_MAX, 3)?;
        let seen = Seen { count: 0, first: None, last: None, latencies };
        Ok(Arc::new(Self { wanted, seen: Mutex::new(seen), all: Notify::new() }))
    }

    /// Messages that have arrived together, by when they were due.
    pub(crate) fn arrived(&self, due: impl IntoIterator<Item = u64>) {
        let (now, moment) = (message::now(), Instant::now());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for due in due {
            seen.count += 1;
            seen.latencies.saturating_record(now.saturating_sub(due) / 1000);
        }
        seen.first.get_or_insert(moment);
        seen.last = Some(moment);
        if seen.count >= self.wanted {
            self.all.notify_one();
        }
    }

    /// Waits for all of them, no longer than this.
    pub(crate) async fn complete(&self, within: Duration) -> Result<(), Failure> {
        let waited = tokio::time::timeout(within, self.all.notified()).await;
        waited.map_err(|_| {
            let count = self.seen.lock().unwrap_or_else(PoisonError::into_inner).count;
            format!("{count} of {} messages came within {within:?}", self.wanted).into()
        })
    }

    /// Messages a second, between the first that came and the last: joining a group is not part of it.
    pub(crate) fn per_second(&self) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (seen.first, seen.last) {
            (Some(first), Some(last)) => rate(seen.count, last - first),
            _ => 0.0,
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        let latencies = &self.seen.lock().unwrap_or_else(PoisonError::into_inner).latencies;
        Latency {
            p50: latencies.value_at_quantile(0.5),
            p99: latencies.value_at_quantile(0.99),
            max: latencies.max(),
        }
    }
}

/// So many in this time.
#[expect(clippy::cast_precision_loss, reason = "figures are for reading")]
pub(crate) fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// Numbers and when they are due, each given when it has come. A thread of its own keeps the time, because a timer of the executor is a
/// millisecond coarse.
pub(crate) fn pace(load: Load) -> tokio::sync::mpsc::UnboundedReceiver<(usize, u64)> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (start, step) = (Instant::now(), Duration::from_secs(1) / load.rate);
    let began = message::now();
    std::thread::spawn(move || {
        let mut due = Duration::ZERO;
        for number in 0..load.paced() {
            while start.elapsed() < due {
                std::thread::park_timeout(due.saturating_sub(start.elapsed()));
            }
            let at = began + u64::try_from(due.as_nanos()).unwrap_or_default();
            if sender.send((number, at)).is_err() {
                return;
            }
            due += step;
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_to_a_tenth_of_a_percent() {
        let meter = Meter::new(1).expect("a histogram");
        meter.arrived([message::now() - 1_000_000_000]);
        let median = meter.latency().p50;
        assert!((999_000..2_000_000).contains(&median), "{median}");
    }
}
