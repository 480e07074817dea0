//! The flow index: a fold over the whole log that keeps what is needed to know which flows are not over, and what the others
//! add up to.
//!
//! Derived from the log and nothing else; one that is lost, or was made by other declarations, is folded again. Bounded:
//! of a flow that is over only its share in the figures stays, and figures have caps that count what is beyond them.

use std::collections::{BTreeMap, HashMap, HashSet};

use ensue_core::{EventId, Position, Recorded};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::catalogue::{Catalogue, FlowEntry};
use crate::message;

mod entry;
mod figures;
mod latency;
mod stored;

pub(crate) use entry::{OpenFlow, Settlements};
pub(crate) use figures::{Edge, Figures};
pub(crate) use latency::Latencies;
pub(crate) use stored::Reached;

use entry::{Copied, Link};

/// Kinds that are told apart; what is beyond counts as [`OTHER`].
const KINDS_MAX: usize = 128;
/// Types that are told apart among events that nothing caused.
const STRANGERS_MAX: usize = 32;
/// The kind of flows beyond the bound.
const OTHER: &str = "(other)";

/// What the log says about its flows, up to a position.
pub(crate) struct Index {
    catalogue: Catalogue,
    /// Everything up to here is folded.
    pub(crate) position: Position,
    pub(crate) completeness: Completeness,
    pub(crate) kinds: BTreeMap<SmolStr, Figures>,
    pub(crate) open: HashMap<EventId, OpenFlow>,
    /// Flows that have changed since they were looked at for their end.
    touched: Vec<EventId>,
    /// Flows that have changed since the last save.
    changed: usize,
    /// Flows that are over, whose entries are still stored.
    gone: Vec<EventId>,
}

/// Whether the flows are all there is to know: what is in the log without a cause that is in the log too.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Completeness {
    /// Events and commands looked at.
    pub events: u64,
    /// Those that nothing caused and that are no declared beginning, by type: they came from somewhere else.
    pub strangers: BTreeMap<String, u64>,
    /// Those that name a cause that is not in their flow.
    pub lost_causes: u64,
    /// Those that belong to a flow which was over, or whose beginning is not in the log.
    pub late: u64,
}

impl Index {
    /// Of an empty log.
    pub(crate) fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue,
            position: Position::ZERO,
            completeness: Completeness::default(),
            kinds: BTreeMap::new(),
            open: HashMap::new(),
            touched: Vec::new(),
            changed: 0,
            gone: Vec::new(),
        }
    }

    /// The declarations it is made by.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Takes the next event of the log.
    pub(crate) fn fold(&mut self, recorded: &Recorded) {
        let envelope = &recorded.envelope;
        self.position = recorded.position;
        self.completeness.events += 1;
        let id = envelope.flow();
        let flow = match self.open.get_mut(id) {
            Some(flow) => flow,
            None => {
                self.begin(recorded);
                let Some(flow) = self.open.get_mut(id) else { return };
                flow
            }
        };
        if flow.copy == Copied::Same {
            flow.copy = Copied::Older;
            self.changed += 1;
            self.touched.push(id.clone());
        }
        let declared = self.catalogue.flows.iter().find(|declared| declared.name == flow.kind);
        match flow.take(recorded, declared) {
            Link::None => {}
            Link::Lost => self.completeness.lost_causes += 1,
            Link::Caused(from, micros) => {
                let handler = message::extension(envelope, message::HANDLER).unwrap_or_default();
                if let Some(figures) = self.kinds.get_mut(&flow.kind) {
                    figures.step(&from, &envelope.event_type, handler_name(handler), micros);
                }
            }
        }
    }

    fn begin(&mut self, recorded: &Recorded) {
        let envelope = &recorded.envelope;
        let is_late = envelope.correlation.is_some() && !is_answer_at_the_door(recorded);
        let declared = self.catalogue.flow_started_by(envelope.event_type.as_str());
        let mut flow = OpenFlow::begin(recorded, declared, is_late);
        if declared.is_none() && !self.kinds.contains_key(&flow.kind) && self.kinds.len() >= KINDS_MAX {
            flow.kind = OTHER.into();
        }
        let figures = self.kinds.entry(flow.kind.clone()).or_default();
        if is_late {
            self.completeness.late += 1;
        } else {
            figures.begun += 1;
            if envelope.correlation.is_none() && !self.is_expected(recorded, declared) {
                self.note_stranger(envelope.event_type.as_str());
            }
        }
        self.changed += 1;
        self.touched.push(envelope.flow().clone());
        self.open.insert(envelope.flow().clone(), flow);
    }

    /// Whether it is declared that such an event begins things: it starts a flow, comes from outside, or is a command.
    fn is_expected(&self, recorded: &Recorded, declared: Option<&FlowEntry>) -> bool {
        declared.is_some()
            || recorded.stream.topic.is_reserved()
            || self.catalogue.external.contains(recorded.envelope.event_type.as_str())
    }

    fn note_stranger(&mut self, event_type: &str) {
        let strangers = &mut self.completeness.strangers;
        let is_told_apart = strangers.len() < STRANGERS_MAX || strangers.contains_key(event_type);
        *strangers.entry(if is_told_apart { event_type } else { OTHER }.to_owned()).or_default() += 1;
    }

    /// Lets go of flows that are over: at their declared end, with every handler past them. `held` are those that must be
    /// kept whatever their events say, because something of them is parked.
    pub(crate) fn end(&mut self, settlements: &Settlements, held: &HashSet<EventId>) {
        let mut still_touched = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(flow) = self.open.get(&id) else { continue };
            if !flow.is_at_end() || held.contains(&id) {
                continue;
            }
            if !flow.is_settled(&self.catalogue, settlements) {
                still_touched.push(id);
                continue;
            }
            let Some(flow) = self.open.remove(&id) else { continue };
            if !flow.is_late {
                self.kinds.entry(flow.kind.clone()).or_default().end(&flow);
            }
            if flow.copy != Copied::Nothing {
                self.gone.push(id);
            }
        }
        self.touched = still_touched;
    }
}

/// Whether the event was caused by a command that was answered without passing through the log: its flow begins here.
fn is_answer_at_the_door(recorded: &Recorded) -> bool {
    let envelope = &recorded.envelope;
    let handler = message::extension(envelope, message::HANDLER).unwrap_or_default();
    envelope.causation == envelope.correlation && handler.starts_with("handle.")
}

/// The handler's name, without what says which of its doings it was.
pub(super) fn handler_name(handler: &str) -> &str {
    if handler.starts_with("timer.") {
        return "timer";
    }
    handler.trim_end_matches(".reply").trim_end_matches(".route")
}
