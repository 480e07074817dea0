//! The storm of `bench waiting`: the time limits of all instances that still wait are over at the same moment. Measures how fast
//! that is worked off, and what it does to other work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ensue::core::{BoxFuture, Clock, Error, Host, Timestamp};
use ensue::runtime::app::Quiescence;
use ensue::{App, Event, Running, State};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::waiting::rate;

/// One probe each tick, while the storm goes on.
const TICK: Duration = Duration::from_millis(10);
/// Longer latencies than a minute are recorded as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// A wall clock that can be set ahead.
pub(super) struct SetAhead {
    clock: Arc<dyn Clock>,
    by_ms: AtomicU64,
}

impl SetAhead {
    pub(super) fn of(host: &Host) -> (Host, Arc<Self>) {
        let clock = Arc::new(Self { clock: Arc::clone(&host.clock), by_ms: AtomicU64::new(0) });
        (Host { clock: Arc::clone(&clock) as Arc<dyn Clock>, entropy: Arc::clone(&host.entropy) }, clock)
    }

    fn set_ahead(&self, by: Duration) {
        self.by_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for SetAhead {
    fn now(&self) -> Timestamp {
        self.clock.now() + Duration::from_millis(self.by_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Storm {
    pub(super) fired: u64,
    pub(super) fired_per_s: f64,
    /// From the call that publishes an event to the moment its reaction runs, while the storm goes on.
    pub(super) probe_us: Taken,
}

/// How long the probes took, in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// Other work.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "BenchProbe", topic = "BenchProbe", key = number)]
struct Probe {
    number: String,
    sent_us: u64,
}

/// When probes began, and how long each took.
#[derive(Clone)]
pub(super) struct Probes {
    began: Instant,
    taken: Arc<Mutex<Histogram<u64>>>,
}

impl Probes {
    pub(super) fn new() -> Self {
        let taken = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
        Self { began: Instant::now(), taken: Arc::new(Mutex::new(taken)) }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn mount(&self, app: App) -> App {
        app.state(self.clone()).external::<Probe>().react("probe", answer)
    }
}

async fn answer(State(probes): State<Probes>, probe: Probe) {
    let took = probes.now_us().saturating_sub(probe.sent_us);
    probes.taken.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
}

/// Sets the clock ahead and waits until every time limit is worked off.
pub(super) async fn run(
    running: &Running,
    clock: &SetAhead,
    probes: &Probes,
    waiting: u64,
    ahead: Duration,
) -> Result<Storm, Error> {
    clock.set_ahead(ahead);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let mut number = 0_u64;
    loop {
        ticks.tick().await;
        number += 1;
        if !number.is_multiple_of(20) {
            running.publish(Probe { number: number.to_string(), sent_us: probes.now_us() }).await?;
        } else if running.quiescence().await? == Quiescence::Idle {
            break;
        }
    }
    let fired_per_s = rate(waiting, began);
    let taken = probes.taken.lock().unwrap_or_else(PoisonError::into_inner);
    let (p50, p99, max) = (taken.value_at_quantile(0.5), taken.value_at_quantile(0.99), taken.max());
    Ok(Storm { fired: waiting, fired_per_s, probe_us: Taken { p50, p99, max } })
}
