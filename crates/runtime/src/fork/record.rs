//! The record of a flow: who answered what, and what came from outside.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use ensue_core::{Append, Envelope, EventId, EventType, Expected, Position, Recorded, StreamName};

use super::{Runs, Suppressed};
use crate::catalogue::Catalogue;
use crate::message;
use crate::progress::lock;

/// An event or command with its place.
pub(crate) struct Message {
    pub(crate) stream: StreamName,
    pub(crate) envelope: Envelope,
}

/// What happened in a flow, as handlers in a fork look it up.
pub(crate) struct FlowRecord {
    runs: Runs,
    /// Every event of the flow as it was.
    known: HashMap<EventId, Known>,
    /// By cause and handler: what it answered, up to where the record counts.
    answers: HashMap<(EventId, String), Vec<Message>>,
    /// Answers that the record does not count any more.
    later: Vec<(EventId, String)>,
    inputs: Vec<Message>,
    suppressed: Mutex<Vec<Suppressed>>,
}

struct Known {
    event_type: EventType,
    data: Bytes,
    is_changed: bool,
}

impl FlowRecord {
    pub(crate) fn new(
        events: &[Recorded],
        until: Position,
        changes: &BTreeMap<Position, Bytes>,
        runs: Runs,
        catalogue: &Catalogue,
    ) -> Self {
        let known = events.iter().map(|event| {
            let is_changed = changes.contains_key(&event.position);
            let (event_type, data) = (event.envelope.event_type.clone(), event.envelope.data.clone());
            (event.envelope.id.clone(), Known { event_type, data, is_changed })
        });
        let mut record = Self {
            runs,
            known: known.collect(),
            answers: HashMap::new(),
            later: Vec::new(),
            inputs: Vec::new(),
            suppressed: Mutex::default(),
        };
        for event in events {
            let mut envelope = event.envelope.clone();
            if let Some(body) = changes.get(&event.position) {
                envelope.data = body.clone();
            }
            let message = Message { stream: event.stream.clone(), envelope };
            match record.answer_to(event, catalogue) {
                Some(of) if event.position <= until => record.answers.entry(of).or_default().push(message),
                Some(of) => record.later.push(of),
                None if event.position <= until => record.inputs.push(message),
                None => {}
            }
        }
        record
    }

    /// Whose answer to what an event is; `None` for one that came from outside.
    fn answer_to(&self, event: &Recorded, catalogue: &Catalogue) -> Option<(EventId, String)> {
        let cause = event.envelope.causation.clone().filter(|cause| self.known.contains_key(cause))?;
        let handler = message::extension(&event.envelope, message::HANDLER)?;
        let handler = handler.trim_end_matches(".reply").trim_end_matches(".route");
        catalogue.handler(handler)?;
        Some((cause, handler.to_owned()))
    }

    /// What came from outside, oldest first.
    pub(crate) fn inputs(&self) -> &[Message] {
        &self.inputs
    }

    /// Whether the handler's own code runs.
    pub(crate) fn runs(&self, handler: &str) -> bool {
        self.runs.has(handler)
    }

    /// What the handler answered to this event; `None` if that is not on record, or the event is not what it was.
    pub(crate) fn answer(&self, handler: &str, recorded: &Recorded) -> Option<Vec<Append>> {
        let known = self.known.get(&recorded.envelope.id)?;
        let is_same =
            known.event_type == recorded.envelope.event_type && known.data == recorded.envelope.data;
        if known.is_changed || !is_same {
            return None;
        }
        let of = (recorded.envelope.id.clone(), handler.to_owned());
        if self.later.contains(&of) {
            return None;
        }
        let messages = self.answers.get(&of).map(Vec::as_slice).unwrap_or_default();
        let append = |message: &Message| Append {
            stream: message.stream.clone(),
            expected: Expected::Any,
            events: vec![message.envelope.clone()],
        };
        Some(messages.iter().map(append).collect())
    }

    /// Takes note of a call that was not made.
    pub(crate) fn suppress(&self, handler: &str, recorded: &Recorded) {
        let call = Suppressed {
            handler: handler.to_owned(),
            event_type: recorded.envelope.event_type.clone(),
            stream: recorded.stream.clone(),
            id: recorded.envelope.id.clone(),
        };
        let mut suppressed = lock(&self.suppressed);
        // A delivery may be worked out twice.
        if !suppressed.contains(&call) {
            suppressed.push(call);
        }
    }

    /// Calls that were not made, in the order in which they would have been.
    pub(crate) fn suppressed(&self) -> Vec<Suppressed> {
        lock(&self.suppressed).clone()
    }
}
