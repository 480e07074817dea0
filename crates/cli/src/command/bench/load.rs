//! The load of `bench orders`: an order through five durable reactions, or a saga of four steps, with empty bodies, so that the
//! figures are those of the log and the runtime alone.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ensue::core::{EventType, Query, Recorded};
use ensue::{App, Code, Command, Error, Event, Position, Read, Running, Saga, SagaError, Store, StoreExt};
use futures_util::TryStreamExt;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pace::pace;
use super::process;

/// Orders in flight when no rate is given.
const IN_FLIGHT_MAX: usize = 512;
/// Longer latencies than an hour are recorded as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Tasks that place them.
const PUBLISHERS: usize = 64;

/// Which way an order goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Style {
    /// Five reactions, each caused by the event of the one before.
    Choreography,
    /// A saga that sends four commands.
    Saga,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) orders: u64,
    pub(crate) orders_per_s: f64,
    pub(crate) latency_us: Latency,
    pub(crate) cpu_s: f64,
    pub(crate) rss_mb: f64,
}

/// From the moment an order was due to the record of its last event, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p95: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

macro_rules! steps {
    ($($name:ident)*) => {
        $(#[derive(Event, Serialize, Deserialize)]
        #[event(topic = "Bench", key = order)]
        struct $name {
            order: String,
        })*
    };
}

steps!(Placed Paid Reserved Shipped Notified Closed);

macro_rules! commands {
    ($($name:ident)*) => {
        $(#[derive(Command, Serialize, Deserialize)]
        #[command(key = order)]
        struct $name {
            order: String,
        })*
    };
}

commands!(Pay Reserve Ship Notify);

/// The application that carries orders out.
pub(crate) fn application(style: Style) -> App {
    let app = App::new("bench").external::<Placed>();
    match style {
        Style::Choreography => app.with(choreography),
        Style::Saga => app.with(saga),
    }
}

fn choreography(app: App) -> App {
    app.react("pay", |event: Placed| async { Paid { order: event.order } })
        .react("reserve", |event: Paid| async { Reserved { order: event.order } })
        .react("ship", |event: Reserved| async { Shipped { order: event.order } })
        .react("notify", |event: Shipped| async { Notified { order: event.order } })
        .react("close", |event: Notified| async { Closed { order: event.order } })
}

fn saga(app: App) -> App {
    app.handle(|_: Pay| async { Ok(()) })
        .handle(|_: Reserve| async { Ok(()) })
        .handle(|_: Ship| async { Ok(()) })
        .handle(|_: Notify| async { Ok(()) })
        .saga("fulfil", fulfil)
}

async fn fulfil(saga: Saga<Placed>) -> Result<Closed, SagaError> {
    let order = saga.input().order.clone();
    saga.send("pay", Pay { order: order.clone() }).nothing_to_undo().await?;
    saga.send("reserve", Reserve { order: order.clone() }).nothing_to_undo().await?;
    saga.send("ship", Ship { order: order.clone() }).nothing_to_undo().await?;
    saga.send("notify", Notify { order: order.clone() }).nothing_to_undo().await?;
    Ok(Closed { order })
}

/// Runs orders through this application for `seconds`: at `rate` a second whatever the response, or as many as go through.
pub(crate) async fn run(
    app: App,
    store: Arc<dyn Store>,
    rate: Option<u32>,
    seconds: u32,
) -> Result<Figures, Error> {
    let running = Arc::new(app.store(Arc::clone(&store)).start().await?);
    let course = Arc::new(Course::new(store.head().await?));
    let cpu_before = process::cpu_seconds()?;
    let started = Instant::now();
    let finish = tokio::spawn(Arc::clone(&course).watch(Arc::clone(&store)));
    let end = started + Duration::from_secs(u64::from(seconds));
    match rate {
        Some(rate) => course.place_at(&running, rate, started..end).await?,
        None => course.place_freely(&running, end).await?,
    }
    course.all_placed();
    let latency = finish
        .await
        .map_err(|cause| Error::new(Code::CLOSED, "the bench was cancelled").with_source(cause))??;
    let elapsed = started.elapsed().as_secs_f64();
    // The kernel counts in hundredths.
    let cpu_s = ((process::cpu_seconds()? - cpu_before) * 100.0).round() / 100.0;
    let figures = Figures {
        orders: latency.len(),
        orders_per_s: (float(latency.len()) / elapsed).round(),
        latency_us: Latency {
            p50: latency.value_at_quantile(0.5),
            p95: latency.value_at_quantile(0.95),
            p99: latency.value_at_quantile(0.99),
            max: latency.max(),
        },
        cpu_s,
        rss_mb: process::rss_mb()?,
    };
    let running = Arc::into_inner(running).expect("every publisher is done");
    running.stop(Duration::from_secs(10)).await?;
    Ok(figures)
}

/// The orders under way.
struct Course {
    begin: Position,
    state: Mutex<State>,
    /// An order has ended, or all are placed.
    changed: tokio::sync::Notify,
    /// Keeps the number of orders in flight bounded.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    placed: u64,
    open: HashMap<u64, Instant>,
    is_complete: bool,
}

impl Course {
    fn new(begin: Position) -> Self {
        let room = Semaphore::new(IN_FLIGHT_MAX);
        Self { begin, state: Mutex::default(), changed: tokio::sync::Notify::new(), room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self, running: &Running, due: Instant) -> Result<(), Error> {
        let number = {
            let mut state = self.state();
            state.placed += 1;
            let number = state.placed;
            state.open.insert(number, due);
            number
        };
        running.publish(Placed { order: number.to_string() }).await.map(|_| ())
    }

    /// One order whenever one is due, and late ones at once: the load does not wait for the system.
    async fn place_at(
        self: &Arc<Self>,
        running: &Arc<Running>,
        rate: u32,
        within: Range<Instant>,
    ) -> Result<(), Error> {
        let mut moments = pace(rate, within);
        let mut placing = JoinSet::new();
        while let Some(due) = moments.recv().await {
            let (course, running) = (Arc::clone(self), Arc::clone(running));
            placing.spawn(async move { course.place(&running, due).await });
        }
        all(placing).await
    }

    /// As many as go through, with a bounded number in flight.
    async fn place_freely(self: &Arc<Self>, running: &Arc<Running>, end: Instant) -> Result<(), Error> {
        let mut placing = JoinSet::new();
        for _ in 0..PUBLISHERS {
            let (course, running) = (Arc::clone(self), Arc::clone(running));
            placing.spawn(async move {
                while Instant::now() < end {
                    course.room.acquire().await.expect("the room is never closed").forget();
                    course.place(&running, Instant::now()).await?;
                }
                Ok(())
            });
        }
        all(placing).await
    }

    fn all_placed(&self) {
        self.state().is_complete = true;
        self.changed.notify_one();
    }

    /// Follows the last event of every order, and takes the time.
    async fn watch(self: Arc<Self>, store: Arc<dyn Store>) -> Result<Histogram<u64>, Error> {
        let mut latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
        let mut cursor = self.begin;
        let last = Query::types([EventType::new(Closed::INFO.event_type)?]);
        loop {
            let head = tokio::select! {
                head = store.advanced(cursor) => head?,
                () = self.changed.notified() => cursor,
            };
            let read = Read::query(last.clone()).after(cursor).until(head);
            let closed: Vec<Recorded> = store.read(read).try_collect().await?;
            cursor = head;
            let now = Instant::now();
            let mut state = self.state();
            for recorded in &closed {
                let number = recorded.stream.key.as_str().parse().unwrap_or_default();
                let due = state.open.remove(&number).expect("an order ends once, after it began");
                let micros =
                    u64::try_from(now.saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX);
                latency.saturating_record(micros);
            }
            self.room.add_permits(closed.len());
            if state.is_complete && state.open.is_empty() {
                return Ok(latency);
            }
        }
    }
}

async fn all(mut tasks: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|cause| Error::new(Code::CLOSED, "a publisher was cancelled").with_source(cause))??;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
