//! Time as data: events for later, deliveries that are deferred, and what becomes of them when things go wrong.

#![expect(clippy::indexing_slicing, reason = "an index that is not there is a failed test that says where")]

use std::time::Duration;

use ensue_core::{Delayed, Outcome, Timestamp};
use ensue_macros::Event;
use ensue_runtime::{App, Attempt, Reaction, Retry, State, dead, timer};
use ensue_test::{Harness, crash_everywhere};
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Diary, OrderPlaced, PaymentFailed, Tick, placed, tick};

mod deferred;
mod delayed;
mod misfortune;
mod operated;

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// What is sent when an order was not paid in time.
#[derive(Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Order", key = order)]
pub(crate) struct PaymentDue {
    pub(crate) order: String,
}

pub(crate) async fn remind(placed: OrderPlaced) -> Delayed<PaymentDue> {
    Delayed::after(10 * MINUTE, PaymentDue { order: placed.order })
}

pub(crate) async fn timers(harness: &Harness) -> Vec<timer::Timer> {
    timer::list(&**harness.store()).await.expect("timers can be read")
}
