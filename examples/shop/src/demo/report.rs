//! The figures of a demonstration. Their shape as JSON is a promise to scripts.

use std::time::Duration;

use serde::Serialize;
use smol_str::SmolStr;

use super::audit::Books;
use super::sample::Sample;
use super::watch::Watch;
use crate::events::OrderState;
use crate::outside::{Defect, Outside};
use crate::{Money, Style};

/// What became of all orders of a folder.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// How they were served.
    #[serde(skip)]
    pub style: Style,
    /// Orders of the folder, those of earlier runs included.
    pub orders: u64,
    /// Where they ended.
    pub outcomes: Outcomes,
    /// Orders that were broken on purpose, by key; they do not end by themselves and are in no outcome.
    pub broken: Vec<BrokenOrder>,
    /// Events in the log.
    pub events: u64,
    /// By the books of the payment provider.
    pub money: MoneySums,
    /// By the books of the warehouse, in pieces.
    pub stock: StockSums,
    /// Calls to the three outside.
    pub effects: Effects,
    /// Of this run.
    pub elapsed_s: f64,
    /// Orders that ended in this run, over its time.
    pub orders_per_s: f64,
    /// From an order to its last event, as recorded.
    pub latency_us: Latency,
    /// Where the books disagree; empty where all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// An order that was served and one that was not, to look at.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// An order that does not end by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BrokenOrder {
    /// The order's id, which is the key of its flow.
    pub key: String,
    /// In what way it is broken.
    pub kind: Defect,
    /// Whether it has ended after all, because somebody saw to it.
    pub ended: bool,
}

/// Orders by their end; every order that is not broken is in exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Outcomes {
    /// Served.
    pub completed: u64,
    /// Declined.
    pub payment_failed: u64,
    /// Not in stock; refunded.
    pub inventory_failed: u64,
    /// Not shipped; released, then refunded.
    pub shipping_failed: u64,
}

impl Outcomes {
    /// Counts an order that has ended. A state that is no end counts nowhere.
    pub(super) fn count(&mut self, state: OrderState) {
        match state {
            OrderState::Completed => self.completed += 1,
            OrderState::PaymentFailed => self.payment_failed += 1,
            OrderState::InventoryFailed => self.inventory_failed += 1,
            OrderState::ShippingFailed => self.shipping_failed += 1,
            _ => {}
        }
    }

    /// All of them.
    pub fn ended(&self) -> u64 {
        self.completed + self.payment_failed + self.inventory_failed + self.shipping_failed
    }
}

/// What the payment provider holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MoneySums {
    /// All that was charged.
    pub charged: Money,
    /// All that was given back.
    pub refunded: Money,
    /// The difference.
    pub kept: Money,
}

/// What the warehouse holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct StockSums {
    /// All that was delivered to it.
    pub initial: u64,
    /// All that was set aside.
    pub reserved: u64,
    /// All that was put back.
    pub released: u64,
    /// What is on the shelves.
    pub left: u64,
}

/// What the three outside were asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Effects {
    /// Calls that arrived.
    pub calls: u64,
    /// Calls whose key had been answered before; they took no effect again.
    pub repeats: u64,
}

/// In microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of the orders took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest; an order that waited for a resumption waited long.
    pub max: u64,
}

pub(super) fn report(
    style: Style,
    watch: &Watch,
    books: Books,
    outside: &Outside,
    events: u64,
    elapsed: Duration,
    samples: Vec<Sample>,
) -> Report {
    let (provider, warehouse) = (outside.provider.totals(), outside.warehouse.totals());
    let calls = [provider.calls, warehouse.calls, outside.carrier.totals().calls];
    let seconds = elapsed.as_secs_f64();
    let ended_now = watch.outcomes.ended() - watch.ended_before;
    Report {
        style,
        orders: watch.placed,
        outcomes: watch.outcomes,
        broken: broken(watch),
        events,
        money: MoneySums { charged: provider.charged, refunded: provider.refunded, kept: provider.kept },
        stock: StockSums {
            initial: warehouse.initial,
            reserved: warehouse.reserved,
            released: warehouse.released,
            left: warehouse.left,
        },
        effects: Effects {
            calls: calls.iter().map(|calls| calls.calls).sum(),
            repeats: calls.iter().map(|calls| calls.repeats).sum(),
        },
        elapsed_s: rounded(seconds, 1_000.0),
        orders_per_s: if seconds > 0.0 { rounded(count(ended_now) / seconds, 10.0) } else { 0.0 },
        latency_us: Latency {
            p50: watch.latency.value_at_quantile(0.5),
            p99: watch.latency.value_at_quantile(0.99),
            max: watch.latency.max(),
        },
        findings: books.findings,
        samples,
    }
}

fn broken(watch: &Watch) -> Vec<BrokenOrder> {
    let order = |(key, kind): (&SmolStr, &Defect)| BrokenOrder {
        key: key.to_string(),
        kind: *kind,
        ended: watch.is_repaired(key),
    };
    watch.broken.iter().map(order).collect()
}

pub(super) fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn count(number: u64) -> f64 {
    number as f64
}
