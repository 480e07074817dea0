//! The broker in memory keeps the contract that it declares, and one that declares less does not do more.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::Bus;
use ensue_core::{BoxFuture, Error};
use ensue_test::MemoryBus;
use ensue_test::conformance::bus::{Broker, Fault};

/// See [`Broker`].
struct InMemory(MemoryBus);

impl Broker for InMemory {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let bus: Arc<dyn Bus> = Arc::new(self.0.clone());
        Box::pin(async { Ok(bus) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let bus: Arc<dyn Bus> = Arc::new(self.0.denied());
        Box::pin(async { Ok(bus) })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        // A broker in memory has no network between it and its clients: its connections break themselves.
        self.open()
    }

    fn cut(&self) -> usize {
        self.0.cut()
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.0.down(),
            Fault::Start => self.0.up(),
            Fault::Pause => self.0.pause(),
            Fault::Resume => self.0.resume(),
        }
        Box::pin(async {})
    }

    fn is_alive(&self) -> bool {
        self.0.is_up()
    }
}

/// Slow enough that something can happen in mid-stream.
fn slow() -> MemoryBus {
    let bus = MemoryBus::new(ensue_runtime::host::system());
    let bus = bus.with(|can| can.redelivers_after = Some(Duration::from_secs(1)));
    bus.slow(Duration::from_millis(1));
    bus
}

async fn fresh() -> Arc<dyn Broker> {
    Arc::new(InMemory(slow()))
}

/// One that can do as little as the port allows.
async fn modest() -> Arc<dyn Broker> {
    let bus = slow().with(|can| {
        (can.can_order_by_key, can.can_replay, can.can_seek) = (false, false, false);
        (can.can_delay, can.can_reject, can.can_detect_unroutable) = (false, false, false);
        (can.redelivers_after, can.can_count_waiting) = (None, false);
        (can.can_deduplicate, can.can_count_attempts, can.can_refuse_late) = (false, false, false);
    });
    Arc::new(InMemory(bus))
}

mod contract {
    ensue_test::bus_conformance!(super::fresh);
}

mod contract_of_the_modest {
    ensue_test::bus_conformance!(super::modest);
}
