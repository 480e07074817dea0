//! Links: a broker is a link between two logs.
//!
//! A [`Relay`] takes the events of one topic to a broker: it is a subscription that publishes, so its lanes keep the order of
//! each key, and its checkpoint moves when the broker has confirmed. An [`Intake`] brings messages into the log, each once.
//!
//! ```
//! # use std::sync::Arc;
//! # use ensue_core::Bus;
//! use ensue_runtime::{App, Intake, Relay};
//!
//! fn linked(app: App, bus: Arc<dyn Bus>) -> App {
//!     app.relay(Relay::new("orders-out", Arc::clone(&bus)).topic("Order").to("shop.orders"))
//!         .intake(Intake::new("payments-in", bus).from("shop.payments").topic("Payment"))
//! }
//! ```
//!
//! What goes wrong, and what becomes of it:
//!
//! - The broker is away, or lets nobody in: everything waits, nothing is parked, and [`Running::links`](crate::Running::links)
//!   says since when and why.
//! - The broker refuses one event (too large, no place for it): its key is parked as a dead letter of the relay, other keys go on.
//! - A message cannot be read: it is kept as it came and is a dead letter of the intake, to be redriven when the configuration
//!   has been mended, or discarded.
//! - A message comes again: it is dropped and counted, as long as its (source, id) is remembered.
//! - An event came in over a link: it is not sent back over the same link, and a log that it has been in before drops it.
//!
//! Invariants: a message is acknowledged after the commit that takes it in; an event counts as sent when the broker has confirmed
//! it; nothing is in hand that would be lost with the process.

use std::time::Duration;

mod batch;
mod came;
mod desired;
mod fate;
mod foreign;
mod gauge;
mod intake;
mod log_id;
mod parked;
mod pick;
mod read;
mod relay;
pub(crate) mod request;
mod session;
mod status;
mod stored;
mod target;

pub(crate) use desired::follow;
pub use desired::{SeekOutcome, Wanted, ask, outcome};
pub use gauge::LinkChanges;
pub(crate) use gauge::{Gauge, Gauges, Pause};
pub use intake::Intake;
pub(crate) use intake::Mounted as MountedIntake;
pub use pick::Pick;
pub use relay::Relay;
pub use status::{Direction, LinkState, LinkStatus, Trouble};
pub use stored::{Asked, group_of, stored};
pub(crate) use stored::{completed, keep};

/// Extension attribute: the link over which an event came in.
pub(crate) const LINK: &str = "ensuelink";
/// Extension attribute: the logs that an event has been in, oldest first.
pub(crate) const LOGS: &str = "ensuelogs";

/// Pause before a broker is tried again; it doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// No longer than a lane is held: a longer pause would set deliveries aside.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pause after so many failures in a row.
fn pause_after(failures: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(PAUSE_MAX)
}
