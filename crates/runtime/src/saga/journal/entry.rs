//! The entries of a journal, and how they are stored.

use ensue_core::{Code, Draft, Error, EventId, EventType, Position, StreamName, Timestamp, event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

/// A command as data: can be sent without the code that made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommandBody {
    pub(crate) command_type: String,
    pub(crate) key: String,
    pub(crate) body: Box<RawValue>,
}

/// One entry. Written as `{"CommandSent": {..}}`: bodies inside are carried verbatim, which other ways of naming the
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
    },
    /// Another event wanted to start the same instance; it did nothing.
    StartIgnored { event_id: EventId },
    /// A step's command was sent.
    CommandSent { step: SmolStr, attempt: u32, due: Option<Timestamp>, command: CommandBody },
    /// Put here by the command's handler.
    ReplyReceived { step: SmolStr, ok: bool, body: Box<RawValue> },
    /// A local step is about to be run.
    StepIntended { step: SmolStr, attempt: u32 },
    /// A step is done. The result of a local step; how the step is undone; whether it was the point of no return.
    StepDone { step: SmolStr, result: Option<Box<RawValue>>, undo: Option<CommandBody>, pivot: bool },
    /// A step failed: for good, or to be tried again at a time.
    StepFailed { step: SmolStr, attempt: u32, code: CodeText, reason: String, again_at: Option<Timestamp> },
    /// The instance waits for an event.
    WaitStarted { step: SmolStr, event_type: String, topic: String, key: String, due: Option<Timestamp> },
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
    /// The command that undoes a step was sent.
    UndoIntended { step: SmolStr, attempt: u32 },
    /// A step is undone.
    UndoDone { step: SmolStr },
    /// Undoing a step was refused; to be tried again at a time, or not.
    UndoFailed { step: SmolStr, attempt: u32, reason: String, again_at: Option<Timestamp> },
    /// The end, as planned.
    Completed,
    /// The end, with everything undone.
    Compensated { reason: String },
    /// It cannot go on without a decision.
    NeedsAttention { code: CodeText, reason: String },
    /// An operator has decided that it shall go on.
    Resumed { reason: String },
}

/// Journals that say no version are older than the second version of any event.
fn first_version() -> u32 {
    1
}

/// A code as it is written in a journal.
pub(crate) type CodeText = String;

/// Entries that wake the instance when they are delivered.
pub(crate) const WAKING: [&str; 6] = [
    "saga.ReplyReceived",
    "saga.TimerFired",
    "saga.EventNoticed",
    "saga.StepIntended",
    "saga.WaitStarted",
    "saga.Resumed",
];

impl Entry {
    /// The event type it is stored under.
    pub(crate) fn event_type(&self) -> &'static str {
        match self {
            Self::Started { .. } => "saga.Started",
            Self::StartIgnored { .. } => "saga.StartIgnored",
            Self::CommandSent { .. } => "saga.CommandSent",
            Self::ReplyReceived { .. } => "saga.ReplyReceived",
            Self::StepIntended { .. } => "saga.StepIntended",
            Self::StepDone { .. } => "saga.StepDone",
            Self::StepFailed { .. } => "saga.StepFailed",
            Self::WaitStarted { .. } => "saga.WaitStarted",
            Self::EventNoticed { .. } => "saga.EventNoticed",
            Self::EventReceived { .. } => "saga.EventReceived",
            Self::SleepStarted { .. } => "saga.SleepStarted",
            Self::TimerFired { .. } => "saga.TimerFired",
            Self::Unwinding { .. } => "saga.Unwinding",
            Self::UndoIntended { .. } => "saga.UndoIntended",
            Self::UndoDone { .. } => "saga.UndoDone",
            Self::UndoFailed { .. } => "saga.UndoFailed",
            Self::Completed => "saga.Completed",
            Self::Compensated { .. } => "saga.Compensated",
            Self::NeedsAttention { .. } => "saga.NeedsAttention",
            Self::Resumed { .. } => "saga.Resumed",
        }
    }

    /// Whether others put it here, not a turn of the instance.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::ReplyReceived { .. } | Self::EventNoticed { .. } | Self::TimerFired { .. })
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
            command_type: "Charge".to_owned(),
            key: "ORD-1".to_owned(),
            body: raw(body.as_bytes()).expect("it is JSON"),
        };
        for entry in [
            Entry::CommandSent { step: "charge: it".into(), attempt: 2, due: None, command },
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
