//! What came out of a fork, beside what came out of the original.

use std::collections::HashMap;

use ensue_core::{EventId, EventType, Position, Recorded, StreamName};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::blame::{Changed, differences};
use crate::flow::FlowSummary;

/// The outcome of a fork. Commands in flight and the journals of sagas are not compared, only what they led to.
#[derive(Clone, Debug, Serialize)]
pub struct ForkReport {
    /// The business key of the flow.
    pub key: String,
    /// How the original stands.
    pub before: Option<FlowSummary>,
    /// How the fork stands.
    pub after: Option<FlowSummary>,
    /// Events that are the same in both.
    pub same: usize,
    /// Events that only the original has.
    pub missing: Vec<Moved>,
    /// Events that only the fork has.
    pub added: Vec<Moved>,
    /// Events that both have, with different data.
    pub changed: Vec<Moved>,
    /// Calls that were not made, because the record has no answer and the handler's code was not to run.
    pub suppressed: Vec<Suppressed>,
    /// Events of other flows in the same streams meanwhile; a fork does not replay them, so decisions on those streams may
    /// differ for that reason alone.
    pub not_replayed: usize,
}

/// An event that is not what it was.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// Its stream.
    pub stream: StreamName,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Where it stands in the original; `None` for one that is added.
    pub position: Option<Position>,
    /// Its data: that of the fork, or of the original for one that is missing.
    pub data: Option<Box<RawValue>>,
    /// The fields that differ, for one that both have.
    pub fields: Vec<Changed>,
}

/// A call that was not made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Suppressed {
    /// Who would have been called.
    pub handler: String,
    /// With which event or command.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Its stream.
    pub stream: StreamName,
    /// Its id.
    pub id: EventId,
}

impl ForkReport {
    /// Whether everything happened as before, and nothing was left out.
    pub fn is_same(&self) -> bool {
        self.missing.is_empty()
            && self.added.is_empty()
            && self.changed.is_empty()
            && self.suppressed.is_empty()
    }
}

pub(super) fn compare(
    key: String,
    original: &[Recorded],
    forked: &[Recorded],
    suppressed: Vec<Suppressed>,
    (before, after): (Option<FlowSummary>, Option<FlowSummary>),
    not_replayed: usize,
) -> ForkReport {
    let mut report = ForkReport {
        key,
        before,
        after,
        same: 0,
        missing: Vec::new(),
        added: Vec::new(),
        changed: Vec::new(),
        suppressed,
        not_replayed,
    };
    // A handler that decides otherwise causes another type under the same id, which is another event.
    let name = |event: &'_ Recorded| (event.envelope.id.clone(), event.envelope.event_type.clone());
    let mut rest: HashMap<(EventId, EventType), &Recorded> =
        of_business(forked).map(|event| (name(event), event)).collect();
    for event in of_business(original) {
        match rest.remove(&name(event)) {
            None => report.missing.push(moved(event, Some(event.position), Vec::new())),
            Some(now) => match fields(event, now) {
                fields if fields.is_empty() => report.same += 1,
                fields => report.changed.push(moved(now, Some(event.position), fields)),
            },
        }
    }
    let added = forked.iter().filter(|event| rest.contains_key(&name(event)));
    report.added = added.map(|event| moved(event, None, Vec::new())).collect();
    report
}

fn of_business(events: &[Recorded]) -> impl Iterator<Item = &Recorded> {
    events.iter().filter(|event| !event.stream.topic.is_reserved())
}

/// What differs between the data of two events. Data that is no JSON differs as a whole.
fn fields(before: &Recorded, after: &Recorded) -> Vec<Changed> {
    if before.envelope.data == after.envelope.data && before.envelope.event_type == after.envelope.event_type
    {
        return Vec::new();
    }
    let whole = || Changed { field: String::new(), before: raw(before), after: raw(after) };
    let found = differences(Some(&before.envelope.data), Some(&after.envelope.data)).unwrap_or_default();
    if found.is_empty() { vec![whole()] } else { found }
}

fn moved(event: &Recorded, position: Option<Position>, fields: Vec<Changed>) -> Moved {
    Moved {
        stream: event.stream.clone(),
        event_type: event.envelope.event_type.clone(),
        position,
        data: raw(event),
        fields,
    }
}

fn raw(event: &Recorded) -> Option<Box<RawValue>> {
    serde_json::from_slice(&event.envelope.data).ok()
}
