//! Where an instance stops going forward: at a failure, at a request to cancel it, or for a person to decide.

use std::collections::HashMap;

use ensue_core::{Code, Draft, Error, Failure};
use smol_str::SmolStr;

use super::super::child::{self, End, Parent};
use super::super::head::Difference;
use super::super::journal::{CommandBody, DEADLINE_TIMER, Ending, Entry, Kind, raw};
use super::super::script::{IfUnknown, Mismatch, Order, Pending, Request, Script};
use super::super::step::SagaError;
use super::{Next, Place, Turn};

impl Turn<'_> {
    /// The end, as planned, with these events. What only mattered until then goes with it.
    pub(super) fn complete(&mut self, drafts: Vec<Draft>) -> Result<(), Error> {
        let end = match drafts.first() {
            Some(first) => End::Well(raw(&first.data)?),
            None => End::empty(),
        };
        drafts.into_iter().for_each(|draft| self.emit(draft));
        self.cancel_deadline();
        self.write(&Entry::Completed)?;
        let parent = self.journal.parent.clone();
        self.tell(parent.as_ref(), &end)
    }

    /// Tells a parent how it ended.
    fn tell(&mut self, parent: Option<&Parent>, end: &End) -> Result<(), Error> {
        if let Some(parent) = parent {
            self.append(parent.answer(end)?, |_| {});
        }
        Ok(())
    }

    /// It has gone back: bad news for whoever waits for its end, good for whoever sent it back.
    pub(super) fn tell_of_the_way_back(&mut self, reason: &str) -> Result<(), Error> {
        let (parent, undo_for) = (self.journal.parent.clone(), self.journal.undo_for.clone());
        self.tell(parent.as_ref(), &End::Badly(reason.to_owned()))?;
        self.tell(undo_for.as_ref(), &End::empty())
    }

    /// Its parent sends it back. Where it has gone back already, or cannot, the parent is told at once; else at the end of it.
    pub(in super::super) fn sent_back(&mut self, parent: &Parent) -> Result<(), Error> {
        self.write(&Entry::UndoAsked { parent: parent.clone() })?;
        let end = match &self.journal.ending {
            Some(Ending::Compensated(_)) => End::empty(),
            Some(Ending::Terminated(reason)) => {
                End::Badly(format!("{} was terminated: {reason}", self.stream))
            }
            _ if self.journal.unwinding.is_none() && self.journal.pivoted => {
                End::Badly(format!("{} is past its point of no return", self.stream))
            }
            _ => return Ok(()),
        };
        self.tell(Some(parent), &end)
    }

    /// The code ended with an error: back, or if that is not possible any more, to a person.
    pub(super) fn fail(&mut self, failure: &SagaError) -> Result<Next, Error> {
        let error = failure.error();
        if self.journal.pivoted {
            let reason = format!("failed after the point of no return: {}", error.message());
            return self.stop(error.code(), reason, failure.step());
        }
        self.go_back(error.code().to_string(), error.message().to_owned())
    }

    fn go_back(&mut self, code: String, reason: String) -> Result<Next, Error> {
        self.cancel_deadline();
        self.write(&Entry::Unwinding { code, reason })?;
        self.unwind()
    }

    /// The time limit of the whole instance is not needed any more.
    pub(super) fn cancel_deadline(&mut self) {
        if let Some(due) = self.journal.deadline {
            self.effects.put(self.timer(DEADLINE_TIMER.into(), due).cancel());
        }
    }

    /// It goes no further by itself; a person decides.
    pub(super) fn stop(&mut self, code: Code, reason: String, step: Option<&str>) -> Result<Next, Error> {
        let step = step.map(Into::into);
        self.write(&Entry::NeedsAttention { code: code.to_string(), reason, step, difference: None })?;
        Ok(Next::Wait)
    }

    /// The code does not fit the journal.
    pub(super) fn stop_at_difference(
        &mut self,
        (mismatch, difference): (Mismatch, Difference),
    ) -> Result<Next, Error> {
        let (code, Mismatch { reason, step, .. }) = (Code::SAGA_MISMATCH.to_string(), mismatch);
        self.write(&Entry::NeedsAttention { code, reason, step, difference: Some(difference) })?;
        Ok(Next::Wait)
    }

    /// Whether it is to go back although nothing failed. A deadline holds only up to the point of no return.
    pub(super) fn is_cancelled(&self) -> bool {
        let is_deadline = |code: &str| code == Code::SAGA_DEADLINE.to_string();
        self.journal.cancelled.as_ref().is_some_and(|(code, _)| !(self.journal.pivoted && is_deadline(code)))
    }

    /// Goes back, whatever it waits for. A local step that is under way is finished first: only its result says how it is
    /// undone. What other steps come to is undone when their answers arrive.
    pub(super) async fn cancel(&mut self, script: &Script) -> Result<Next, Failure> {
        if self.place != Place::OwnLane {
            // The request itself is delivered to the lane that may.
            return Ok(Next::Wait);
        }
        let mut pending = script.take_pending();
        let under_way = pending.iter().position(|pending| self.is_under_way(pending));
        if let Some(Pending { step, request: Request::Local(effect), terms, .. }) =
            under_way.map(|place| pending.swap_remove(place))
            && let Some(asked) = self.journal.step(&step).cloned()
        {
            self.run_local(&asked, effect, terms).await?;
            return Ok(Next::Replay);
        }
        let undone_anyway = pending.into_iter().filter_map(|pending| match pending.request {
            Request::Command(Order { if_unknown: IfUnknown::Undo(undo), .. }) => Some((pending.step, undo)),
            _ => None,
        });
        self.give_everything_up(undone_anyway.collect()).map_err(Failure::Rejected)
    }

    fn is_under_way(&mut self, pending: &Pending) -> bool {
        let known = self.journal.step(&pending.step).filter(|_| pending.is_known);
        known.is_some_and(|asked| asked.kind == Kind::Local && asked.again_at.is_none())
    }

    fn give_everything_up(
        &mut self,
        mut undone_anyway: HashMap<SmolStr, CommandBody>,
    ) -> Result<Next, Error> {
        let Some((code, reason)) = self.journal.cancelled.clone() else { return Ok(Next::Wait) };
        if self.journal.pivoted {
            let reason = format!("it was to be cancelled after the point of no return: {reason}");
            return self.stop(Code::SAGA_CANCELLED, reason, None);
        }
        let open = self.journal.asked.iter().filter(|asked| asked.outcome.is_none());
        for asked in open.cloned().collect::<Vec<_>>() {
            self.cancel_time_limit(&asked);
            self.stop_waiting(&asked);
            let undo = undone_anyway.remove(&asked.step).or_else(|| child::undo_of(asked.command.as_ref()?));
            let (step, attempt) = (asked.step, asked.attempt);
            let (code, reason) = (code.clone(), reason.clone());
            self.write(&Entry::StepFailed { step: step.clone(), attempt, code, reason, again_at: None })?;
            if let Some(undo) = undo {
                self.undo_anyway(&step, undo)?;
            }
        }
        self.go_back(code, reason)
    }
}
