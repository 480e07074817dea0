//! The side of a saga that its code sees while it is replayed: what it asked for so far, and what it asks for now.
//!
//! Replay is one poll. Every operation of a saga is answered from the journal at once, or not at all; so code that is
//! pending after the poll waits for the operation it asked for last, or for something that is no saga operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{BoxFuture, Error};
use serde_json::value::RawValue;
use smol_str::SmolStr;

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

/// What the code asks for.
pub(crate) enum Request {
    Command(CommandBody),
    Local(Effect),
    Wait { event_type: String, topic: String, key: String },
    Sleep(Duration),
}

impl Request {
    fn kind(&self) -> Kind {
        match self {
            Self::Command(command) => Kind::Command(command.command_type.clone()),
            Self::Local(_) => Kind::Local,
            Self::Wait { event_type, topic, key } => {
                Kind::Wait { event_type: event_type.clone(), topic: topic.clone(), key: key.clone() }
            }
            Self::Sleep(_) => Kind::Sleep,
        }
    }
}

/// The operation that the code is waiting for.
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
    pending: Option<Pending>,
    /// Why code and journal do not fit.
    mismatch: Option<String>,
    /// Entries that replaying brought up: undo commands of steps whose results are new.
    fresh: Vec<Entry>,
}

impl Script {
    pub(crate) fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(State {
            journal,
            next: 0,
            occurrences: HashMap::new(),
            pending: None,
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
        let (outcome, is_known) = match state.journal.asked.get(at) {
            Some(asked) if asked.step == step && asked.kind == kind => {
                // A refusal is no outcome of a step that is tried until it is done.
                let is_final = !(terms.until_done && matches!(asked.outcome, Some(StepOutcome::Refused(_))));
                (asked.outcome.clone().filter(|_| is_final), true)
            }
            Some(asked) => {
                let (recorded, recorded_kind) = (asked.step.clone(), asked.kind.clone());
                state.mismatch = Some(format!(
                    "operation {} was step `{recorded}` ({recorded_kind}), now the code asks for `{step}` ({kind})",
                    at + 1
                ));
                return (step, None);
            }
            None => (None, false),
        };
        if outcome.is_none() {
            state.pending = Some(Pending { step: step.clone(), request, terms, is_known });
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
        state.journal.apply(&entry);
        state.fresh.push(entry);
        Ok(())
    }

    /// Whether the code asked for everything that is on record; if not, what it left out.
    pub(crate) fn leftover(&self) -> Option<String> {
        let state = lock(&self.0);
        let asked = state.journal.asked.get(state.next)?;
        Some(format!("the code ended before step `{}` ({}), which is on record", asked.step, asked.kind))
    }

    pub(crate) fn mismatch(&self) -> Option<String> {
        lock(&self.0).mismatch.clone()
    }

    pub(crate) fn take_pending(&self) -> Option<Pending> {
        lock(&self.0).pending.take()
    }

    pub(crate) fn take_fresh(&self) -> Vec<Entry> {
        std::mem::take(&mut lock(&self.0).fresh)
    }
}
