//! What happened in a flow, event by event.

use std::collections::HashMap;

use ensue_core::{EventId, Recorded};

use super::FlowNode;
use super::index::handler_name;
use crate::catalogue::Catalogue;
use crate::{dead, message, saga, timer};

/// The events of a flow in order of position, each with how it hangs together.
pub(super) fn of(catalogue: &Catalogue, events: &[Recorded]) -> Vec<FlowNode> {
    let mut depths: HashMap<&EventId, usize> = HashMap::new();
    let began = events.first().map(|root| root.recorded_at).unwrap_or_default();
    let mut nodes = Vec::with_capacity(events.len());
    for recorded in events {
        let envelope = &recorded.envelope;
        let above = envelope.causation.as_ref().and_then(|cause| depths.get(cause));
        let depth = above.map_or(0, |depth| depth + 1);
        depths.insert(&envelope.id, depth);
        nodes.push(FlowNode {
            position: recorded.position,
            stream: recorded.stream.clone(),
            event_type: envelope.event_type.clone(),
            id: envelope.id.clone(),
            cause: envelope.causation.clone(),
            depth,
            service: service(catalogue, recorded),
            after_us: recorded.recorded_at.as_microsecond() - began.as_microsecond(),
            reason: reason_in(recorded),
        });
    }
    nodes
}

/// Whether an event only tells what an operator did to the flow, with a saga, a timer or a dead letter: that is no step of it.
pub(super) fn is_operators(recorded: &Recorded) -> bool {
    let event_type = recorded.envelope.event_type.as_str();
    recorded.stream.topic.is_reserved()
        && (saga::is_request(event_type)
            || event_type == dead::EDITED
            || recorded.stream.topic.as_str() == timer::CHANGES)
}

/// The service that caused an event: that of its handler; for a root, the one whose topic it is.
pub(super) fn service(catalogue: &Catalogue, recorded: &Recorded) -> String {
    match message::extension(&recorded.envelope, message::HANDLER) {
        Some(handler) => catalogue.service_of(handler_name(handler)).to_owned(),
        None => recorded.stream.topic.as_str().to_lowercase(),
    }
}

/// The `reason` in the data of an event, if it has one.
pub(super) fn reason_in(recorded: &Recorded) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Reasoned {
        reason: Option<String>,
    }
    serde_json::from_slice::<Reasoned>(&recorded.envelope.data).ok()?.reason
}
