//! The journal of a saga instance: entries in its stream, and what they add up to.
//!
//! The stream is inbox, journal and audit in one. Three entries are put there by others: replies, fired timers and
//! received events. Everything else the instance writes itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ensue_core::{Code, Error, EventId, EventType, Position, Recorded, Timestamp, Trace, Version, event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

mod decision;
mod entry;
pub(crate) use entry::{
    Behind, CommandBody, Entry, LOOKING, REPLY_RECEIVED, REQUESTS, Resolved, Sent, Stored, WAKING, raw,
};

use super::child::{self, Parent};
use super::head::Difference;

/// How a step that the code asked for stands.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) step: SmolStr,
    pub(crate) kind: Kind,
    pub(crate) attempt: u32,
    /// When this attempt is over.
    pub(crate) due: Option<Timestamp>,
    /// When the next attempt may begin, after one that failed.
    pub(crate) again_at: Option<Timestamp>,
    pub(crate) outcome: Option<StepOutcome>,
    /// A reply that came after the step was given up.
    pub(crate) late: Option<Bytes>,
    /// Whether how to undo it is on record.
    pub(crate) is_recorded: bool,
    pub(crate) command: Option<CommandBody>,
    /// It is to be begun once more, at once.
    pub(crate) is_reopened: bool,
}

/// What sort of step it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Kind {
    Command(SmolStr),
    Local,
    Wait { event_type: String, topic: String, key: String },
    Sleep,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => match child::started_by(command) {
                Some(saga) => write!(f, "the saga {saga}"),
                None => write!(f, "the command {command}"),
            },
            Self::Local => f.write_str("a local step"),
            Self::Wait { event_type, key, .. } => write!(f, "a wait for {event_type} of {key}"),
            Self::Sleep => f.write_str("a sleep"),
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug)]
pub(crate) enum StepOutcome {
    /// With a result.
    Done(Bytes),
    /// With an event, in the schema version in which it was stored.
    Received(u32, Bytes),
    /// With a typed refusal.
    Refused(Bytes),
    /// Given up: code and reason.
    Failed(String, String),
}

/// A finished step that can be undone.
#[derive(Clone, Debug)]
pub(crate) struct Undoable {
    pub(crate) step: SmolStr,
    pub(crate) command: CommandBody,
    pub(crate) state: UndoState,
    pub(crate) attempt: u32,
    /// It succeeded after it had been given up, so it is undone however the saga goes on.
    pub(crate) is_late: bool,
}

/// How the undoing of a step stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum UndoState {
    Open,
    Sent,
    /// The command that undoes it was done; not yet written down.
    Answered,
    /// The command that undoes it was refused; not yet written down.
    Refused(String),
    FailedUntil(Timestamp),
    GivenUp(String),
    Done,
    /// An operator said that it is not to be undone.
    Skipped,
}

impl UndoState {
    /// Whether nothing more is done about it.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// The start of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) event_id: EventId,
    pub(crate) event_type: EventType,
    pub(crate) schema_version: u32,
    pub(crate) body: Bytes,
    /// Where the event stands that began it.
    pub(crate) position: Position,
}

/// Where an instance has ended or stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Completed,
    Compensated(String),
    NeedsAttention(Trouble),
    Terminated(String),
}

/// Why an instance cannot go on without a decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    pub(crate) code: String,
    pub(crate) reason: String,
    /// The step that failed, if it was one.
    pub(crate) step: Option<SmolStr>,
    /// How code and journal differ, if they do.
    pub(crate) difference: Option<Difference>,
}

/// What the entries add up to.
#[derive(Clone, Default, Debug)]
pub(crate) struct Journal {
    pub(crate) start: Option<Start>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) undoable: Vec<Undoable>,
    pub(crate) unwinding: Option<(String, String)>,
    pub(crate) pivoted: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) fired: BTreeSet<SmolStr>,
    /// Events that a wait has used up.
    pub(crate) used: BTreeSet<EventId>,
    /// Steps that were answered since the last turn: their time limits are not needed any more.
    pub(crate) answered: Vec<SmolStr>,
    /// Where the last entry stands that a turn wrote. A turn has seen everything before its own entries.
    pub(crate) played: Version,
    /// Why nothing more is taken up until it is resumed.
    pub(crate) paused: Option<String>,
    /// It is to go back, whatever it waits for: code and reason.
    pub(crate) cancelled: Option<(String, String)>,
    /// By when the whole instance is to be past its point of no return.
    pub(crate) deadline: Option<Timestamp>,
    /// Who waits for its end.
    pub(crate) parent: Option<Parent>,
    /// Who waits until it has gone back.
    pub(crate) undo_for: Option<Parent>,
    /// Branches that the code has taken.
    pub(crate) pins: BTreeMap<SmolStr, u32>,
    /// Steps that succeeded when the instance was over and nobody took their results.
    pub(crate) unclaimed: Vec<SmolStr>,
    /// The flow it belongs to, by its first entry.
    pub(crate) flow: Option<EventId>,
    /// The trace of what began it; timers, which have none, go on with it.
    pub(crate) trace: Option<Box<Trace>>,
    /// Steps in the order in which they were undone.
    undone: Vec<SmolStr>,
}

impl Journal {
    /// The journal after more of its stream.
    pub(crate) fn extend(&mut self, events: &[Recorded]) -> Result<(), Error> {
        for recorded in events {
            if self.flow.is_none() {
                self.flow = Some(recorded.envelope.flow().clone());
                self.trace.clone_from(&recorded.envelope.trace);
            }
            if let Some(sent) = Sent::of(&recorded.envelope)? {
                self.played = recorded.version;
                self.answered.clear();
                self.sent(&sent);
                continue;
            }
            let entry: Entry = event::decode_body(&recorded.envelope)?;
            if !entry.is_foreign() {
                self.played = recorded.version;
                self.answered.clear();
            }
            self.apply(&entry);
        }
        Ok(())
    }

    /// The journal after one more entry.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Started { event_id, event_type, schema_version, position, event, parent } => {
                self.parent.clone_from(parent);
                self.start = Some(Start {
                    event_id: event_id.clone(),
                    event_type: event_type.clone(),
                    schema_version: *schema_version,
                    body: Bytes::copy_from_slice(event.get().as_bytes()),
                    position: *position,
                });
            }
            Entry::ReplyReceived { step, ok, body } => self.replied(step, *ok, body),
            Entry::StepIntended { step, attempt } => self.ask(step, Kind::Local, *attempt, None),
            Entry::StepDone { step, result, undo, pivot } => {
                self.done(step, result.as_deref(), undo.as_ref(), *pivot);
            }
            Entry::StepFailed { step, code, reason, again_at, .. } => {
                self.failed(step, code, reason, *again_at);
            }
            Entry::WaitStarted { step, attempt, event_type, topic, key, due } => {
                let (event_type, topic, key) = (event_type.clone(), topic.clone(), key.clone());
                self.ask(step, Kind::Wait { event_type, topic, key }, *attempt, *due);
            }
            Entry::EventReceived { step, event_id, schema_version, body } => {
                self.used.insert(event_id.clone());
                if let Some(asked) = self.step(step) {
                    let body = Bytes::copy_from_slice(body.get().as_bytes());
                    asked.outcome = Some(StepOutcome::Received(*schema_version, body));
                }
            }
            Entry::SleepStarted { step, due } => self.ask(step, Kind::Sleep, 1, Some(*due)),
            Entry::TimerFired { name } => self.timer_fired(name),
            Entry::Unwinding { code, reason } => self.unwinding = Some((code.clone(), reason.clone())),
            Entry::UndoDone { step } => {
                self.undo(step, UndoState::Done, None);
                self.undone.push(step.clone());
            }
            Entry::UndoFailed { step, reason, again_at, .. } => {
                let state = again_at.map_or(UndoState::GivenUp(reason.clone()), UndoState::FailedUntil);
                self.undo(step, state, None);
            }
            Entry::Completed => self.ending = Some(Ending::Completed),
            Entry::Compensated { reason } => self.ending = Some(Ending::Compensated(reason.clone())),
            Entry::NeedsAttention { code, reason, step, difference } => {
                let (code, reason) = (code.clone(), reason.clone());
                let trouble = Trouble { code, reason, step: step.clone(), difference: difference.clone() };
                self.ending = Some(Ending::NeedsAttention(trouble));
            }
            Entry::VersionPinned { change, version } => {
                self.pins.insert(change.clone(), *version);
            }
            Entry::DeadlineSet { due } => self.deadline = Some(*due),
            Entry::StartIgnored { .. } | Entry::EventNoticed { .. } => {}
            decision => self.decide(decision),
        }
    }

    /// Whether a step succeeded after it was given up, and how to undo that is not on record.
    pub(crate) fn has_late_success(&self) -> bool {
        self.asked.iter().any(|asked| asked.late.is_some() && !asked.is_recorded)
    }

    fn ask(&mut self, step: &SmolStr, kind: Kind, attempt: u32, due: Option<Timestamp>) {
        match self.asked.iter_mut().find(|asked| asked.step == *step) {
            Some(asked) => {
                (asked.attempt, asked.due, asked.again_at) = (attempt, due, None);
                asked.is_reopened = false;
            }
            None => self.asked.push(Asked {
                step: step.clone(),
                kind,
                attempt,
                due,
                again_at: None,
                outcome: None,
                late: None,
                is_recorded: false,
                command: None,
                is_reopened: false,
            }),
        }
    }

    /// The journal after one more command.
    pub(crate) fn sent(&mut self, sent: &Sent) {
        if let Some(step) = sent.label.strip_prefix(UNDO_PREFIX) {
            self.undo(step, UndoState::Sent, Some(sent.attempt));
            // A late success is undone after the end: it has not ended after all.
            if matches!(self.ending, Some(Ending::Compensated(_))) {
                self.ending = None;
            }
            return;
        }
        self.ask(&sent.label, Kind::Command(sent.command.command_type.clone()), sent.attempt, sent.due);
        if let Some(asked) = self.step(&sent.label) {
            asked.command = Some(sent.command.clone());
        }
    }

    pub(crate) fn step(&mut self, step: &str) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.step == step)
    }

    fn replied(&mut self, step: &SmolStr, ok: bool, body: &RawValue) {
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        if let Some(step) = step.strip_prefix(UNDO_PREFIX) {
            let pending = self.undoable.iter_mut().find(|undoable| undoable.step == step);
            // A doubled reply finds the undo settled and changes nothing.
            if let Some(undoable) = pending.filter(|undoable| undoable.state == UndoState::Sent) {
                undoable.state = if ok { UndoState::Answered } else { UndoState::Refused(reason_of(&body)) };
            }
            return;
        }
        let is_terminated = matches!(self.ending, Some(Ending::Terminated(_)));
        if self.is_in_doubt_of(step) {
            // The answer that a person was asked about has come after all.
            self.ending = None;
        }
        let Some(asked) = self.step(step) else { return };
        match &asked.outcome {
            None if is_terminated && ok => {
                asked.late = Some(body);
                self.unclaimed.push(step.clone());
            }
            None => {
                asked.outcome = Some(if ok { StepOutcome::Done(body) } else { StepOutcome::Refused(body) });
                self.answered.push(step.clone());
            }
            // The effect took hold after all, though nobody waited any more: it has to be undone too.
            Some(StepOutcome::Failed(..)) if ok && asked.late.is_none() => {
                asked.late = Some(body);
                if asked.is_recorded {
                    self.undo_again(step);
                }
            }
            Some(_) => {}
        }
    }

    /// Whether it stopped because nobody knows what became of this step.
    fn is_in_doubt_of(&self, step: &str) -> bool {
        let Some(Ending::NeedsAttention(trouble)) = &self.ending else { return false };
        trouble.code == Code::SAGA_UNKNOWN.to_string() && trouble.step.as_deref() == Some(step)
    }

    /// A step that was undone without knowing whether it was done has succeeded after that.
    fn undo_again(&mut self, step: &str) {
        let known = self.undoable.iter().find(|undoable| undoable.step == step);
        let Some(command) = known.map(|undoable| undoable.command.clone()) else { return };
        let (step, state) = (format!("{step}~late").into(), UndoState::Open);
        self.undoable.push(Undoable { step, command, state, attempt: 0, is_late: true });
    }

    fn done(&mut self, step: &SmolStr, result: Option<&RawValue>, undo: Option<&CommandBody>, pivot: bool) {
        self.pivoted |= pivot;
        let mut is_late = false;
        if let Some(asked) = self.step(step) {
            asked.is_recorded = true;
            is_late = matches!(asked.outcome, Some(StepOutcome::Failed(..)));
            // A local step whose result is nothing is stored as `null`, which reads back as no result at all.
            let result = result.map(RawValue::get).or_else(|| (asked.kind == Kind::Local).then_some("null"));
            if let Some(result) = result {
                asked.outcome = Some(StepOutcome::Done(Bytes::copy_from_slice(result.as_bytes())));
            }
        }
        if let Some(command) = undo {
            let (step, command, state) = (step.clone(), command.clone(), UndoState::Open);
            self.undoable.push(Undoable { step, command, state, attempt: 0, is_late });
        }
    }

    fn failed(&mut self, step: &SmolStr, code: &str, reason: &str, again_at: Option<Timestamp>) {
        let Some(asked) = self.step(step) else { return };
        match again_at {
            // A refusal that is to be tried again is no outcome.
            Some(_) => (asked.again_at, asked.outcome) = (again_at, None),
            // No answer is lost: the turn that gave up had seen everything before this entry.
            None => asked.outcome = Some(StepOutcome::Failed(code.to_owned(), reason.to_owned())),
        }
    }

    fn timer_fired(&mut self, name: &SmolStr) {
        self.fired.insert(name.clone());
        if name == DEADLINE_TIMER && !self.pivoted {
            let reason = "it did not come to its point of no return by its deadline".to_owned();
            self.cancelled.get_or_insert((Code::SAGA_DEADLINE.to_string(), reason));
        }
        let sleeping =
            self.asked.iter_mut().find(|asked| asked.kind == Kind::Sleep && timer_name(asked) == *name);
        if let Some(asked) = sleeping {
            asked.outcome = Some(StepOutcome::Done(Bytes::from_static(b"null")));
        }
    }

    fn undo(&mut self, step: &str, state: UndoState, attempt: Option<u32>) {
        if let Some(undoable) = self.undoable.iter_mut().find(|undoable| undoable.step == step) {
            undoable.state = state;
            undoable.attempt = attempt.unwrap_or(undoable.attempt);
        }
    }

    /// Steps that are undone, in the order in which that was recorded.
    pub(crate) fn undone(&self) -> Vec<SmolStr> {
        self.undone.clone()
    }
}

/// The timer of the whole instance.
pub(crate) const DEADLINE_TIMER: &str = "saga/deadline";

/// Marks replies to commands that undo a step.
pub(crate) const UNDO_PREFIX: &str = "undo:";

/// The timer of the current attempt or pause of a step.
pub(crate) fn timer_name(asked: &Asked) -> SmolStr {
    let what = if asked.again_at.is_some() { "again" } else { "due" };
    format!("{}/{what}/{}", asked.step, asked.attempt).into()
}

/// The timer of the pause before an undo is tried again.
pub(crate) fn undo_timer_name(step: &str, attempt: u32) -> SmolStr {
    format!("{UNDO_PREFIX}{step}/again/{attempt}").into()
}

/// A refusal for people: its `reason`, where it has one, the text that it is, or all of it.
pub(crate) fn reason_of(refusal: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Refusal {
        Reasoned { reason: String },
        Text(String),
    }
    match serde_json::from_slice(refusal) {
        Ok(Refusal::Reasoned { reason } | Refusal::Text(reason)) => reason,
        Err(_) => String::from_utf8_lossy(refusal).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_reason() {
        assert_eq!(
            reason_of(br#"{"order_id":"ORD-1","reason":"the account is closed"}"#),
            "the account is closed"
        );
        assert_eq!(reason_of(br#""too heavy""#), "too heavy");
        assert_eq!(reason_of(br#"{"limit":5}"#), r#"{"limit":5}"#);
    }
}
