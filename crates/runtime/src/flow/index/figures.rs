//! What the flows of one kind add up to: how they went, how long each step took. Bounded: what is beyond the bounds is
//! counted, but not told apart.

use ensue_core::EventType;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::entry::OpenFlow;
use super::latency::Latencies;
use crate::flow::stage::Stage;

/// Ways to go that are told apart, of one kind.
const VARIANTS_MAX: usize = 64;
/// Steps that are told apart, of one kind.
const EDGES_MAX: usize = 256;

/// Figures of one kind of flow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Flows that have begun.
    pub(crate) begun: u64,
    /// Flows that ended as planned.
    pub(crate) done: u64,
    /// Flows that ended in a failure.
    pub(crate) failed: u64,
    /// From the first event of a flow to its last, of those that are over.
    pub(crate) durations: Latencies,
    pub(crate) variants: Vec<Variant>,
    /// Flows that went another way.
    pub(crate) other_variants: u64,
    pub(crate) edges: Vec<Edge>,
    /// Steps that are not told apart.
    pub(crate) other_edges: u64,
}

/// A way that flows went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Variant {
    /// By distance from the beginning, then by name: the same whichever of two things at once came first.
    pub(crate) events: Vec<EventType>,
    pub(crate) count: u64,
}

/// A step: something caused something, through a handler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Edge {
    pub(crate) from: EventType,
    pub(crate) to: EventType,
    pub(crate) handler: SmolStr,
    pub(crate) latencies: Latencies,
}

impl Figures {
    /// One more step.
    pub(super) fn step(&mut self, from: &EventType, to: &EventType, handler: &str, micros: i64) {
        let known = self
            .edges
            .iter_mut()
            .find(|edge| edge.to == *to && edge.from == *from && edge.handler == handler);
        if let Some(edge) = known {
            edge.latencies.record(micros);
        } else if self.edges.len() < EDGES_MAX {
            let mut latencies = Latencies::default();
            latencies.record(micros);
            self.edges.push(Edge { from: from.clone(), to: to.clone(), handler: handler.into(), latencies });
        } else {
            self.other_edges += 1;
        }
    }

    /// One more flow is over.
    pub(super) fn end(&mut self, flow: &OpenFlow) {
        match flow.stage {
            Stage::Done => self.done += 1,
            _ => self.failed += 1,
        }
        self.durations.record(flow.last_at.as_microsecond() - flow.started_at.as_microsecond());
        let events = flow.way();
        if let Some(variant) = self.variants.iter_mut().find(|variant| variant.events == events) {
            variant.count += 1;
        } else if self.variants.len() < VARIANTS_MAX && flow.is_whole() {
            self.variants.push(Variant { events, count: 1 });
        } else {
            self.other_variants += 1;
        }
    }

    /// How long 99 of 100 deliveries of this type to this handler took to cause something, in microseconds; `None` where
    /// too few are known to say.
    pub(crate) fn usual_micros(&self, from: &EventType, handler: &str, count_min: u64) -> Option<u64> {
        let edges = self.edges.iter().filter(|edge| edge.from == *from && edge.handler == handler);
        let known = edges.filter(|edge| edge.latencies.count() >= count_min);
        known.map(|edge| edge.latencies.percentile(99)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_beyond_the_bound_are_counted_and_take_no_room() {
        let mut figures = Figures::default();
        let from = EventType::new("Begun").expect("a valid name");
        for number in 0..EDGES_MAX + 10 {
            let to = EventType::new(format!("Type{number}")).expect("a valid name");
            figures.step(&from, &to, "handler", 10);
            figures.step(&from, &to, "handler", 20);
        }
        assert_eq!((figures.edges.len(), figures.other_edges), (EDGES_MAX, 20));
        assert_eq!(figures.usual_micros(&from, "handler", 2), Some(21));
        assert_eq!(figures.usual_micros(&from, "handler", 3), None);
    }
}
