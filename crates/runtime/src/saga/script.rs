//! The side of a saga that its code sees while it is replayed: what it asked for so far, and what it asks for now.
//!
//! Replay is one poll. Every operation of a saga is answered from the journal at once, or not at all; so code that is
//! pending after the poll waits for the operations it asked for without an answer, or for something that is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{BoxFuture, Error, Timestamp};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::head::Difference;
use super::journal::{CommandBody, Entry, Journal, Kind, StepOutcome, raw};
use crate::progress::lock;

/// A local effect of a step: handed its idempotency key, gives its result as JSON.
pub(crate) type Effect = Box<dyn FnOnce(String) -> BoxFuture<'static, Result<Bytes, Error>> + Send>;

/// How a step is to be carried out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Attempts beyond the first.
    pub(crate) retries: u32,
    /// How long one attempt may take.
    pub(crate) within: Option<Duration>,
    /// After this step there is no way back.
    pub(crate) pivot: bool,
    /// Tried until it succeeds.
    pub(crate) until_done: bool,
}

/// A command that the code asks for.
pub(crate) struct Order {
    pub(crate) command: CommandBody,
    pub(crate) if_unknown: IfUnknown,
}

/// What happens when the attempts at a command have run out of time: it may be done, or not, or be done later.
pub(crate) enum IfUnknown {
    /// It has failed; if it succeeds all the same, it is undone then.
    UndoLate,
    /// A person decides.
    Ask,
    /// It is undone with this, at once; and once more if it succeeds after that.
    Undo(CommandBody),
}

/// What the code asks for.
pub(crate) enum Request {
    Command(Order),
    Local(Effect),
    Wait { event_type: String, topic: String, key: String },
    Sleep(Duration),
}

impl Request {
    fn kind(&self) -> Kind {
        match self {
            Self::Command(order) => Kind::Command(order.command.command_type.clone()),
            Self::Local(_) => Kind::Local,
            Self::Wait { event_type, topic, key } => {
                Kind::Wait { event_type: event_type.clone(), topic: topic.clone(), key: key.clone() }
            }
            Self::Sleep(_) => Kind::Sleep,
        }
    }
}

/// An operation that the code is waiting for.
pub(crate) struct Pending {
    pub(crate) step: SmolStr,
    pub(crate) request: Request,
    pub(crate) terms: Terms,
    /// Whether the journal has it already.
    pub(crate) is_known: bool,
}

/// Shared between the code of a saga and what replays it.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<State>>);

struct State {
    journal: Journal,
    next: usize,
    occurrences: HashMap<String, u32>,
    pending: Vec<Pending>,
    /// What the code has asked for so far.
    sequence: Vec<(SmolStr, Kind)>,
    /// Why code and journal do not fit, and at which operation.
    mismatch: Option<Mismatch>,
    /// Entries that replaying brought up: undo commands of steps whose results are new, branches taken.
    fresh: Vec<Entry>,
}

/// Why code and journal do not fit.
#[derive(Clone)]
pub(crate) struct Mismatch {
    pub(crate) reason: String,
    /// The place among the operations.
    pub(crate) at: usize,
    /// The step whose result does not fit, if it is that.
    pub(crate) step: Option<SmolStr>,
}

/// An operation for people.
fn in_words(step: &str, kind: &Kind) -> String {
    format!("{step} ({kind})")
}

impl State {
    /// Something new that goes on record with the turn.
    fn bring_up(&mut self, entry: Entry) {
        self.journal.apply(&entry);
        self.fresh.push(entry);
    }
}

impl Script {
    pub(crate) fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(State {
            journal,
            next: 0,
            occurrences: HashMap::new(),
            pending: Vec::new(),
            sequence: Vec::new(),
            mismatch: None,
            fresh: Vec::new(),
        })))
    }

    /// The code asks for its next operation. Gives the outcome if the journal has it.
    pub(crate) fn ask(&self, name: &str, request: Request, terms: Terms) -> (SmolStr, Option<StepOutcome>) {
        let mut state = lock(&self.0);
        let occurrence = state.occurrences.entry(name.to_owned()).or_default();
        *occurrence += 1;
        let step: SmolStr =
            if *occurrence == 1 { name.into() } else { format!("{name}#{occurrence}").into() };
        let at = state.next;
        state.next += 1;
        let kind = request.kind();
        state.sequence.push((step.clone(), kind.clone()));
        let (outcome, is_known) = match state.journal.asked.get(at) {
            Some(asked) if asked.step == step && asked.kind == kind => {
                // A refusal is no outcome of a step that is tried until it is done.
                let is_final = !(terms.until_done && matches!(asked.outcome, Some(StepOutcome::Refused(_))));
                (asked.outcome.clone().filter(|_| is_final), true)
            }
            Some(asked) => {
                let (recorded, recorded_kind) = (asked.step.clone(), asked.kind.clone());
                let reason = format!(
                    "operation {} was step `{recorded}` ({recorded_kind}), now the code asks for `{step}` ({kind})",
                    at + 1
                );
                state.mismatch.get_or_insert(Mismatch { reason, at, step: None });
                return (step, None);
            }
            None => (None, false),
        };
        if outcome.is_none() {
            state.pending.push(Pending { step: step.clone(), request, terms, is_known });
        }
        (step, outcome)
    }

    /// A step has succeeded, maybe late. If that is not on record yet, it is now, with how to undo it.
    pub(crate) fn succeeded(
        &self,
        step: &str,
        terms: Terms,
        undo: impl FnOnce(&[u8]) -> Result<Option<CommandBody>, Error>,
    ) -> Result<(), Error> {
        let mut state = lock(&self.0);
        let Some(asked) = state.journal.step(step) else { return Ok(()) };
        let reply = match (&asked.outcome, &asked.late) {
            (_, Some(late)) => late.clone(),
            (Some(StepOutcome::Done(body)), None) => body.clone(),
            _ => return Ok(()),
        };
        if asked.is_recorded {
            return Ok(());
        }
        let result: Option<Box<RawValue>> = (asked.kind == Kind::Local).then(|| raw(&reply)).transpose()?;
        let undo = undo(&reply)?;
        if undo.is_none() && !terms.pivot && result.is_none() {
            return Ok(());
        }
        let entry = Entry::StepDone { step: step.into(), result, undo, pivot: terms.pivot };
        state.bring_up(entry);
        Ok(())
    }

    /// How code and journal differ, if they do. Code that `has_ended` must have asked for all that is on record.
    pub(crate) fn difference(&self, has_ended: bool) -> Option<(Mismatch, Difference)> {
        let state = lock(&self.0);
        let left_out = || {
            let asked = state.journal.asked.get(state.next).filter(|_| has_ended)?;
            let what = in_words(&format!("`{}`", asked.step), &asked.kind);
            let reason = format!("the code ended before step {what}, which is on record");
            Some(Mismatch { reason, at: state.next, step: None })
        };
        let mismatch = state.mismatch.clone().or_else(left_out)?;
        let journal = state.journal.asked.iter().map(|asked| in_words(&asked.step, &asked.kind)).collect();
        let code = state.sequence.iter().map(|(step, kind)| in_words(step, kind)).collect();
        let difference = Difference { journal, code, first: mismatch.at };
        Some((mismatch, difference))
    }

    /// The result of a step is not what the code takes it for.
    pub(crate) fn does_not_decode(&self, step: &str, error: &Error) {
        let mut state = lock(&self.0);
        let at = state.journal.asked.iter().position(|asked| asked.step == step).unwrap_or_default();
        let reason = format!("the result of step `{step}` does not fit: {}", error.message());
        state.mismatch.get_or_insert(Mismatch { reason, at, step: Some(step.into()) });
    }

    /// Which branch of a change the code takes: the one on record, the old one (zero) where the instance has gone past this
    /// place before, or the newest.
    pub(crate) fn version(&self, change: &str, newest: u32) -> u32 {
        let mut state = lock(&self.0);
        if let Some(pinned) = state.journal.pins.get(change) {
            return *pinned;
        }
        let has_gone_past = state.journal.asked.len() > state.next;
        let version = if has_gone_past { 0 } else { newest };
        state.bring_up(Entry::VersionPinned { change: change.into(), version });
        version
    }

    /// The whole instance is to be past its point of no return at this time, unless it has a deadline already.
    pub(crate) fn deadline(&self, due: Timestamp) {
        let mut state = lock(&self.0);
        if state.journal.deadline.is_none() {
            state.bring_up(Entry::DeadlineSet { due });
        }
    }

    /// What the code waits for, in the order in which it asked.
    pub(crate) fn take_pending(&self) -> Vec<Pending> {
        std::mem::take(&mut lock(&self.0).pending)
    }

    pub(crate) fn take_fresh(&self) -> Vec<Entry> {
        std::mem::take(&mut lock(&self.0).fresh)
    }
}
