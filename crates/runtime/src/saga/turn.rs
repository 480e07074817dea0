//! One turn of an instance: replay its code, carry out what it asks for, and gather everything that changes into one
//! commit. Compensation needs no code: it works off the undo commands on record, last first.

use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use ensue_core::{
    Append, Code, Draft, Envelope, Error, Expected, Failure, Recorded, StreamName, Timestamp, Version,
};
use smol_str::SmolStr;

use super::SagaError;
use super::handler::SagaHandler;
use super::head::SagaHead;
use super::journal::{Asked, DEADLINE_TIMER, Ending, Entry, Journal, Kind, Sent, timer_name};
use super::script::Script;
use crate::context::Context;
use crate::effects::Effects;
use crate::message::Origin;
use crate::timer::{Timer, delayed};

mod compensate;
mod give_up;
mod operation;

/// Pause before a step or an undo is tried again; doubles with each attempt, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// One turn in the making.
pub(super) struct Turn<'a> {
    saga: &'a SagaHandler,
    stream: StreamName,
    journal: Journal,
    trigger: &'a Recorded,
    origin: Origin,
    effects: Effects,
    /// How many events this turn has caused; makes their ids.
    caused: usize,
    /// Where the stream ended when the journal was read. A turn is taken only if it still ends there: whatever was
    /// written meanwhile, by another turn, an operator or a timer, is seen by the turn that is then worked out anew.
    read_up_to: Version,
    /// Whether this turn may make local effects. Only the saga's own lane may: there an effect is under way once.
    place: Place,
}

/// Where a turn is worked out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the lane of the instance.
    OwnLane,
    /// In the lane of a command's handler, in the commit that answers the command.
    WithAnAnswer,
}

/// An instance as it was read: its journal, and the version of the stream that the journal covers.
pub(super) struct Instance {
    pub(super) stream: StreamName,
    pub(super) journal: Journal,
    pub(super) version: Version,
}

/// How far the code came: to an end, or to an operation that it waits for.
type Polled = Poll<Result<Vec<Draft>, SagaError>>;

/// Whether the code can be replayed further at once.
#[derive(PartialEq, Eq)]
enum Next {
    Replay,
    Wait,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        saga: &'a SagaHandler,
        instance: Instance,
        trigger: &'a Recorded,
        place: Place,
    ) -> Self {
        let Instance { stream, journal, version: read_up_to } = instance;
        let mut origin = Origin::of(&trigger.envelope, saga.subscription());
        if origin.trace.is_none() {
            origin.trace.clone_from(&journal.trace);
        }
        let effects = Effects::default();
        Self { saga, stream, journal, trigger, origin, effects, caused: 0, read_up_to, place }
    }

    /// Takes the answer to a command in, in the commit that this turn becomes.
    pub(super) fn take_answer(&mut self, answer: &Entry) {
        self.push(self.trigger.envelope.clone());
        self.journal.apply(answer);
    }

    fn now(&self) -> Timestamp {
        self.saga.shared().press.host.clock.now()
    }

    /// When something is tried again that has failed so many times.
    fn again_after(&self, attempt: u32) -> Timestamp {
        let growth = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.now() + PAUSE.saturating_mul(growth).min(PAUSE_MAX)
    }

    /// Whether the time limit of an attempt, or the pause after it, is over.
    fn is_fired(&self, asked: &Asked) -> bool {
        self.journal.fired.contains(&timer_name(asked))
    }

    /// Adds an entry to the journal.
    pub(super) fn write(&mut self, entry: &Entry) -> Result<(), Error> {
        let draft = entry.draft(self.stream.clone())?;
        self.append(draft, |_| {});
        self.journal.apply(entry);
        Ok(())
    }

    fn append(&mut self, draft: Draft, finish: impl FnOnce(&mut Envelope)) {
        let (stream, mut envelope) = self.saga.shared().press.caused(draft, &self.origin, self.caused);
        self.caused += 1;
        finish(&mut envelope);
        if stream == self.stream {
            self.push(envelope);
        } else {
            self.effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
        }
    }

    /// Appends an event that the saga ends with, or sets the timer that will.
    fn emit(&mut self, mut draft: Draft) {
        let Some(later) = draft.later.take() else { return self.append(draft, |_| {}) };
        let shared = self.saga.shared_arc();
        let caused = shared.press.caused(draft, &self.origin, self.caused);
        self.caused += 1;
        delayed::set(&shared, &mut self.effects, &delayed::timer_of(&shared, later, caused));
    }

    /// Adds an event to the instance's own stream. They are one append, which only goes where the journal ended.
    fn push(&mut self, envelope: Envelope) {
        match self.effects.appends.iter_mut().find(|append| append.stream == self.stream) {
            Some(own) => own.events.push(envelope),
            None => {
                let expected = Expected::Exact(self.read_up_to);
                let own = Append { stream: self.stream.clone(), expected, events: vec![envelope] };
                self.effects.appends.push(own);
            }
        }
    }

    fn has_written(&self) -> bool {
        self.effects.appends.iter().any(|append| append.stream == self.stream)
    }

    /// Sends a command, to be answered into this instance's stream. The command is its own journal entry.
    fn send(&mut self, sent: &Sent) -> Result<(), Error> {
        let (saga, stream) = (self.saga.name(), self.stream.clone());
        self.append(sent.draft(stream.clone())?, |envelope| sent.address(envelope, saga, &stream));
        self.journal.sent(sent);
        Ok(())
    }

    fn timer(&self, name: SmolStr, due: Timestamp) -> Timer {
        let begun = self.journal.start.as_ref().map(|start| &start.event_id);
        Timer::waking(&self.stream, begun, &self.origin, name, due)
    }

    fn set_timer(&mut self, name: SmolStr, due: Timestamp) {
        self.effects.put(self.timer(name, due).set());
        let shared = self.saga.shared_arc();
        self.effects.after.push(Box::new(move || shared.timers.notify_one()));
    }

    /// Answers came: the time limits of their steps are not needed any more.
    fn tidy_answered(&mut self) {
        for step in std::mem::take(&mut self.journal.answered) {
            if let Some(asked) = self.journal.step(&step).cloned() {
                self.cancel_time_limit(&asked);
            }
        }
    }

    fn cancel_time_limit(&mut self, asked: &Asked) {
        if let Some(due) = asked.again_at.or(asked.due) {
            self.effects.put(self.timer(timer_name(asked), due).cancel());
        }
    }

    /// The instance is no longer told of events for this wait, if it is one.
    fn stop_waiting(&mut self, asked: &Asked) {
        if let Kind::Wait { event_type, key, .. } = &asked.kind {
            self.effects.put(self.saga.stop_waiting(event_type, key, self.stream.key.as_str()));
        }
    }

    /// Plays the turn and says what it changes.
    pub(super) async fn play(mut self, context: &Context) -> Result<Effects, Failure> {
        self.tidy_answered();
        while !self.is_over() && self.journal.paused.is_none() {
            if self.replay(context).await? == Next::Wait {
                break;
            }
        }
        if self.journal.ending == Some(Ending::Completed) && self.journal.has_late_success() {
            let start = self.start_envelope().map_err(Failure::Rejected)?;
            // Only what it puts on record counts: it has ended as it did.
            drop(self.run_code(&start, context)?);
        }
        let goes_on = self.journal.paused.is_none() && !self.has_stopped();
        if self.journal.unwinding.is_none() && goes_on {
            self.undo_late().map_err(Failure::Rejected)?;
        }
        // Nothing moves a terminated instance any more, so its head cannot be older than another one.
        if self.has_written() || matches!(self.journal.ending, Some(Ending::Terminated(_))) {
            self.effects.put(self.head().write());
        }
        Ok(self.effects)
    }

    fn head(&self) -> SagaHead {
        let flow = self.journal.flow.clone().unwrap_or_else(|| self.origin.flow.clone());
        SagaHead::of(&self.journal, self.saga.name(), self.stream.key.as_str(), flow, self.now())
    }

    /// Whether it does nothing more, not even undo.
    fn has_stopped(&self) -> bool {
        matches!(self.journal.ending, Some(Ending::NeedsAttention(..) | Ending::Terminated(..)))
    }

    fn is_over(&self) -> bool {
        self.has_stopped() || self.journal.ending == Some(Ending::Completed)
    }

    async fn replay(&mut self, context: &Context) -> Result<Next, Failure> {
        let start = self.start_envelope().map_err(Failure::Rejected)?;
        let (script, polled) = self.run_code(&start, context)?;
        let result = self.react(&script, polled).await;
        result.map_err(|failure| match failure {
            Failure::Failed(error) if !error.is_retryable() => Failure::Rejected(error),
            other => other,
        })
    }

    /// Runs the code up to where it waits, and puts on record what that brings up.
    fn run_code(&mut self, start: &Envelope, context: &Context) -> Result<(Script, Polled), Failure> {
        let script = Script::new(self.journal.clone());
        let polled = match self.poll(&script, start, context) {
            // Going back needs no code, only what is on record: code that breaks down must not keep it up.
            Err(_) if self.journal.unwinding.is_some() || self.journal.cancelled.is_some() => Poll::Pending,
            polled => polled?,
        };
        for entry in script.take_fresh() {
            self.write(&entry).map_err(Failure::Rejected)?;
            if let Entry::DeadlineSet { due } = entry {
                self.set_timer(DEADLINE_TIMER.into(), due);
            }
        }
        Ok((script, polled))
    }

    /// Runs the code up to where it waits: one poll, since every operation is answered at once or not at all.
    fn poll(&self, script: &Script, start: &Envelope, context: &Context) -> Result<Polled, Failure> {
        let run = || {
            let mut code = (self.saga.run())(script.clone(), start, self.stream.key.as_str(), context)?;
            Ok(code.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())))
        };
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(Error::new(Code::HANDLER_PANICKED, format!("the saga {} panicked", self.saga.name())))
        });
        polled.map_err(Failure::Failed)
    }

    async fn react(&mut self, script: &Script, polled: Polled) -> Result<Next, Failure> {
        if self.journal.unwinding.is_some() && self.journal.pivoted {
            let reason = "the point of no return was passed after its step had been given up".to_owned();
            return self.stop(Code::SAGA_UNDO_FAILED, reason, None).map_err(Failure::Rejected);
        }
        if self.journal.unwinding.is_some() {
            return self.unwind().map_err(Failure::Rejected);
        }
        if self.is_cancelled() {
            return self.cancel(script).await;
        }
        if let Some(difference) = script.difference(polled.is_ready()) {
            return self.stop_at_difference(difference).map_err(Failure::Rejected);
        }
        match polled {
            Poll::Ready(Ok(drafts)) => {
                self.complete(drafts).map_err(Failure::Rejected)?;
                Ok(Next::Wait)
            }
            Poll::Ready(Err(error)) => self.fail(&error).map_err(Failure::Rejected),
            Poll::Pending => self.carry_out_all(script.take_pending()).await,
        }
    }

    /// The event that started the instance, as its code sees it.
    fn start_envelope(&self) -> Result<Envelope, Error> {
        let Some(start) = &self.journal.start else {
            let gap = format!("the journal {} does not begin with its start", self.stream);
            return Err(Error::new(Code::CORRUPT, gap));
        };
        Ok(start.envelope(&self.trigger.envelope))
    }
}
