//! The load and the clock of a run, the same as in `ensue bench orders`: at a fixed rate whatever the response, or as many
//! orders as go through with 512 in flight, placed by 64 tasks. A warm-up with the same load comes first and is not counted.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::Failure;
use crate::pace::pace;
use crate::usage::{Usage, Watch};

/// Orders in flight when no rate is given.
const IN_FLIGHT_MAX: usize = 512;
/// Longer latencies than an hour are recorded as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Tasks that place them.
const PUBLISHERS: usize = 64;
/// When no order ends for so long, something is broken.
const STALLED: Duration = Duration::from_mins(1);

/// How much, for how long.
#[derive(Args, Clone)]
pub(crate) struct Load {
    /// Orders a second, whatever the response; without it as many as go through
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// For how long
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// For how long before that, uncounted
    #[arg(long, default_value_t = 5)]
    warm_up_seconds: u32,
    /// A server whose processor time, memory and writes count, with its children
    #[arg(long = "server", value_name = "PID")]
    servers: Vec<u32>,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    orders: u64,
    orders_per_s: f64,
    latency_us: Latency,
    #[serde(flatten)]
    usage: Usage,
}

/// From the moment an order was due to its last event, in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p95: u64,
    p99: u64,
    max: u64,
}

/// How an order gets into the system.
pub(crate) trait Entry: Send + Sync + 'static {
    /// Returns when the order is durable and will be carried out.
    fn place(&self, order: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The orders under way.
pub(crate) struct Course {
    state: Mutex<State>,
    /// An order has ended.
    ended: Notify,
    /// Keeps the number of orders in flight bounded.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    placed: u64,
    open: HashMap<u64, Instant>,
    took_us: Vec<u64>,
}

impl Course {
    /// A course on which no order is under way.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), ended: Notify::new(), room: Semaphore::new(IN_FLIGHT_MAX) })
    }

    /// The last event of an order was seen. A repetition is not counted.
    pub(crate) fn finished(&self, order: u64) {
        let now = Instant::now();
        let mut state = self.state();
        let Some(due) = state.open.remove(&order) else { return };
        state.took_us.push(u64::try_from(now.duration_since(due).as_micros()).unwrap_or(u64::MAX));
        drop(state);
        self.room.add_permits(1);
        self.ended.notify_one();
    }

    /// The warm-up and the run.
    pub(crate) async fn run<E: Entry>(self: &Arc<Self>, entry: E, load: Load) -> Result<Figures, Failure> {
        let entry = Arc::new(entry);
        self.stretch(&entry, load.rate, load.warm_up_seconds).await?;
        let watch = Watch::start(load.servers)?;
        let started = Instant::now();
        let took_us = self.stretch(&entry, load.rate, load.seconds).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let usage = watch.finish()?;
        let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        for took in took_us {
            latency.saturating_record(took);
        }
        Ok(Figures {
            orders: latency.len(),
            orders_per_s: (float(latency.len()) / elapsed).round(),
            latency_us: Latency {
                p50: latency.value_at_quantile(0.5),
                p95: latency.value_at_quantile(0.95),
                p99: latency.value_at_quantile(0.99),
                max: latency.max(),
            },
            usage,
        })
    }

    /// Places orders for so long, and waits until all have ended: how long each took.
    async fn stretch<E: Entry>(
        self: &Arc<Self>,
        entry: &Arc<E>,
        rate: Option<u32>,
        seconds: u32,
    ) -> Result<Vec<u64>, Failure> {
        let start = Instant::now();
        let end = start + Duration::from_secs(u64::from(seconds));
        match rate {
            Some(rate) => self.place_at(entry, rate, start..end).await?,
            None => self.place_freely(entry, end).await?,
        }
        while !self.state().open.is_empty() {
            tokio::time::timeout(STALLED, self.ended.notified())
                .await
                .map_err(|_| format!("{} orders never ended", self.state().open.len()))?;
        }
        Ok(std::mem::take(&mut self.state().took_us))
    }

    async fn place_at<E: Entry>(
        self: &Arc<Self>,
        entry: &Arc<E>,
        rate: u32,
        within: Range<Instant>,
    ) -> Result<(), Failure> {
        let mut due = pace(rate, within);
        let mut placing = JoinSet::new();
        while let Some(due) = due.recv().await {
            let (course, entry) = (Arc::clone(self), Arc::clone(entry));
            placing.spawn(async move { entry.place(course.begin(due)).await });
        }
        all(placing).await
    }

    async fn place_freely<E: Entry>(self: &Arc<Self>, entry: &Arc<E>, end: Instant) -> Result<(), Failure> {
        let mut placing = JoinSet::new();
        for _ in 0..PUBLISHERS {
            let (course, entry) = (Arc::clone(self), Arc::clone(entry));
            placing.spawn(async move {
                while Instant::now() < end {
                    course.room.acquire().await?.forget();
                    entry.place(course.begin(Instant::now())).await?;
                }
                Ok(())
            });
        }
        all(placing).await
    }

    fn begin(&self, due: Instant) -> u64 {
        let mut state = self.state();
        state.placed += 1;
        let order = state.placed;
        state.open.insert(order, due);
        order
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn all(mut tasks: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
