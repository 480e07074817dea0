//! What the tests of links are written with.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Message};
use ensue_core::cloudevents::Binding;
use ensue_runtime::{App, Intake, LinkStatus, Relay};
use ensue_test::{Harness, MemoryBus, VirtualClock};

use crate::words::{OrderPlaced, Tick, tick};

/// Where events go.
pub(crate) const TICKS: &str = "clock.ticks";

pub(crate) fn bus() -> MemoryBus {
    bus_with_clock().0
}

/// A broker, and the clock by which it delivers again what was not settled.
pub(crate) fn bus_with_clock() -> (MemoryBus, Arc<VirtualClock>) {
    let (host, clock) = ensue_test::host(99);
    (MemoryBus::new(host), clock)
}

pub(crate) fn shared(bus: &MemoryBus) -> Arc<dyn Bus> {
    Arc::new(bus.clone())
}

/// A log whose ticks go out.
pub(crate) fn sender(bus: &MemoryBus) -> Harness {
    let bus = bus.clone();
    Harness::new(move |app: App| {
        let relay = Relay::new("ticks", shared(&bus)).topic("Tick").to(TICKS).lanes(2);
        app.external::<Tick>().external::<OrderPlaced>().relay(relay)
    })
}

/// A log into which ticks come.
pub(crate) fn receiver(bus: &MemoryBus) -> Harness {
    seeded_receiver(2, bus)
}

/// Another such log: who it is comes from the seed.
pub(crate) fn seeded_receiver(seed: u64, bus: &MemoryBus) -> Harness {
    let bus = bus.clone();
    Harness::seeded(seed, move |app: App| app.intake(Intake::new("ticks", shared(&bus)).from(TICKS)))
}

/// Publishes so many ticks under each of these keys.
pub(crate) async fn publish(harness: &mut Harness, keys: &[&str], each: u32) {
    for number in 1..=each {
        for key in keys {
            harness.publish(tick(key, number)).await;
        }
    }
}

/// An attribute of an event, as a message of the broker in memory says it.
pub(crate) fn attribute(message: &Message, name: &str) -> String {
    let found =
        message.headers.iter().find(|(header, _)| Binding::Kafka.attribute(header).as_deref() == Some(name));
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// Key and number of each message, in the order in which the broker has them; the first of those with one id.
pub(crate) fn sent(bus: &MemoryBus) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let messages = bus.messages(TICKS);
    let once = messages.iter().filter(|message| seen.insert(attribute(message, "id")));
    once.map(|message| of_tick(&message.body)).collect()
}

fn of_tick(body: &[u8]) -> String {
    let tick: Tick = serde_json::from_slice(body).expect("a tick");
    format!("{}{}", tick.key, tick.number)
}

/// Key and number of each tick in the log.
pub(crate) async fn logged(harness: &Harness) -> Vec<String> {
    let recorded = harness.recorded().await;
    let ticks = recorded.iter().filter(|recorded| recorded.envelope.event_type.as_str() == "Tick");
    ticks.map(|recorded| of_tick(&recorded.envelope.data)).collect()
}

/// Those of one key.
pub(crate) fn of_key(all: &[String], key: &str) -> Vec<String> {
    all.iter().filter(|one| one.starts_with(key)).cloned().collect()
}

/// `a1`, `a2`, …
pub(crate) fn numbered(key: &str, count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("{key}{number}")).collect()
}

/// Runs a log until the broker has nothing left for it.
pub(crate) async fn take_in(harness: &mut Harness, bus: &MemoryBus) {
    for _ in 0..1_000 {
        harness.settle().await;
        if bus.unsettled() == 0 && !bus.groups().is_empty() {
            return harness.settle().await;
        }
        // A pause of the link, or one between two deliveries of a message.
        harness.advance(Duration::from_millis(100)).await;
    }
    panic!("the broker still has {} messages", bus.unsettled());
}

/// How the only link of a log stands.
pub(crate) async fn status(harness: &mut Harness) -> LinkStatus {
    let all = harness.running().await.links().await.expect("the store can be read");
    let [only] = <[LinkStatus; 1]>::try_from(all).expect("one link");
    only
}

/// The broker of the run that is under way, where a scenario runs again and again.
pub(crate) struct Slot(RefCell<MemoryBus>);

impl Default for Slot {
    fn default() -> Self {
        Self(RefCell::new(bus()))
    }
}

impl Slot {
    /// Another broker, which holds nothing.
    pub(crate) fn renew(&self) -> MemoryBus {
        self.0.replace(bus());
        self.get()
    }

    pub(crate) fn get(&self) -> MemoryBus {
        self.0.borrow().clone()
    }
}
