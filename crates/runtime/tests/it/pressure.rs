//! Limits before a handler is called: breakers, rates, quotas.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ensue_core::Clock;
use ensue_macros::{Command, Event};
use ensue_runtime::{App, State};
use ensue_test::{Harness, VirtualClock};
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Tick};

mod breaker;
mod fair;
mod limits;
mod queues;

/// A dependency of handlers that somebody can take down.
#[derive(Clone, Default)]
struct Api {
    is_down: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<Called>>>,
    now: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    clock: Arc<OnceLock<Arc<VirtualClock>>>,
}

/// A call that has come to the dependency.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Called {
    second: u64,
    who: String,
    is_done: bool,
}

impl Api {
    /// An application whose handlers call it.
    fn harness(&self, mount: impl Fn(App) -> App + 'static) -> Harness {
        let api = self.clone();
        let harness =
            Harness::new(move |app: App| mount(app.state(api.clone()).external::<Tick>().external::<Job>()));
        let _first = self.clock.set(harness.clock().clone()).is_ok();
        harness
    }

    fn clock(&self) -> &VirtualClock {
        self.clock.get().expect("it is part of a harness")
    }

    fn take_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    fn calls(&self) -> Vec<Called> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn done(&self) -> Vec<String> {
        self.calls().into_iter().filter(|call| call.is_done).map(|call| call.who).collect()
    }

    /// How many calls there were in each second.
    fn by_second(&self) -> BTreeMap<u64, u32> {
        let mut by_second = BTreeMap::new();
        self.calls().iter().for_each(|call| *by_second.entry(call.second).or_default() += 1);
        by_second
    }

    /// Most calls at one moment since this was last asked.
    fn most_at_once(&self) -> u32 {
        self.most.swap(0, Ordering::Relaxed)
    }

    /// A call that takes so long, and is refused while the dependency is down.
    async fn call(&self, who: String, takes: Duration) -> Result<(), Broken> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        let second = self.clock().monotonic().as_secs();
        if !takes.is_zero() {
            self.clock().sleep(takes).await;
        }
        self.now.fetch_sub(1, Ordering::Relaxed);
        let is_done = !self.is_down.load(Ordering::Relaxed);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(Called { second, who, is_done });
        if is_done { Ok(()) } else { Err(Broken("connection refused")) }
    }
}

async fn charge(State(api): State<Api>, tick: Tick) -> Result<(), Broken> {
    api.call(format!("{}{}", tick.key, tick.number), Duration::ZERO).await
}

/// Another handler of the same dependency, with calls that take two seconds.
async fn report(State(api): State<Api>, tick: Tick) -> Result<(), Broken> {
    api.call(format!("report {}{}", tick.key, tick.number), Duration::from_secs(2)).await
}

/// Something of a tenant.
#[derive(Event, Serialize, Deserialize, Clone)]
#[event(crate = ensue_core, topic = "Job", key = job, tags(tenant))]
struct Job {
    job: String,
    tenant: String,
}

fn job(tenant: &str, number: u32) -> Job {
    Job { job: format!("{tenant}-{number}"), tenant: tenant.to_owned() }
}

async fn work(State(api): State<Api>, job: Job) -> Result<(), Broken> {
    api.call(job.tenant, Duration::ZERO).await
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order)]
struct Charge {
    order: String,
}

async fn charge_order(State(api): State<Api>, charge: Charge) -> Result<Result<(), ()>, Broken> {
    api.call(charge.order, Duration::ZERO).await.map(Ok)
}
