//! What can be asked of an instance, and where each request fits.

use bytes::Bytes;
use ensue_core::{Code, Error};
use smol_str::SmolStr;

use super::super::journal::{Ending, Entry, Journal, Resolved, UNDO_PREFIX, UndoState, raw};

/// What is asked of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// It takes nothing more up until it is resumed. Answers, events and timers that arrive are kept.
    Pause,
    /// It goes on after a pause, with what has arrived meanwhile.
    Resume,
    /// It goes back: what is done is undone, last first, and what still succeeds is undone too. Only up to the point of no
    /// return.
    Cancel,
    /// What made it stop is tried again, under the same idempotency key: the step that failed, the undo that was refused,
    /// or the code that did not fit. A step that pauses between two attempts is tried at once.
    Retry,
    /// The outcome of a step, given by hand: a result as JSON, as the step's command would have answered.
    Resolve {
        /// The step.
        step: SmolStr,
        /// The result as JSON; `None`: the step has failed.
        result: Option<Bytes>,
    },
    /// A step is not undone any more: it was undone by hand, or is to stay.
    SkipUndo {
        /// The step that stays as it is.
        step: SmolStr,
    },
    /// It ends here, with everything left as it is. What still succeeds is named in its head, and undone by nobody.
    Terminate,
    /// Another instance takes over what is behind it and goes on at a step; this one ends, if it has not.
    Restart {
        /// The first step that is done anew.
        at: SmolStr,
        /// The key of the new instance.
        key: String,
    },
}

impl Request {
    /// What is put on record.
    pub(super) fn entry(&self, reason: &str) -> Result<Entry, Error> {
        let reason = reason.to_owned();
        Ok(match self {
            Self::Pause => Entry::Paused { reason },
            Self::Resume => Entry::Resumed { reason },
            Self::Cancel => Entry::CancelAsked { reason },
            Self::Retry => Entry::RetryAsked { reason },
            Self::Resolve { step, result } => {
                let outcome = match result {
                    Some(result) => Resolved::Done(raw(result)?),
                    None => Resolved::Failed,
                };
                Entry::StepResolved { step: step.clone(), outcome, reason }
            }
            Self::SkipUndo { step } => {
                let step = step.strip_prefix(UNDO_PREFIX).unwrap_or(step).into();
                Entry::UndoResolved { step, reason }
            }
            Self::Terminate | Self::Restart { .. } => Entry::Terminated { reason },
        })
    }

    /// Whether it fits where the instance stands; `who` names it in the error.
    pub(super) fn check(&self, journal: &Journal, who: &str) -> Result<(), Error> {
        let why_not = match self {
            Self::Restart { .. } => None,
            _ if is_over(journal) => Some("it is over"),
            Self::Pause if journal.paused.is_some() => Some("it is paused already"),
            Self::Resume if journal.paused.is_none() => {
                Some("it is not paused; what failed is tried again with `retry`")
            }
            Self::Cancel if journal.unwinding.is_some() => Some("it goes back already"),
            Self::Cancel if journal.cancelled.is_some() => Some("it is being cancelled already"),
            Self::Cancel if journal.pivoted => Some("it is past its point of no return"),
            Self::Retry if !has_something_to_retry(journal) => {
                Some("nothing of it has failed; it waits for something else")
            }
            Self::Resolve { step, .. } => return check_step(journal, step, who),
            Self::SkipUndo { step } => return check_undo(journal, step, who),
            _ => None,
        };
        why_not.map_or(Ok(()), |why_not| Err(not_so(who, why_not)))
    }
}

fn not_so(who: &str, why_not: &str) -> Error {
    Error::new(Code::SAGA_NOT_SO, format!("{who}: {why_not}"))
}

fn no_step(who: &str, step: &str) -> Error {
    Error::new(Code::NOT_FOUND, format!("{who} has no step `{step}`"))
        .with_fix("`ensue saga show` lists its steps")
}

/// Whether nothing can be asked of it any more.
pub(super) fn is_over(journal: &Journal) -> bool {
    match journal.ending {
        Some(Ending::Completed | Ending::Terminated(_)) => true,
        Some(Ending::Compensated(_)) => journal.undoable.iter().all(|undoable| undoable.state.is_settled()),
        _ => false,
    }
}

fn has_something_to_retry(journal: &Journal) -> bool {
    let pauses = |undoable: &super::super::journal::Undoable| {
        matches!(undoable.state, UndoState::FailedUntil(_) | UndoState::GivenUp(_))
    };
    matches!(journal.ending, Some(Ending::NeedsAttention(_)))
        || journal.asked.iter().any(|asked| asked.outcome.is_none() && asked.again_at.is_some())
        || journal.undoable.iter().any(pauses)
}

/// A step can be given an outcome if it has none, or if it is the one that the instance stopped at.
fn check_step(journal: &Journal, step: &str, who: &str) -> Result<(), Error> {
    let asked = journal.asked.iter().find(|asked| asked.step == step).ok_or_else(|| no_step(who, step))?;
    let stopped_at = match &journal.ending {
        Some(Ending::NeedsAttention(trouble)) => trouble.step.as_deref(),
        _ => None,
    };
    if journal.unwinding.is_some() {
        return Err(not_so(who, "it goes back; an undo is resolved with `--skip-undo`"));
    }
    if asked.outcome.is_none() || stopped_at == Some(step) {
        return Ok(());
    }
    Err(not_so(who, &format!("step `{step}` has an outcome, and the code has gone on with it")))
}

fn check_undo(journal: &Journal, step: &str, who: &str) -> Result<(), Error> {
    let step = step.strip_prefix(UNDO_PREFIX).unwrap_or(step);
    let undoable = journal.undoable.iter().find(|undoable| undoable.step == step);
    match undoable {
        None => Err(no_step(who, step)),
        Some(undoable) if undoable.state.is_settled() => {
            Err(not_so(who, &format!("step `{step}` is undone, or was let stand, already")))
        }
        Some(_) => Ok(()),
    }
}
