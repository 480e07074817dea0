//! The entries of a journal, and how they are stored: a command as itself, everything else as `saga.` events.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensue_core::{
    Code, Draft, Envelope, Error, EventId, EventType, Position, Recorded, StreamName, Timestamp, event,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::{Kind, UNDO_PREFIX};
use crate::message;
use crate::saga::child::Parent;
use crate::saga::head::Difference;

/// A command as data: can be sent without the code that made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommandBody {
    pub(crate) command_type: SmolStr,
    pub(crate) key: SmolStr,
    pub(crate) body: Box<RawValue>,
}

/// A command that the instance has sent. It is its own entry: the command is stored once, in the instance's stream, and
/// its handler reads it from there. Everything but the command itself is in extension attributes.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The step, or [`UNDO_PREFIX`](super::UNDO_PREFIX) and the step that it undoes.
    pub(crate) label: SmolStr,
    pub(crate) attempt: u32,
    /// When this attempt is over.
    pub(crate) due: Option<Timestamp>,
    pub(crate) command: CommandBody,
}

impl Sent {
    /// What an event of the instance's stream says, if it is a command.
    pub(crate) fn of(envelope: &Envelope) -> Result<Option<Self>, Error> {
        let (Some(label), Some(key)) =
            (message::extension(envelope, message::STEP), message::extension(envelope, message::COMMAND_KEY))
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            label: label.into(),
            attempt: message::extension(envelope, message::ATTEMPT)
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
            due: message::extension(envelope, message::DUE).and_then(|text| text.parse().ok()),
            command: CommandBody {
                command_type: envelope.event_type.as_str().into(),
                key: key.into(),
                body: raw(&envelope.data)?,
            },
        }))
    }

    /// The command as it goes into the stream of the instance, to be answered into the same stream.
    pub(crate) fn draft(&self, stream: StreamName) -> Result<Draft, Error> {
        Ok(Draft {
            stream,
            event_type: EventType::new(self.command.command_type.as_str())?,
            schema_version: 1,
            tags: Vec::new(),
            data: Bytes::copy_from_slice(self.command.body.get().as_bytes()),
            later: None,
        })
    }

    /// Writes everything but the command itself onto its envelope.
    pub(crate) fn address(&self, envelope: &mut Envelope, saga: &str, stream: &StreamName) {
        let key = format!("{saga}/{}/{}", stream.key, self.label);
        message::set_extension(envelope, message::REPLY_TO, &stream.to_string());
        message::set_extension(envelope, message::STEP, &self.label);
        message::set_extension(envelope, message::ATTEMPT, &self.attempt.to_string());
        message::set_extension(envelope, message::COMMAND_KEY, &self.command.key);
        message::set_extension(envelope, message::IDEMPOTENCY_KEY, &key);
        if let Some(due) = self.due {
            message::set_extension(envelope, message::DUE, &due.to_string());
        }
    }
}

/// One entry. Written as `{"StepDone": {..}}`: bodies inside are carried verbatim, which other ways of naming the
/// variant would not allow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The instance began with this event.
    Started {
        event_id: EventId,
        event_type: EventType,
        schema_version: u32,
        position: Position,
        event: Box<RawValue>,
        /// The saga that started it and waits for its end, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// Another event wanted to start the same instance; it did nothing.
    StartIgnored { event_id: EventId },
    /// Put here by the command's handler.
    ReplyReceived { step: SmolStr, ok: bool, body: Box<RawValue> },
    /// A local step is about to be run.
    StepIntended { step: SmolStr, attempt: u32 },
    /// A step is done. The result of a local step; how the step is undone; whether it was the point of no return.
    StepDone { step: SmolStr, result: Option<Box<RawValue>>, undo: Option<CommandBody>, pivot: bool },
    /// A step failed: for good, or to be tried again at a time.
    StepFailed { step: SmolStr, attempt: u32, code: CodeText, reason: String, again_at: Option<Timestamp> },
    /// The instance waits for an event.
    WaitStarted {
        step: SmolStr,
        attempt: u32,
        event_type: String,
        topic: String,
        key: String,
        due: Option<Timestamp>,
    },
    /// An event came that the instance may wait for; put here by the subscription. Which event it takes, the instance
    /// decides by looking at the event's own stream, so that none is taken before an earlier one.
    EventNoticed { event_type: String, key: String, event_id: EventId },
    /// The event that a wait has taken.
    EventReceived {
        step: SmolStr,
        event_id: EventId,
        #[serde(default = "first_version")]
        schema_version: u32,
        body: Box<RawValue>,
    },
    /// The instance sleeps.
    SleepStarted { step: SmolStr, due: Timestamp },
    /// Put here by the timers.
    TimerFired { name: SmolStr },
    /// The saga failed; what is done will be undone, last first.
    Unwinding { code: CodeText, reason: String },
    /// A step is undone.
    UndoDone { step: SmolStr },
    /// Undoing a step was refused; to be tried again at a time, or not.
    UndoFailed { step: SmolStr, attempt: u32, reason: String, again_at: Option<Timestamp> },
    /// The end, as planned.
    Completed,
    /// The end, with everything undone.
    Compensated { reason: String },
    /// It cannot go on without a decision: because of a step, or because the code does not fit the journal.
    NeedsAttention { code: CodeText, reason: String, step: Option<SmolStr>, difference: Option<Difference> },
    /// The code takes this branch of a change that was made while instances were running.
    VersionPinned { change: SmolStr, version: u32 },
    /// By then the whole instance has passed its point of no return, or goes back.
    DeadlineSet { due: Timestamp },
    /// Its parent goes back and sends it back, too; this is to be told when that is done.
    UndoAsked { parent: Parent },
    /// An operator: nothing more is taken up until it is resumed.
    Paused { reason: String },
    /// An operator: it goes on after a pause.
    Resumed { reason: String },
    /// An operator: what failed or was given up is tried again.
    RetryAsked { reason: String },
    /// An operator: it goes back, whatever it waits for.
    CancelAsked { reason: String },
    /// An operator: this is the outcome of a step.
    StepResolved { step: SmolStr, outcome: Resolved, reason: String },
    /// An operator: this step is not to be undone any more.
    UndoResolved { step: SmolStr, reason: String },
    /// An operator: it ends here, with everything left as it is.
    Terminated { reason: String },
    /// An operator: it goes on where another instance was, which has these steps behind it.
    Restarted {
        from: String,
        at: SmolStr,
        behind: Vec<Behind>,
        used: Vec<EventId>,
        pins: BTreeMap<SmolStr, u32>,
        reason: String,
    },
}

/// The outcome of a step, as an operator gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Resolved {
    Done(Box<RawValue>),
    Failed,
}

/// A step that an instance takes over from another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Behind {
    pub(crate) step: SmolStr,
    pub(crate) kind: Kind,
    pub(crate) outcome: Stored,
    pub(crate) undo: Option<CommandBody>,
}

/// An outcome as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Stored {
    Done(Box<RawValue>),
    Received { schema_version: u32, body: Box<RawValue> },
    Refused(Box<RawValue>),
    Failed { code: CodeText, reason: String },
}

/// Journals that say no version are older than the second version of any event.
fn first_version() -> u32 {
    1
}

/// A code as it is written in a journal.
pub(crate) type CodeText = String;

/// The entry that answers a command.
pub(crate) const REPLY_RECEIVED: &str = "saga.ReplyReceived";

/// Entries that wake the instance when they are delivered.
pub(crate) const WAKING: [&str; 11] = [
    REPLY_RECEIVED,
    "saga.TimerFired",
    "saga.EventNoticed",
    "saga.StepIntended",
    "saga.WaitStarted",
    "saga.Resumed",
    "saga.RetryAsked",
    "saga.CancelAsked",
    "saga.StepResolved",
    "saga.UndoResolved",
    "saga.Restarted",
];

/// Entries after which a wait looks whether its event is there: it may have come before the wait, or during a pause.
pub(crate) const LOOKING: [&str; 4] =
    ["saga.WaitStarted", "saga.EventNoticed", "saga.Resumed", "saga.RetryAsked"];

/// The entries by which operators ask for something.
pub(crate) const REQUESTS: [&str; 7] = [
    "saga.Paused",
    "saga.Resumed",
    "saga.RetryAsked",
    "saga.CancelAsked",
    "saga.StepResolved",
    "saga.UndoResolved",
    "saga.Terminated",
];

impl Entry {
    /// What a command that an operator has answered by hand is labelled with, if this event is such a decision.
    pub(crate) fn resolved_step(recorded: &Recorded) -> Option<SmolStr> {
        match event::decode_body(&recorded.envelope).ok()? {
            Self::StepResolved { step, .. } => Some(step),
            Self::UndoResolved { step, .. } => Some(format!("{UNDO_PREFIX}{step}").into()),
            _ => None,
        }
    }

    /// The event type it is stored under.
    pub(crate) fn event_type(&self) -> &'static str {
        match self {
            Self::Started { .. } => "saga.Started",
            Self::StartIgnored { .. } => "saga.StartIgnored",
            Self::ReplyReceived { .. } => REPLY_RECEIVED,
            Self::StepIntended { .. } => "saga.StepIntended",
            Self::StepDone { .. } => "saga.StepDone",
            Self::StepFailed { .. } => "saga.StepFailed",
            Self::WaitStarted { .. } => "saga.WaitStarted",
            Self::EventNoticed { .. } => "saga.EventNoticed",
            Self::EventReceived { .. } => "saga.EventReceived",
            Self::SleepStarted { .. } => "saga.SleepStarted",
            Self::TimerFired { .. } => "saga.TimerFired",
            Self::Unwinding { .. } => "saga.Unwinding",
            Self::UndoDone { .. } => "saga.UndoDone",
            Self::UndoFailed { .. } => "saga.UndoFailed",
            Self::Completed => "saga.Completed",
            Self::Compensated { .. } => "saga.Compensated",
            Self::NeedsAttention { .. } => "saga.NeedsAttention",
            Self::UndoAsked { .. } => "saga.UndoAsked",
            Self::VersionPinned { .. } => "saga.VersionPinned",
            Self::DeadlineSet { .. } => "saga.DeadlineSet",
            Self::Paused { .. } => "saga.Paused",
            Self::Resumed { .. } => "saga.Resumed",
            Self::RetryAsked { .. } => "saga.RetryAsked",
            Self::CancelAsked { .. } => "saga.CancelAsked",
            Self::StepResolved { .. } => "saga.StepResolved",
            Self::UndoResolved { .. } => "saga.UndoResolved",
            Self::Terminated { .. } => "saga.Terminated",
            Self::Restarted { .. } => "saga.Restarted",
        }
    }

    /// Whether others put it here, not a turn of the instance.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::ReplyReceived { .. } | Self::EventNoticed { .. } | Self::TimerFired { .. })
            || REQUESTS.contains(&self.event_type())
    }

    /// The entry as it goes into the instance's stream.
    pub(crate) fn draft(&self, stream: StreamName) -> Result<Draft, Error> {
        Ok(Draft {
            stream,
            event_type: EventType::new(self.event_type())?,
            schema_version: 1,
            tags: Vec::new(),
            data: event::to_json(self.event_type(), self)?,
            later: None,
        })
    }
}

/// Copies JSON that is known to be valid.
pub(crate) fn raw(body: &[u8]) -> Result<Box<RawValue>, Error> {
    serde_json::from_slice(body).map_err(|cause| {
        Error::new(Code::INVALID_BODY, format!("the body of a message is not JSON: {cause}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_storage_and_carries_foreign_bodies_verbatim() {
        let body = r#"{"total":59.980000000000000000001,"b":1,"a":[]}"#;
        let command = CommandBody {
            command_type: "Charge".into(),
            key: "ORD-1".into(),
            body: raw(body.as_bytes()).expect("it is JSON"),
        };
        for entry in [
            Entry::StepDone { step: "charge: it".into(), result: None, undo: Some(command), pivot: false },
            Entry::Completed,
            Entry::UndoDone { step: "charge".into() },
        ] {
            let stream = StreamName::new("saga.fulfil", "ORD-1").expect("a valid name");
            let draft = entry.draft(stream).expect("it encodes");
            let envelope = ensue_core::Envelope {
                id: EventId::new("evt-1").expect("a valid id"),
                source: ensue_core::Source::new("test").expect("a valid source"),
                event_type: draft.event_type,
                schema_version: 1,
                time: Timestamp::UNIX_EPOCH,
                correlation: None,
                causation: None,
                trace: None,
                tags: Vec::new(),
                extensions: Vec::new(),
                content_type: Draft::content_type(),
                data: draft.data,
            };
            let decoded: Entry = event::decode_body(&envelope).expect("it was encoded by us");
            assert_eq!(format!("{decoded:?}"), format!("{entry:?}"));
        }
    }
}
