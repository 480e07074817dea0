//! `ensue bench waiting --instances N`: what sagas cost that wait. Starts instances that wait for an event for two weeks,
//! measures the memory, and wakes some of them to see that they go on. Then two weeks are over for all the others at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ensue::core::{Code, Error, Position};
use ensue::log::{Config, Log};
use ensue::runtime::saga::head::{self, SagaStatus};
use ensue::{App, Event, Running, Saga, SagaError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::process::rss_mb;
use super::storm::{self, Probes, SetAhead, Storm};
use crate::command::Session;
use crate::failure::Failure;
use crate::scratch::Scratch;

/// Tasks that publish at the same time.
const PUBLISHERS: u64 = 64;
/// Instances that are woken at the end.
const WOKEN: u64 = 1_000;
const TWO_WEEKS: Duration = Duration::from_hours(14 * 24);

/// Sagas that wait: how fast they start, and what memory they take
#[derive(Args)]
pub(crate) struct Waiting {
    /// How many
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    instances: u64,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    instances: u64,
    started_per_s: f64,
    rss_mb: f64,
    woken: u64,
    woken_per_s: f64,
    storm: Storm,
    /// The most at any time, the storm included.
    rss_mb_max: f64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "BenchShipped", topic = "BenchParcel", key = parcel)]
struct Shipped {
    parcel: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "BenchDelivered", topic = "BenchParcel", key = parcel)]
struct Delivered {
    parcel: String,
}

async fn await_delivery(saga: Saga<Shipped>) -> Result<(), SagaError> {
    let parcel = saga.input().parcel.clone();
    saga.wait_for::<Delivered>(&parcel).within(TWO_WEEKS).await?;
    Ok(())
}

impl Waiting {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.place.folder())?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let (host, clock) = SetAhead::of(&session.host);
        let probes = Probes::new();
        let app =
            App::new("bench").host(host).store(log.clone()).external::<Shipped>().external::<Delivered>();
        let app = probes.mount(app);
        let running = Arc::new(app.saga("await-delivery", await_delivery).start().await?);

        let started = Instant::now();
        publish(&running, self.instances, |parcel| Shipped { parcel }).await?;
        let started_per_s = rate(self.instances, started);
        let rss_mb = rss_mb()?;

        let woken = WOKEN.min(self.instances);
        let began = Instant::now();
        publish(&running, woken, |parcel| Delivered { parcel }).await?;
        let woken_per_s = rate(woken, began);
        let completed = completed(&log, woken).await?;
        if completed != woken {
            let message = format!("{woken} instances were woken, {completed} have completed");
            return Err(Error::new(Code::CHECK_FAILED, message).into());
        }
        let storm = storm::run(&running, &clock, &probes, self.instances - woken, TWO_WEEKS).await?;
        let rss_mb_max = super::process::rss_mb()?;
        Arc::into_inner(running).expect("every publisher is done").stop(Duration::from_secs(30)).await?;
        log.close()?;
        let instances = self.instances;
        let measured = Measured { instances, started_per_s, rss_mb, woken, woken_per_s, storm, rss_mb_max };
        let words = in_words(&measured);
        session.output.one(&measured, &words)?;
        Ok(())
    }
}

fn in_words(measured: &Measured) -> String {
    let Measured { instances, started_per_s, rss_mb, woken, woken_per_s, storm, rss_mb_max } = measured;
    let Storm { fired, fired_per_s, probe_us } = storm;
    format!(
        "{instances} instances wait, {started_per_s:.0} started/s\n{rss_mb:.0} MB of memory at most\n{woken} woken, {woken_per_s:.0}/s\n\
         {fired} time limits over at once, {fired_per_s:.0}/s; a reaction beside them after {} µs (p50), {} µs (p99), {} µs at most\n\
         {rss_mb_max:.0} MB of memory at most with that",
        probe_us.p50, probe_us.p99, probe_us.max,
    )
}

/// Publishes so many events, and waits until everything that follows from them is settled.
async fn publish<E: Event>(running: &Arc<Running>, count: u64, make: fn(String) -> E) -> Result<(), Error> {
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let running = Arc::clone(running);
        publishers.spawn(async move {
            for number in (publisher..count).step_by(usize::try_from(PUBLISHERS).unwrap_or(1)) {
                running.publish(make(number.to_string())).await?;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended.map_err(|cause| Error::new(Code::CLOSED, "a publisher was cancelled").with_source(cause))??;
    }
    // What the saga writes is delivered to it again: settled is what leaves the head where it was.
    let mut settled = Position::ZERO;
    loop {
        let head = ensue::StoreExt::head(running.store()).await?;
        if head == settled {
            return Ok(());
        }
        running.settled(head).await;
        settled = head;
    }
}

/// How many of the first instances have completed.
async fn completed(log: &Log, count: u64) -> Result<u64, Error> {
    let mut completed = 0;
    for number in 0..count {
        let head = head::get(log, "await-delivery", &number.to_string()).await?;
        completed += u64::from(head.is_some_and(|head| head.status == SagaStatus::Completed));
    }
    Ok(completed)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(super) fn rate(count: u64, since: Instant) -> f64 {
    (count as f64 / since.elapsed().as_secs_f64()).round()
}
