//! The journal of a saga instance: entries in its stream, and what they add up to.
//!
//! The stream is inbox, journal and audit in one. Three entries are put there by others: replies, fired timers and
//! received events. Everything else the instance writes itself.

use std::collections::BTreeSet;

use bytes::Bytes;
use ensue_core::{Error, EventId, EventType, Position, Recorded, Timestamp, event};
use serde_json::value::RawValue;
use smol_str::SmolStr;

mod entry;
pub(crate) use entry::{CommandBody, Entry, WAKING, raw};

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
}

/// What sort of step it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Command(String),
    Local,
    Wait { event_type: String, topic: String, key: String },
    Sleep,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => write!(f, "the command {command}"),
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
    NeedsAttention(String, String),
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
    /// Steps in the order in which they were undone.
    undone: Vec<SmolStr>,
}

impl Journal {
    /// The journal after more of its stream.
    pub(crate) fn extend(&mut self, events: &[Recorded]) -> Result<(), Error> {
        for recorded in events {
            let entry: Entry = event::decode_body(&recorded.envelope)?;
            if !entry.is_foreign() {
                self.answered.clear();
            }
            self.apply(&entry);
        }
        Ok(())
    }

    /// The journal after one more entry.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Started { event_id, event_type, schema_version, position, event } => {
                self.start = Some(Start {
                    event_id: event_id.clone(),
                    event_type: event_type.clone(),
                    schema_version: *schema_version,
                    body: Bytes::copy_from_slice(event.get().as_bytes()),
                    position: *position,
                });
            }
            Entry::CommandSent { step, attempt, due, command } => self.sent(step, *attempt, *due, command),
            Entry::ReplyReceived { step, ok, body } => self.replied(step, *ok, body),
            Entry::StepIntended { step, attempt } => self.ask(step, Kind::Local, *attempt, None),
            Entry::StepDone { step, result, undo, pivot } => {
                self.done(step, result.as_deref(), undo.as_ref(), *pivot);
            }
            Entry::StepFailed { step, code, reason, again_at, .. } => {
                self.failed(step, code, reason, *again_at);
            }
            Entry::WaitStarted { step, event_type, topic, key, due } => {
                let (event_type, topic, key) = (event_type.clone(), topic.clone(), key.clone());
                self.ask(step, Kind::Wait { event_type, topic, key }, 1, *due);
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
            Entry::UndoIntended { step, attempt } => {
                self.undo(step, UndoState::Sent, Some(*attempt));
                // A late success is undone after the end: it has not ended after all.
                if matches!(self.ending, Some(Ending::Compensated(_))) {
                    self.ending = None;
                }
            }
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
            Entry::NeedsAttention { code, reason } => {
                self.ending = Some(Ending::NeedsAttention(code.clone(), reason.clone()));
            }
            Entry::Resumed { .. } => self.resume(),
            Entry::StartIgnored { .. } | Entry::EventNoticed { .. } => {}
        }
    }

    /// Whether a step succeeded after it was given up, and how to undo that is not on record.
    pub(crate) fn has_late_success(&self) -> bool {
        self.asked.iter().any(|asked| asked.late.is_some() && !asked.is_recorded)
    }

    fn ask(&mut self, step: &SmolStr, kind: Kind, attempt: u32, due: Option<Timestamp>) {
        match self.asked.iter_mut().find(|asked| asked.step == *step) {
            Some(asked) => (asked.attempt, asked.due, asked.again_at) = (attempt, due, None),
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
            }),
        }
    }

    fn sent(&mut self, step: &SmolStr, attempt: u32, due: Option<Timestamp>, command: &CommandBody) {
        self.ask(step, Kind::Command(command.command_type.clone()), attempt, due);
        if let Some(asked) = self.step(step) {
            asked.command = Some(command.clone());
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
                undoable.state = if ok { UndoState::Answered } else { UndoState::Refused(text(&body)) };
            }
            return;
        }
        let Some(asked) = self.step(step) else { return };
        match &asked.outcome {
            None => {
                asked.outcome = Some(if ok { StepOutcome::Done(body) } else { StepOutcome::Refused(body) });
                self.answered.push(step.clone());
            }
            // The effect took hold after all, though nobody waited any more: it has to be undone too.
            Some(StepOutcome::Failed(..)) if ok && asked.late.is_none() => asked.late = Some(body),
            Some(_) => {}
        }
    }

    fn done(&mut self, step: &SmolStr, result: Option<&RawValue>, undo: Option<&CommandBody>, pivot: bool) {
        self.pivoted |= pivot;
        let mut is_late = false;
        if let Some(asked) = self.step(step) {
            asked.is_recorded = true;
            is_late = asked.late.is_some();
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
            None => {
                // A reply may have slipped in between the decision to give up and its record: it counts as late.
                if let Some(StepOutcome::Done(body)) = asked.outcome.take()
                    && matches!(asked.kind, Kind::Command(_))
                {
                    asked.late = Some(body);
                }
                asked.outcome = Some(StepOutcome::Failed(code.to_owned(), reason.to_owned()));
            }
        }
    }

    fn timer_fired(&mut self, name: &SmolStr) {
        self.fired.insert(name.clone());
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

    /// An operator said go on: what was given up is open again.
    fn resume(&mut self) {
        if matches!(self.ending, Some(Ending::NeedsAttention(..))) {
            self.ending = None;
        }
        if self.unwinding.is_some() {
            self.pivoted = false;
        }
        for undoable in &mut self.undoable {
            if matches!(undoable.state, UndoState::GivenUp(_)) {
                (undoable.state, undoable.attempt) = (UndoState::Open, 0);
            }
        }
    }
}

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

/// A body for people.
pub(crate) fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
