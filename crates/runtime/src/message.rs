//! From drafts to envelopes: ids, time, cause, flow and trace are filled in here and nowhere else.

use bytes::Bytes;
use ensue_core::{
    Append, Draft, Envelope, Error, EventId, EventType, Expected, Host, Source, StreamName, Trace,
};
use smol_str::SmolStr;

/// Extension attribute: where the answer to a command goes.
pub(crate) const REPLY_TO: &str = "replyto";
/// Extension attribute: the log in which that is, of a command that goes over a link.
pub(crate) const REPLY_LOG: &str = "replylog";
/// Extension attribute: which step of a saga a command belongs to.
pub(crate) const STEP: &str = "step";
/// Extension attribute: which attempt at its step a command is, from 1.
pub(crate) const ATTEMPT: &str = "attempt";
/// Extension attribute: when the attempt at the step is over, if it is limited.
pub(crate) const DUE: &str = "due";
/// Extension attribute: the key of a command that travels in the stream of the saga that sent it.
pub(crate) const COMMAND_KEY: &str = "commandkey";
/// Extension attribute: the idempotency key that a command's effects use, stable over repeated sends.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotencykey";
/// Extension attribute: of which event this one is an edited copy.
pub(crate) const EDITED_FROM: &str = "editedfrom";
/// Extension attribute: which handler caused the event.
pub(crate) const HANDLER: &str = "handler";

/// What caused something.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) cause: EventId,
    pub(crate) flow: EventId,
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) handler: SmolStr,
}

impl Origin {
    pub(crate) fn of(envelope: &Envelope, handler: &str) -> Self {
        Self {
            cause: envelope.id.clone(),
            flow: envelope.flow().clone(),
            trace: envelope.trace.clone(),
            handler: handler.into(),
        }
    }
}

/// Turns drafts into envelopes of one application.
#[derive(Clone, Debug)]
pub(crate) struct Press {
    pub(crate) host: Host,
    pub(crate) source: Source,
}

impl Press {
    /// An event without a cause: it begins a flow of its own.
    pub(crate) fn first(&self, draft: Draft, id: Option<EventId>) -> (StreamName, Envelope) {
        let id = id.unwrap_or_else(|| self.host.event_id());
        self.envelope(draft, id, None)
    }

    /// The `index`-th event that `origin` causes: its id is the same however often the delivery is repeated.
    pub(crate) fn caused(&self, draft: Draft, origin: &Origin, index: usize) -> (StreamName, Envelope) {
        let id = EventId::derived(&origin.cause, &origin.handler, index);
        self.envelope(draft, id, Some(origin))
    }

    fn envelope(&self, draft: Draft, id: EventId, origin: Option<&Origin>) -> (StreamName, Envelope) {
        let envelope = Envelope {
            id,
            source: self.source.clone(),
            event_type: draft.event_type,
            schema_version: draft.schema_version,
            time: self.host.clock.now(),
            correlation: origin.map(|origin| origin.flow.clone()),
            causation: origin.map(|origin| origin.cause.clone()),
            trace: origin.and_then(|origin| origin.trace.clone()),
            tags: draft.tags,
            extensions: origin
                .map(|origin| vec![(HANDLER.into(), origin.handler.clone())])
                .unwrap_or_default(),
            content_type: Draft::content_type(),
            data: draft.data,
        };
        (draft.stream, envelope)
    }
}

/// One append a draft, in order; neighbours of one stream share an append.
pub(crate) fn appends(events: impl IntoIterator<Item = (StreamName, Envelope)>) -> Vec<Append> {
    let mut appends: Vec<Append> = Vec::new();
    for (stream, envelope) in events {
        match appends.last_mut() {
            Some(last) if last.stream == stream => last.events.push(envelope),
            _ => appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] }),
        }
    }
    appends
}

/// The stream that commands of this type and key travel in.
pub(crate) fn command_stream(command_type: &str, key: &str) -> Result<StreamName, Error> {
    StreamName::new(format!("command.{command_type}"), key)
}

/// A command as a draft.
pub(crate) fn command_draft(command_type: &str, key: &str, data: Bytes) -> Result<Draft, Error> {
    Ok(Draft {
        stream: command_stream(command_type, key)?,
        event_type: EventType::new(command_type)?,
        schema_version: 1,
        tags: Vec::new(),
        data,
        later: None,
    })
}

/// The value of an extension attribute.
pub(crate) fn extension<'a>(envelope: &'a Envelope, name: &str) -> Option<&'a str> {
    envelope.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Sets an extension attribute, keeping them sorted by name.
pub(crate) fn set_extension(envelope: &mut Envelope, name: &str, value: &str) {
    envelope.extensions.retain(|(key, _)| key != name);
    let at = envelope.extensions.partition_point(|(key, _)| key.as_str() < name);
    envelope.extensions.insert(at, (name.into(), value.into()));
}
