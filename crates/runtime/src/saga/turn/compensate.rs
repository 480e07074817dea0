//! Undoing what is done, last first, one command at a time.

use ensue_core::{Code, Error};

use super::super::journal::{Entry, Sent, UNDO_PREFIX, UndoState, Undoable, undo_timer_name};
use super::{Next, Turn};

/// How often an undo is tried before a person is asked.
const UNDO_ATTEMPTS: u32 = 5;

impl Turn<'_> {
    /// Goes as far back as it can go now.
    pub(super) fn unwind(&mut self) -> Result<Next, Error> {
        if self.undo_each(|_| true)? { self.end_compensated() } else { Ok(Next::Wait) }
    }

    /// Undoes what succeeded after it had been given up, while the saga goes its way.
    pub(super) fn undo_late(&mut self) -> Result<(), Error> {
        self.undo_each(|undoable| undoable.is_late).map(|_| ())
    }

    /// Undoes what is selected, last first, as far as it goes now. True: all of it is undone.
    fn undo_each(&mut self, is_selected: impl Fn(&Undoable) -> bool) -> Result<bool, Error> {
        loop {
            let open = self
                .journal
                .undoable
                .iter()
                .rev()
                .find(|undoable| !undoable.state.is_settled() && is_selected(undoable))
                .cloned();
            let Some(undoable) = open else { return Ok(true) };
            match undoable.state.clone() {
                UndoState::Answered => self.write(&Entry::UndoDone { step: undoable.step })?,
                UndoState::Open => {
                    self.send_undo(&undoable)?;
                    return Ok(false);
                }
                UndoState::FailedUntil(_) => {
                    let timer = undo_timer_name(&undoable.step, undoable.attempt);
                    let is_fired = self.journal.fired.contains(&timer);
                    if is_fired {
                        self.send_undo(&undoable)?;
                    }
                    return Ok(false);
                }
                UndoState::Refused(reason) => {
                    self.undo_refused(&undoable, reason)?;
                    return Ok(false);
                }
                UndoState::Sent | UndoState::GivenUp(_) => return Ok(false),
                UndoState::Done | UndoState::Skipped => {
                    unreachable!("only what is not settled was looked for")
                }
            }
        }
    }

    fn end_compensated(&mut self) -> Result<Next, Error> {
        let reason = self.journal.unwinding.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
        // A late success may have been undone after the end: the end is then written once more.
        if self.journal.ending.is_none() {
            self.write(&Entry::Compensated { reason: reason.clone() })?;
            self.tell_of_the_way_back(&reason)?;
        }
        Ok(Next::Wait)
    }

    fn send_undo(&mut self, undoable: &Undoable) -> Result<(), Error> {
        let label = format!("{UNDO_PREFIX}{}", undoable.step).into();
        let (attempt, command) = (undoable.attempt + 1, undoable.command.clone());
        self.send(&Sent { label, attempt, due: None, command })
    }

    fn undo_refused(&mut self, undoable: &Undoable, reason: String) -> Result<(), Error> {
        let (step, attempt) = (undoable.step.clone(), undoable.attempt);
        if attempt < UNDO_ATTEMPTS {
            let again_at = self.again_after(attempt);
            self.set_timer(undo_timer_name(&step, attempt), again_at);
            return self.write(&Entry::UndoFailed { step, attempt, reason, again_at: Some(again_at) });
        }
        self.write(&Entry::UndoFailed {
            step: step.clone(),
            attempt,
            reason: reason.clone(),
            again_at: None,
        })?;
        self.stop(
            Code::SAGA_UNDO_FAILED,
            format!("undoing step `{step}` was refused {attempt} times: {reason}"),
            Some(&format!("{UNDO_PREFIX}{step}")),
        )
        .map(|_| ())
    }
}
