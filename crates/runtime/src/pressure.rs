//! Back-pressure: what a handler asks for before it is called, and waits for when there is no room.
//!
//! A `Gate` stands before each handler: quota, rate, breaker. A delivery that finds it closed waits where it is, in its
//! lane: that is no attempt, parks nothing, and ends with the lane.
//!
//! Invariant: nothing is held across a call but a `Permit`, and dropping it gives back what it holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensue_core::{Clock, Code, Error, Failure, Recorded};
use smol_str::SmolStr;

use crate::policy::Settings;
use crate::progress::lock;
use crate::subscription::Shared;

mod breaker;
mod quota;
mod rate;
mod record;

pub use breaker::{Breaker, BreakerState};
use breaker::{Circuit, Pass, Sign};
use quota::Meters;
pub(crate) use quota::{Quota, value_of};
use rate::Meter;
pub use rate::Rate;
pub(crate) use record::clear;
pub use record::{BreakerStatus, OpenBreaker, open_breakers};

/// The limits of the handlers of one application.
#[derive(Default)]
pub(crate) struct Pressure {
    breakers: Mutex<Vec<Arc<SharedBreaker>>>,
    named_rates: Mutex<HashMap<&'static str, Arc<Mutex<Meter>>>>,
    gates: Mutex<HashMap<SmolStr, Gate>>,
}

/// A breaker with all that share it.
struct SharedBreaker {
    breaker: Breaker,
    circuit: Mutex<Circuit>,
    handlers: Mutex<Vec<SmolStr>>,
    /// Held while the store is told, so that it is told the last state last.
    recorded: tokio::sync::Mutex<record::Recorded>,
}

impl Shared {
    /// What a handler with these settings asks before it is called. A fork calls nobody, so it waits for nobody.
    pub(crate) fn gate(&self, handler: &str, settings: &Settings) -> Gate {
        if self.replay.is_some() {
            return ALWAYS_OPEN.clone();
        }
        self.pressure.gate(handler, settings)
    }
}

impl Pressure {
    /// The gate of a handler, the same each time. Handlers that name the same breaker or rate share it.
    fn gate(&self, handler: &str, settings: &Settings) -> Gate {
        let mut gates = lock(&self.gates);
        let new = || Gate {
            handler: handler.into(),
            calls: Some(Arc::default()),
            breaker: settings.breaker.map(|breaker| self.breaker(breaker, handler)),
            rate: settings.rate.map(|rate| (rate, self.meter(rate))),
            quota: settings.quota.map(|quota| (quota, Arc::default())),
        };
        gates.entry(handler.into()).or_insert_with(new).clone()
    }

    /// How often each handler has been called.
    pub(crate) fn calls(&self) -> BTreeMap<SmolStr, u64> {
        lock(&self.gates).iter().map(|(handler, gate)| (handler.clone(), gate.calls())).collect()
    }

    fn meter(&self, rate: Rate) -> Arc<Mutex<Meter>> {
        rate.name
            .map_or_else(Arc::default, |name| Arc::clone(lock(&self.named_rates).entry(name).or_default()))
    }

    fn breaker(&self, breaker: Breaker, handler: &str) -> Arc<SharedBreaker> {
        let mut breakers = lock(&self.breakers);
        let known = breakers.iter().find(|known| known.breaker.name == breaker.name).cloned();
        let shared = known.unwrap_or_else(|| {
            let new = Arc::new(SharedBreaker {
                breaker,
                circuit: Mutex::default(),
                handlers: Mutex::default(),
                recorded: tokio::sync::Mutex::default(),
            });
            breakers.push(Arc::clone(&new));
            new
        });
        lock(&shared.handlers).push(handler.into());
        shared
    }
}

impl SharedBreaker {
    /// Why nothing is called; `None` where it is closed.
    fn why(&self) -> Option<String> {
        let circuit = lock(&self.circuit);
        let outage = circuit.outage()?;
        Some(format!("{} is open since {}: {}", self.breaker.name, outage.since, outage.error))
    }
}

/// Handlers that share a breaker or a rate have to agree about it.
pub(crate) fn check_shared<'a>(
    mounted: impl Iterator<Item = (&'a str, &'a Settings)>,
    name: &str,
    settings: &Settings,
) -> Result<(), Error> {
    let contested = |other: &str, what: &str| {
        let message = format!("{other} and {name} share {what}, with other settings");
        Err(Error::new(Code::LIMIT_CONTESTED, message))
    };
    for (other, known) in mounted {
        if let (Some(one), Some(two)) = (known.breaker, settings.breaker)
            && one.name == two.name
            && one != two
        {
            return contested(other, &format!("the breaker {}", one.name));
        }
        if let (Some(one), Some(two)) = (known.rate, settings.rate)
            && let Some(shared) = one.name.filter(|_| one.name == two.name)
            && one != two
        {
            return contested(other, &format!("the rate {shared}"));
        }
    }
    Ok(())
}

/// What stands before the calls of one handler. Without limits it is always open.
#[derive(Clone)]
pub(crate) struct Gate {
    handler: SmolStr,
    /// How many calls it has let through; none where nobody counts.
    calls: Option<Arc<AtomicU64>>,
    breaker: Option<Arc<SharedBreaker>>,
    rate: Option<(Rate, Arc<Mutex<Meter>>)>,
    quota: Option<(Quota, Arc<Mutex<Meters>>)>,
}

/// The right to make one call.
#[must_use = "a permit that is dropped is a call that was not made"]
pub(crate) struct Permit<'a> {
    breaker: Option<(&'a SharedBreaker, Pass)>,
}

/// Why a call is not made now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    /// As many calls were made as may be; there is room in so long.
    Limited(Duration),
    /// The dependency is held for dead; ask again in so long.
    Open(Duration),
}

impl NoRoom {
    pub(crate) fn wait(self) -> Duration {
        let (Self::Limited(wait) | Self::Open(wait)) = self;
        wait
    }
}

/// The gate of handlers that have no limits.
static ALWAYS_OPEN: Gate =
    Gate { handler: SmolStr::new_static(""), calls: None, breaker: None, rate: None, quota: None };

impl Gate {
    pub(crate) fn always_open() -> &'static Self {
        &ALWAYS_OPEN
    }

    /// Lets one call through, or says why not. What was taken is given back where something else is missing.
    pub(crate) fn admit(&self, recorded: &Recorded, shared: &Shared) -> Result<Permit<'_>, NoRoom> {
        let now = shared.press.host.clock.monotonic();
        let share = self.share(shared);
        let quota = self.quota.as_ref().map(|(quota, meters)| {
            let value = value_of(&recorded.envelope, quota.tag);
            (value, quota.rate, meters)
        });
        if let Some((value, rate, meters)) = quota {
            lock(meters).take(value, &rate, share, now).map_err(NoRoom::Limited)?;
        }
        let no_room = match self.take_rate(share, now) {
            Err(wait) => NoRoom::Limited(wait),
            Ok(()) => match self.ask_breaker(recorded, now) {
                Ok(permit) => {
                    self.count();
                    return Ok(permit);
                }
                Err(wait) => {
                    self.give_rate_back(share);
                    NoRoom::Open(wait)
                }
            },
        };
        if let Some((value, rate, meters)) = quota {
            lock(meters).give_back(value, &rate, share, now);
        }
        Err(no_room)
    }

    /// The same for who waits for an answer: it is refused where there is no room within this time, and at once while the
    /// dependency is held for dead.
    pub(crate) async fn admit_within(
        &self,
        within: Duration,
        recorded: &Recorded,
        shared: &Shared,
    ) -> Result<Permit<'_>, Error> {
        let mut left = within;
        loop {
            let wait = match self.admit(recorded, shared) {
                Ok(permit) => return Ok(permit),
                Err(NoRoom::Open(_)) => return Err(self.refusal()),
                Err(NoRoom::Limited(wait)) => wait,
            };
            left = left.checked_sub(wait).ok_or_else(|| {
                let message =
                    format!("{} has no turn within {within:?}: the next is in {wait:?}", self.handler);
                Error::new(Code::RATE_LIMITED, message)
            })?;
            shared.press.host.clock.sleep(wait).await;
        }
    }

    /// Has the store know whether the breaker is open; to be called at the end of each call.
    pub(crate) async fn keep_record(&self, shared: &Shared) {
        if let Some(breaker) = &self.breaker {
            breaker.keep_record(shared).await;
        }
    }

    fn count(&self) {
        if let Some(calls) = &self.calls {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn calls(&self) -> u64 {
        self.calls.as_ref().map_or(0, |calls| calls.load(Ordering::Relaxed))
    }

    fn refusal(&self) -> Error {
        let why = self.breaker.as_deref().and_then(SharedBreaker::why).unwrap_or_default();
        Error::new(Code::BREAKER_OPEN, format!("{} is not called: {why}", self.handler))
    }

    /// How many processes make these calls.
    fn share(&self, shared: &Shared) -> u32 {
        if self.rate.is_none() && self.quota.is_none() {
            return 1;
        }
        let view = shared.view.borrow();
        let callers = view.members.iter().filter(|member| member.subscriptions.contains_key(&self.handler));
        u32::try_from(callers.count().max(1)).unwrap_or(u32::MAX)
    }

    fn take_rate(&self, share: u32, now: Duration) -> Result<(), Duration> {
        self.rate.as_ref().map_or(Ok(()), |(rate, meter)| lock(meter).take(rate, share, now))
    }

    fn give_rate_back(&self, share: u32) {
        if let Some((rate, meter)) = &self.rate {
            lock(meter).give_back(rate, share);
        }
    }

    fn ask_breaker(&self, recorded: &Recorded, now: Duration) -> Result<Permit<'_>, Duration> {
        let Some(shared) = self.breaker.as_deref() else { return Ok(Permit { breaker: None }) };
        let pass = lock(&shared.circuit).ask(recorded.position, now)?;
        Ok(Permit { breaker: Some((shared, pass)) })
    }
}

impl Permit<'_> {
    /// Takes in how the call has ended. A time to wait: the breaker is open now, and the failure counts as no attempt.
    pub(crate) fn end<T>(mut self, result: &Result<T, Failure>, clock: &dyn Clock) -> Option<Duration> {
        let (breaker, pass) = self.breaker.take()?;
        let times = (clock.monotonic(), clock.now());
        lock(&breaker.circuit).end(&breaker.breaker, (pass, Sign::of(result)), times)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some((shared, pass)) = self.breaker.take() {
            lock(&shared.circuit).abandon(pass);
        }
    }
}
