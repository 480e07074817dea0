//! What a relay publishes to: made, or seen to be there, when the relay starts and again after it was missed.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Declare, Topology};
use ensue_core::{Clock, Code, Error, Timestamp};
use tokio::sync::Mutex;

use super::gauge::Gauge;
use super::session::{becomes, changes};
use crate::subscription::Shared;

/// For so long after it was seen, it is taken to be there.
const SEEN_FOR: Duration = Duration::from_secs(10);

/// How often it is looked for where nothing is published.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A channel of a broker, and when it was last seen.
pub(crate) struct Target {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) gauge: Arc<Gauge>,
    declare: Declare,
    seen: Mutex<Option<Timestamp>>,
}

impl Target {
    pub(super) fn new(bus: Arc<dyn Bus>, declare: Declare, gauge: Arc<Gauge>) -> Self {
        Self { bus, gauge, declare, seen: Mutex::default() }
    }

    /// Makes sure that the broker has it: once, and again after it was missed.
    pub(super) async fn declare(&self, clock: &dyn Clock) -> Result<(), Error> {
        let mut seen = self.seen.lock().await;
        if seen.is_none() {
            self.make().await?;
            *seen = Some(clock.now());
        }
        Ok(())
    }

    async fn make(&self) -> Result<(), Error> {
        let topology = Topology { targets: vec![self.gauge.channel.clone()], sources: Vec::new() };
        let found = self.bus.declare(&topology, self.declare).await?;
        match (self.declare, found.missing.first()) {
            (Declare::DryRun, Some(missing)) => {
                Err(Error::new(Code::BUS_UNROUTABLE, format!("the broker has no {missing}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether it was seen so lately that an event for which there is no place is to blame itself. If not, it is looked for again.
    pub(super) async fn is_there(&self, clock: &dyn Clock) -> bool {
        let mut seen = self.seen.lock().await;
        let now = clock.now();
        *seen = seen.filter(|since| now < *since + SEEN_FOR);
        seen.is_some()
    }

    /// Says how the relay stands although it has nothing to publish: looks for the broker at the start and then again and again.
    pub(crate) async fn watch(self: Arc<Self>, shared: Arc<Shared>) {
        tokio::select! {
            biased;
            () = shared.closed() => {}
            () = self.look_again_and_again(&*shared.press.host.clock) => {}
        }
    }

    /// Makes it where that was not done yet, and asks the broker in any case.
    async fn look(&self, clock: &dyn Clock) -> Result<(), Error> {
        if self.seen.lock().await.is_some() { self.make().await } else { self.declare(clock).await }
    }

    async fn look_again_and_again(&self, clock: &dyn Clock) {
        let mut paused = self.gauge.paused.subscribe();
        let mut is_known = false;
        loop {
            becomes(&mut paused, false).await;
            let pause = match self.look(clock).await {
                Ok(()) if is_known => LOOK_EVERY,
                Ok(()) => {
                    self.gauge.works(clock.now());
                    is_known = true;
                    LOOK_EVERY
                }
                Err(error) => {
                    is_known = false;
                    self.gauge.fails(&error, clock)
                }
            };
            tokio::select! {
                biased;
                // Whoever resumes it wants to know how it stands.
                () = changes(&mut paused) => is_known = false,
                () = clock.sleep(pause) => {}
            }
        }
    }
}
