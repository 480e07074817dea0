//! The outside world of the sagas under test: a ledger that does each thing once per idempotency key, and the commands
//! that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::Host;
use ensue_macros::{Command, Event};
use ensue_runtime::saga::SagaStatus;
use ensue_runtime::{App, Cause, State};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

use crate::words::OrderPlaced;

/// What was done outside. Outlasts crashes.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    calls: Vec<String>,
    effects: Vec<String>,
    keys: BTreeSet<(String, String)>,
    refusals: BTreeMap<String, u32>,
    delays: BTreeMap<String, Duration>,
}

/// Refuse whatever comes.
pub(crate) const ALWAYS: u32 = u32::MAX;

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is refused so many times.
    pub(crate) fn refuse(&self, what: &str, times: u32) {
        self.pages().refusals.insert(what.to_owned(), times);
    }

    /// From now on this takes so long.
    pub(crate) fn delay(&self, what: &str, by: Duration) {
        self.pages().delays.insert(what.to_owned(), by);
    }

    /// What took hold, in order, each once for its key.
    pub(crate) fn effects(&self) -> Vec<String> {
        self.pages().effects.clone()
    }

    /// How often it was asked for.
    pub(crate) fn calls(&self, what: &str) -> usize {
        self.pages().calls.iter().filter(|call| *call == what).count()
    }

    pub(crate) fn act(&self, key: &str, what: &str) -> Result<(), Refused> {
        let mut pages = self.pages();
        pages.calls.push(what.to_owned());
        if let Some(left) = pages.refusals.get_mut(what).filter(|left| **left > 0) {
            *left -= u32::from(*left != ALWAYS);
            return Err(Refused { why: format!("no {what} today") });
        }
        if pages.keys.insert((key.to_owned(), what.to_owned())) {
            pages.effects.push(what.to_owned());
        }
        Ok(())
    }

    async fn answer(&self, host: &Host, cause: &Cause, what: &str, order: String) -> Result<Done, Refused> {
        let delay = self.pages().delays.get(what).copied();
        if let Some(delay) = delay {
            host.clock.sleep(delay).await;
        }
        self.act(&cause.idempotency_key(), what).map(|()| Done { order })
    }
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    pub(crate) order: String,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

macro_rules! commands {
    ($($command:ident $handler:ident)*) => {
        $(
            #[derive(Command, Serialize, Deserialize, Clone, Debug)]
            #[command(crate = ensue_core, key = order, reply = Done, failure = Refused)]
            pub(crate) struct $command {
                pub(crate) order: String,
            }

            async fn $handler(
                State(ledger): State<Ledger>,
                State(host): State<Host>,
                cause: Cause,
                command: $command,
            ) -> Result<Done, Refused> {
                ledger.answer(&host, &cause, stringify!($handler), command.order).await
            }
        )*

        pub(crate) fn mount_commands(app: App) -> App {
            app$(.handle($handler))*
        }
    };
}

commands! {
    Charge charge
    Refund refund
    Reserve reserve
    Release release
    Ship ship
}

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Order", key = order)]
pub(crate) struct OrderFulfilled {
    pub(crate) order: String,
}

#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Delivery", key = order)]
pub(crate) struct Delivered {
    pub(crate) order: String,
    pub(crate) parcel: u32,
}

/// An application with the outside world, and the saga that `mount` adds.
pub(crate) fn harness(ledger: &Ledger, mount: impl Fn(App) -> App + 'static) -> Harness {
    let ledger = ledger.clone();
    let host: Arc<std::sync::OnceLock<Host>> = Arc::default();
    let inside = host.clone();
    let harness = Harness::new(move |app: App| {
        let host = inside.get().expect("it is set before the first start").clone();
        let app = app.state(ledger.clone()).state(host);
        mount(mount_commands(app.external::<OrderPlaced>().external::<Delivered>()))
    });
    let _first = host.set(harness.host().clone()).is_ok();
    harness
}

/// Where the only order stands, and its steps in the order in which they were undone.
pub(crate) async fn end(harness: &Harness) -> (SagaStatus, Vec<String>) {
    let head = harness.saga("fulfil", "ORD-1").await.expect("it was started");
    (head.status, head.undone.iter().map(ToString::to_string).collect())
}

/// Code and reason of the instance that cannot go on.
pub(crate) async fn trouble(harness: &Harness) -> (SagaStatus, String, String) {
    let head = harness.saga("fulfil", "ORD-1").await.expect("it was started");
    (head.status, head.code.unwrap_or_default(), head.reason.unwrap_or_default())
}
