//! Follows every order through the log, from its first event to its last. Holds only what is open.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ensue::core::{EventId, EventType, Query, Recorded};
use ensue::{Code, Error, Event, Position, Read, Store, Timestamp, Version};
use futures_util::TryStreamExt;
use hdrhistogram::Histogram;
use smol_str::SmolStr;

use super::Outcomes;
use crate::Style;
use crate::events::{
    CustomerNotified, InventoryFailed, OrderCompleted, OrderPlaced, OrderState, PaymentFailed,
    PaymentRefunded, RefundFailed, ReleaseFailed, ShipmentFailed,
};
use crate::outside::{Broken, Defect};

/// Longer latencies than an hour are recorded as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// The last entry in the journal of a saga that undid its steps.
const COMPENSATED: &str = "saga.Compensated";
/// The last entry in the journal of a saga that waits for a person.
const NEEDS_ATTENTION: &str = "saga.NeedsAttention";
/// Orders of the generator have smaller numbers.
const NUMBER_MAX: usize = 100_000_000;
/// Findings that are kept; one is bad enough.
const FINDINGS_MAX: usize = 10;

/// What is known of all orders.
pub(super) struct Watch {
    style: Style,
    /// Orders that there will be.
    expected: u64,
    /// Everything up to here is known.
    pub(super) position: Position,
    open: HashMap<SmolStr, Open>,
    defects: Broken,
    /// Broken orders that were placed.
    pub(super) broken: BTreeMap<SmolStr, Defect>,
    /// Broken orders whose undoing was given up.
    given_up: BTreeSet<SmolStr>,
    /// Broken orders that somebody has brought to an end by hand.
    repaired: BTreeSet<SmolStr>,
    pub(super) placed: u64,
    pub(super) outcomes: Outcomes,
    /// Orders that had ended before this run.
    pub(super) ended_before: u64,
    /// Microseconds from the first event of an order to its last, as recorded.
    pub(super) latency: Histogram<u64>,
    /// An order that was served, and one that was not.
    pub(super) shown: [Option<Ended>; 2],
    pub(super) findings: Vec<String>,
    /// Which orders of the generator were placed, by number.
    numbers: Vec<bool>,
}

struct Open {
    flow: EventId,
    placed_at: Timestamp,
    failed: Option<OrderState>,
    /// Its saga has undone everything.
    is_undone: bool,
}

/// An order that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) key: SmolStr,
    pub(super) flow: EventId,
    pub(super) state: OrderState,
    pub(super) micros: u64,
}

/// What an event means for an order.
enum Step {
    Placed,
    Failing(OrderState),
    Undone,
    End,
    /// It will never end by itself.
    Stuck,
}

impl Watch {
    /// Knows nothing yet but how many orders there will be, and which are broken.
    pub(super) fn new(style: Style, expected: u64, defects: Broken) -> Self {
        Self {
            style,
            expected,
            position: Position::ZERO,
            open: HashMap::new(),
            defects,
            broken: BTreeMap::new(),
            given_up: BTreeSet::new(),
            repaired: BTreeSet::new(),
            placed: 0,
            outcomes: Outcomes::default(),
            ended_before: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order"),
            shown: [None, None],
            findings: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// Orders that are under way.
    pub(super) fn open(&self) -> u64 {
        u64::try_from(self.open.len()).expect("what is in memory can be counted")
    }

    /// Whether an order with this key is one of those that are broken.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.defects.defect(key).is_some()
    }

    /// Whether a broken order has ended after all.
    pub(super) fn is_repaired(&self, key: &str) -> bool {
        self.repaired.contains(key)
    }

    /// Broken orders that have not ended.
    pub(super) fn left_broken(&self) -> usize {
        self.broken.len() - self.repaired.len()
    }

    /// Whether every order that cannot be undone has come to where a person has to decide.
    pub(super) fn undo_is_given_up(&self) -> bool {
        let undone_in_vain =
            |(key, defect): (&SmolStr, &Defect)| *defect != Defect::UndoFailed || self.given_up.contains(key);
        self.broken.iter().all(undone_in_vain)
    }

    /// Whether this order was placed.
    pub(super) fn is_placed(&self, order: &OrderPlaced) -> bool {
        let placed = number(order.order_id.as_str()).and_then(|number| self.numbers.get(number));
        placed.copied().unwrap_or_default()
    }

    /// Whether all of the first `count` orders of the generator were placed.
    pub(super) fn are_placed(&self, count: u64) -> bool {
        let placed = self.numbers.iter().zip(0..=count).filter(|(is_placed, _)| **is_placed).count();
        u64::try_from(placed) == Ok(count)
    }

    /// Reads on, up to here. An order that is stuck for good is an error that names it.
    pub(super) async fn read(&mut self, store: &dyn Store, until: Position) -> Result<(), Error> {
        let read = Read::query(Query::types(self.types()?)).after(self.position).until(until);
        let mut events = store.read(read);
        while let Some(recorded) = events.try_next().await? {
            self.follow(&recorded)?;
            // What is read again because the store went away in between must not count twice.
            self.position = recorded.position;
        }
        self.position = until;
        Ok(())
    }

    fn types(&self) -> Result<Vec<EventType>, Error> {
        let mut types = vec![
            OrderPlaced::INFO.event_type,
            PaymentFailed::INFO.event_type,
            InventoryFailed::INFO.event_type,
            ShipmentFailed::INFO.event_type,
        ];
        types.extend::<Vec<&str>>(match self.style {
            Style::Choreography => {
                let ends = [CustomerNotified::INFO, PaymentRefunded::INFO];
                ends.into_iter()
                    .chain([RefundFailed::INFO, ReleaseFailed::INFO])
                    .map(|info| info.event_type)
                    .collect()
            }
            // A saga tries again to undo a step before it gives up.
            Style::Saga => vec![OrderCompleted::INFO.event_type, COMPENSATED, NEEDS_ATTENTION],
        });
        types.into_iter().map(EventType::new).collect()
    }

    fn follow(&mut self, recorded: &Recorded) -> Result<(), Error> {
        let key = recorded.stream.key.as_str();
        match step(recorded.envelope.event_type.as_str()) {
            // A second `OrderPlaced` of an order is served by nobody.
            Some(Step::Placed) if recorded.version == Version(1) => self.begin(key, recorded),
            Some(Step::Failing(state)) => {
                let is_undone = self.open.get_mut(key).is_some_and(|open| {
                    open.failed = Some(state);
                    open.is_undone
                });
                // Where nobody conducts, a declined payment is the last that happens.
                let is_last = self.style == Style::Choreography && state == OrderState::PaymentFailed;
                if is_undone || is_last {
                    self.end(key, recorded.recorded_at);
                }
            }
            // What failed may be said by another service, and later.
            Some(Step::Undone) => match self.open.get_mut(key) {
                Some(open) if open.failed.is_none() => open.is_undone = true,
                _ => self.end(key, recorded.recorded_at),
            },
            Some(Step::End) => self.end(key, recorded.recorded_at),
            Some(Step::Stuck) if self.is_broken(key) => {
                self.given_up.insert(key.into());
            }
            Some(Step::Stuck) => {
                let event = &recorded.envelope.event_type;
                return Err(Error::new(
                    Code::SAGA_UNDO_FAILED,
                    format!("order {key} cannot be undone: {event}"),
                )
                .with_fix(format!("`ensue flow show {key}` shows what is undone and what is not")));
            }
            Some(Step::Placed) | None => {}
        }
        Ok(())
    }

    fn begin(&mut self, key: &str, recorded: &Recorded) {
        if let Some(number) = number(key) {
            self.numbers.resize(self.numbers.len().max(number + 1), false);
            self.numbers.get_mut(number).into_iter().for_each(|placed| *placed = true);
        }
        self.placed += 1;
        if let Some(defect) = self.defects.defect(key) {
            self.broken.insert(key.into(), defect);
            return;
        }
        let flow = recorded.envelope.flow().clone();
        self.open.insert(
            key.into(),
            Open { flow, placed_at: recorded.recorded_at, failed: None, is_undone: false },
        );
    }

    fn end(&mut self, key: &str, at: Timestamp) {
        if self.broken.contains_key(key) {
            // An operator has seen to it. How often, and what it came to, is not for a generator of orders to judge.
            self.repaired.insert(key.into());
            return;
        }
        let Some(Open { flow, placed_at, failed, .. }) = self.open.remove(key) else {
            if self.findings.len() < FINDINGS_MAX {
                self.findings.push(format!("order {key} ended without being open: twice, or never placed"));
            }
            return;
        };
        let micros = u64::try_from(at.duration_since(placed_at).as_micros()).unwrap_or_default();
        let state = failed.unwrap_or(OrderState::Completed);
        self.outcomes.count(state);
        self.latency.saturating_record(micros);
        self.show(Ended { key: key.into(), flow, state, micros });
    }

    /// Keeps an order from the middle of the run, when nothing is cold any more; of failures the one that undid most.
    fn show(&mut self, ended: Ended) {
        let is_early = self.outcomes.ended() <= self.expected / 2;
        let [served, failed] = &mut self.shown;
        let place = if ended.state == OrderState::Completed { served } else { failed };
        let better = match place {
            None => true,
            Some(known) if undone(known.state) == undone(ended.state) => is_early,
            Some(known) => undone(ended.state) > undone(known.state),
        };
        if better {
            *place = Some(ended);
        }
    }
}

/// What an event of this type means, where the types of the style are read.
fn step(event_type: &str) -> Option<Step> {
    let is = |info: ensue::core::EventInfo| info.event_type == event_type;
    Some(if is(OrderPlaced::INFO) {
        Step::Placed
    } else if is(PaymentFailed::INFO) {
        Step::Failing(OrderState::PaymentFailed)
    } else if is(InventoryFailed::INFO) {
        Step::Failing(OrderState::InventoryFailed)
    } else if is(ShipmentFailed::INFO) {
        Step::Failing(OrderState::ShippingFailed)
    } else if is(RefundFailed::INFO) || is(ReleaseFailed::INFO) || event_type == NEEDS_ATTENTION {
        Step::Stuck
    } else if event_type == COMPENSATED {
        Step::Undone
    } else {
        let ends = [CustomerNotified::INFO, PaymentRefunded::INFO, OrderCompleted::INFO];
        return ends.into_iter().any(is).then_some(Step::End);
    })
}

/// The number of an order of the generator; orders that others placed have none, or one that is never reached.
fn number(key: &str) -> Option<usize> {
    key.strip_prefix("ORD-")?.parse().ok().filter(|number| *number <= NUMBER_MAX)
}

/// How many steps this end takes back.
fn undone(state: OrderState) -> u8 {
    match state {
        OrderState::ShippingFailed => 2,
        OrderState::InventoryFailed => 1,
        _ => 0,
    }
}
