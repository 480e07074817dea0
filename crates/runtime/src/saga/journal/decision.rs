//! What operators decide, and what it does to a journal.

use bytes::Bytes;
use ensue_core::Code;

use super::{
    Asked, Behind, CommandBody, Ending, Entry, Journal, Resolved, StepOutcome, Stored, UndoState, Undoable,
    raw,
};

impl Journal {
    /// The journal after a decision of an operator. Whether it fits was checked when it was put on record.
    pub(super) fn decide(&mut self, decision: &Entry) {
        match decision {
            Entry::Paused { reason } => self.paused = Some(reason.clone()),
            Entry::Resumed { .. } => self.paused = None,
            Entry::RetryAsked { .. } => self.retry(),
            Entry::CancelAsked { reason } => {
                (self.paused, self.ending) = (None, None);
                self.cancelled.get_or_insert((Code::SAGA_CANCELLED.to_string(), reason.clone()));
            }
            Entry::UndoAsked { parent } => {
                (self.undo_for, self.paused) = (Some(parent.clone()), None);
                let goes_forward = self.unwinding.is_none() && !self.pivoted;
                if goes_forward && !matches!(self.ending, Some(Ending::Terminated(_))) {
                    self.ending = None;
                    let reason = "the saga that started it goes back".to_owned();
                    self.cancelled.get_or_insert((Code::SAGA_CANCELLED.to_string(), reason));
                }
            }
            Entry::StepResolved { step, outcome, reason } => self.resolve(step, outcome, reason),
            Entry::UndoResolved { step, .. } => {
                self.clear_trouble();
                if let Some(undoable) = self.undoable.iter_mut().find(|undoable| undoable.step == *step) {
                    undoable.state = UndoState::Skipped;
                }
            }
            Entry::Terminated { reason } => self.ending = Some(Ending::Terminated(reason.clone())),
            Entry::Restarted { behind, used, pins, .. } => {
                self.used.extend(used.iter().cloned());
                self.pins.clone_from(pins);
                behind.iter().for_each(|step| self.take_over(step));
            }
            _ => {}
        }
    }

    fn clear_trouble(&mut self) {
        if matches!(self.ending, Some(Ending::NeedsAttention(_))) {
            self.ending = None;
        }
    }

    /// What failed or was given up is open again.
    fn retry(&mut self) {
        let failed = match self.ending.take() {
            // A step whose result does not fit the code has been done; only the code is tried again.
            Some(Ending::NeedsAttention(trouble)) => trouble.step.filter(|_| trouble.difference.is_none()),
            other => {
                self.ending = other;
                None
            }
        };
        if self.unwinding.is_some() {
            self.pivoted = false;
        }
        self.cancelled = None;
        for undoable in &mut self.undoable {
            if matches!(undoable.state, UndoState::GivenUp(_) | UndoState::FailedUntil(_)) {
                (undoable.state, undoable.attempt) = (UndoState::Open, 0);
            }
        }
        for asked in &mut self.asked {
            if failed.as_ref() == Some(&asked.step) {
                (asked.outcome, asked.is_reopened) = (None, true);
            }
            asked.is_reopened |= asked.outcome.is_none() && asked.again_at.is_some();
        }
    }

    fn resolve(&mut self, step: &str, resolved: &Resolved, reason: &str) {
        self.clear_trouble();
        let Some(asked) = self.step(step) else { return };
        asked.outcome = Some(match resolved {
            Resolved::Done(body) => StepOutcome::Done(Bytes::copy_from_slice(body.get().as_bytes())),
            Resolved::Failed => {
                let reason = format!("step `{step}` was given up by hand: {reason}");
                StepOutcome::Failed(Code::SAGA_STEP_FAILED.to_string(), reason)
            }
        });
        self.answered.push(step.into());
    }

    fn take_over(&mut self, behind: &Behind) {
        let Behind { step, kind, outcome, undo } = behind;
        self.asked.push(Asked {
            step: step.clone(),
            kind: kind.clone(),
            attempt: 1,
            due: None,
            again_at: None,
            outcome: Some(outcome.into()),
            late: None,
            is_recorded: true,
            command: None,
            is_reopened: false,
        });
        if let Some(command) = undo {
            let (step, command, state) = (step.clone(), command.clone(), UndoState::Open);
            self.undoable.push(Undoable { step, command, state, attempt: 0, is_late: false });
        }
    }

    /// The steps before `at`, to be taken over by another instance; `None` if `at` is no step. A step without an outcome, or one
    /// that is being undone, cannot be taken over; it is the error.
    pub(crate) fn behind(&self, at: &str) -> Option<Result<Vec<Behind>, String>> {
        let place = self.asked.iter().position(|asked| asked.step == at)?;
        Some(self.asked.iter().take(place).map(|asked| self.hand_over(asked)).collect())
    }

    fn hand_over(&self, asked: &Asked) -> Result<Behind, String> {
        let step = asked.step.clone();
        let undoable = self.undoable.iter().find(|undoable| undoable.step == step);
        if undoable.is_some_and(|undoable| undoable.state != UndoState::Open) {
            return Err(format!("step `{step}` is undone, or is being undone"));
        }
        let undo: Option<CommandBody> = undoable.map(|undoable| undoable.command.clone());
        let outcome = match &asked.outcome {
            Some(StepOutcome::Done(body)) => Stored::Done(raw(body).map_err(|error| error.to_string())?),
            Some(StepOutcome::Received(schema_version, body)) => {
                let body = raw(body).map_err(|error| error.to_string())?;
                Stored::Received { schema_version: *schema_version, body }
            }
            Some(StepOutcome::Refused(body)) => {
                Stored::Refused(raw(body).map_err(|error| error.to_string())?)
            }
            Some(StepOutcome::Failed(code, reason)) => {
                Stored::Failed { code: code.clone(), reason: reason.clone() }
            }
            None => return Err(format!("step `{step}` has no outcome yet")),
        };
        Ok(Behind { step, kind: asked.kind.clone(), outcome, undo })
    }
}

impl From<&Stored> for StepOutcome {
    fn from(stored: &Stored) -> Self {
        let bytes = |body: &serde_json::value::RawValue| Bytes::copy_from_slice(body.get().as_bytes());
        match stored {
            Stored::Done(body) => Self::Done(bytes(body)),
            Stored::Received { schema_version, body } => Self::Received(*schema_version, bytes(body)),
            Stored::Refused(body) => Self::Refused(bytes(body)),
            Stored::Failed { code, reason } => Self::Failed(code.clone(), reason.clone()),
        }
    }
}
