//! One turn of an instance: replay its code, carry out what it asks for, and gather everything that changes into one
//! commit. Compensation needs no code: it works off the undo commands on record, last first.

use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use ensue_core::{
    Append, Code, Draft, Envelope, Error, Expected, Failure, Read, Recorded, StoreExt, StreamName, Timestamp,
};
use smol_str::SmolStr;

use super::SagaError;
use super::handler::SagaHandler;
use super::head::{SagaHead, SagaStatus};
use super::journal::{
    Asked, CommandBody, Ending, Entry, Journal, Kind, StepOutcome, UNDO_PREFIX, UndoState, raw, text,
    timer_name,
};
use super::script::{Effect, Pending, Request, Script, Terms};
use crate::context::Context;
use crate::effects::Effects;
use crate::message::{self, Origin};
use crate::reaction::attempt;
use crate::timer::{Timer, delayed};

mod compensate;

/// Pause before a step is tried again; doubles with each attempt, up to [`PAUSE_MAX`].
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
        stream: StreamName,
        journal: Journal,
        trigger: &'a Recorded,
    ) -> Self {
        let origin = Origin::of(&trigger.envelope, saga.subscription());
        Self { saga, stream, journal, trigger, origin, effects: Effects::default(), caused: 0 }
    }

    fn now(&self) -> Timestamp {
        self.saga.shared().press.host.clock.now()
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
        self.effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
    }

    /// Appends an event that the saga ends with, or sets the timer that will.
    fn emit(&mut self, mut draft: Draft) {
        let Some(later) = draft.later.take() else { return self.append(draft, |_| {}) };
        let shared = self.saga.shared_arc();
        let caused = shared.press.caused(draft, &self.origin, self.caused);
        self.caused += 1;
        delayed::set(&shared, &mut self.effects, &delayed::timer_of(&shared, later, caused));
    }

    /// Sends a command, to be answered into this instance's stream.
    fn send(&mut self, label: &str, command: &CommandBody) -> Result<(), Error> {
        let body = command.body.get().as_bytes().to_vec().into();
        let draft = message::command_draft(&command.command_type, &command.key, body)?;
        let reply_to = self.stream.to_string();
        let key = format!("{}/{}/{label}", self.saga.name(), self.stream.key);
        self.append(draft, |envelope| {
            message::set_extension(envelope, message::REPLY_TO, &reply_to);
            message::set_extension(envelope, message::STEP, label);
            message::set_extension(envelope, message::IDEMPOTENCY_KEY, &key);
        });
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
        while !self.is_over() {
            if self.replay(context).await? == Next::Wait {
                break;
            }
        }
        if self.journal.ending == Some(Ending::Completed) && self.journal.has_late_success() {
            let start = self.start_envelope().map_err(Failure::Rejected)?;
            // Only what it puts on record counts: it has ended as it did.
            drop(self.run_code(&start, context)?);
        }
        if self.journal.unwinding.is_none() && !self.needs_attention() {
            self.undo_late().map_err(Failure::Rejected)?;
        }
        if self.caused > 0 || !self.effects.records.is_empty() {
            let head = self.head();
            self.effects.put(head.write());
        }
        Ok(self.effects)
    }

    fn needs_attention(&self) -> bool {
        matches!(self.journal.ending, Some(Ending::NeedsAttention(..)))
    }

    fn is_over(&self) -> bool {
        self.needs_attention() || self.journal.ending == Some(Ending::Completed)
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
            // Unwinding needs no code, only what is on record: code that breaks down must not keep it up.
            Err(_) if self.journal.unwinding.is_some() => Poll::Pending,
            polled => polled?,
        };
        for entry in script.take_fresh() {
            self.write(&entry).map_err(Failure::Rejected)?;
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
            return self.stop(Code::SAGA_UNDO_FAILED, reason).map_err(Failure::Rejected);
        }
        if self.journal.unwinding.is_some() {
            return self.unwind().map_err(Failure::Rejected);
        }
        let left_out = polled.is_ready().then(|| script.leftover()).flatten();
        if let Some(difference) = script.mismatch().or(left_out) {
            return self.stop(Code::SAGA_MISMATCH, difference).map_err(Failure::Rejected);
        }
        match polled {
            Poll::Ready(Ok(drafts)) => {
                drafts.into_iter().for_each(|draft| self.emit(draft));
                self.write(&Entry::Completed).map_err(Failure::Rejected)?;
                Ok(Next::Wait)
            }
            Poll::Ready(Err(error)) => self.fail(error.error()).map_err(Failure::Rejected),
            Poll::Pending => match script.take_pending() {
                Some(pending) => self.carry_out(pending).await,
                None => {
                    let reason = "the code awaits something that is no operation of the saga".to_owned();
                    self.stop(Code::SAGA_MISMATCH, reason).map_err(Failure::Rejected)
                }
            },
        }
    }

    /// The code ended with an error: back, or if that is not possible any more, to a person.
    fn fail(&mut self, error: &Error) -> Result<Next, Error> {
        if self.journal.pivoted {
            return self
                .stop(error.code(), format!("failed after the point of no return: {}", error.message()));
        }
        let (code, reason) = (error.code().to_string(), error.message().to_owned());
        self.write(&Entry::Unwinding { code, reason })?;
        self.unwind()
    }

    fn stop(&mut self, code: Code, reason: String) -> Result<Next, Error> {
        self.write(&Entry::NeedsAttention { code: code.to_string(), reason })?;
        Ok(Next::Wait)
    }

    async fn carry_out(&mut self, pending: Pending) -> Result<Next, Failure> {
        let Pending { step, request, terms, is_known } = pending;
        if !is_known {
            return self.begin(&step, request, terms).map_err(Failure::Rejected);
        }
        let Some(asked) = self.journal.step(&step).cloned() else {
            return self.begin(&step, request, terms).map_err(Failure::Rejected);
        };
        let is_fired = self.journal.fired.contains(&timer_name(&asked));
        match request {
            Request::Command(command) => {
                self.go_on(&asked, &command, terms, is_fired).map_err(Failure::Rejected)
            }
            Request::Local(effect) => self.run_local(&asked, effect, terms, is_fired).await,
            Request::Wait { .. } if is_fired => self.expire(&asked).map_err(Failure::Rejected),
            Request::Wait { event_type, topic, key } => self.look(&asked, &event_type, &topic, &key).await,
            Request::Sleep(_) => Ok(Next::Wait),
        }
    }

    /// Puts an operation on record for the first time.
    fn begin(&mut self, step: &SmolStr, request: Request, terms: Terms) -> Result<Next, Error> {
        match request {
            Request::Command(command) => self.send_attempt(step, 1, command, terms)?,
            Request::Local(_) => self.write(&Entry::StepIntended { step: step.clone(), attempt: 1 })?,
            Request::Wait { event_type, topic, key } => {
                let due = terms.within.map(|within| self.now() + within);
                self.effects.put(self.saga.wait(&event_type, &key, self.stream.key.as_str()));
                self.effects.records.extend(self.saga.learn(&event_type)?);
                self.write(&Entry::WaitStarted { step: step.clone(), event_type, topic, key, due })?;
                self.time_limit(step, due);
            }
            Request::Sleep(duration) => {
                let due = self.now() + duration;
                self.write(&Entry::SleepStarted { step: step.clone(), due })?;
                self.time_limit(step, Some(due));
            }
        }
        Ok(Next::Wait)
    }

    fn time_limit(&mut self, step: &str, due: Option<Timestamp>) {
        if let (Some(due), Some(asked)) = (due, self.journal.step(step)) {
            let name = timer_name(asked);
            self.set_timer(name, due);
        }
    }

    fn send_attempt(
        &mut self,
        step: &SmolStr,
        attempt: u32,
        command: CommandBody,
        terms: Terms,
    ) -> Result<(), Error> {
        let due = terms.within.map(|within| self.now() + within);
        self.send(step, &command)?;
        self.write(&Entry::CommandSent { step: step.clone(), attempt, due, command })?;
        self.time_limit(step, due);
        Ok(())
    }

    /// A command that was sent and has no result yet.
    fn go_on(
        &mut self,
        asked: &Asked,
        command: &CommandBody,
        terms: Terms,
        is_fired: bool,
    ) -> Result<Next, Error> {
        if let Some(StepOutcome::Refused(refusal)) = &asked.outcome {
            // Only steps that are tried until done get here with a refusal.
            return self.try_later(asked, Code::COMMAND_FAILED.to_string(), text(refusal));
        }
        if !is_fired {
            return Ok(Next::Wait);
        }
        if asked.again_at.is_some() || terms.until_done || asked.attempt <= terms.retries {
            // What goes out again is what is on record, so that a changed program cannot change a command half-way.
            let command = asked.command.clone().unwrap_or_else(|| command.clone());
            self.send_attempt(&asked.step, asked.attempt + 1, command, terms)?;
            return Ok(Next::Wait);
        }
        self.expire(asked)
    }

    /// The time of a step is over.
    fn expire(&mut self, asked: &Asked) -> Result<Next, Error> {
        let reason = format!("step `{}` ({}) had no answer in time", asked.step, asked.kind);
        self.stop_waiting(asked);
        self.write(&Entry::StepFailed {
            step: asked.step.clone(),
            attempt: asked.attempt,
            code: Code::SAGA_DEADLINE.to_string(),
            reason,
            again_at: None,
        })?;
        Ok(Next::Replay)
    }

    fn try_later(&mut self, asked: &Asked, code: String, reason: String) -> Result<Next, Error> {
        let growth = 2u32.saturating_pow(asked.attempt.saturating_sub(1));
        let again_at = self.now() + PAUSE.saturating_mul(growth).min(PAUSE_MAX);
        let (step, attempt) = (asked.step.clone(), asked.attempt);
        self.write(&Entry::StepFailed { step, attempt, code, reason, again_at: Some(again_at) })?;
        self.time_limit(&asked.step, Some(again_at));
        Ok(Next::Wait)
    }

    /// Makes a local effect. Its intent is on record, so a crash in it is followed by a call with the same key.
    async fn run_local(
        &mut self,
        asked: &Asked,
        effect: Effect,
        terms: Terms,
        is_fired: bool,
    ) -> Result<Next, Failure> {
        let mut asked = asked.clone();
        if asked.again_at.is_some() {
            if !is_fired {
                return Ok(Next::Wait);
            }
            asked.attempt += 1;
            let (step, attempt) = (asked.step.clone(), asked.attempt);
            self.write(&Entry::StepIntended { step, attempt }).map_err(Failure::Rejected)?;
        }
        let key = format!("{}/{}/{}", self.saga.name(), self.stream.key, asked.step);
        let work = Box::pin(async move { effect(key).await.map_err(Failure::Failed) });
        match attempt(&self.saga.shared().press.host, self.saga.timeout(), work).await {
            Ok(result) => {
                raw(&result).map_err(Failure::Rejected)?;
                if let Some(step) = self.journal.step(&asked.step) {
                    step.outcome = Some(StepOutcome::Done(result));
                }
                Ok(Next::Replay)
            }
            Err(Failure::Failed(error) | Failure::Rejected(error)) => {
                let (code, reason) = (error.code().to_string(), error.message().to_owned());
                if terms.until_done || asked.attempt <= terms.retries {
                    return self.try_later(&asked, code, reason).map_err(Failure::Rejected);
                }
                let (step, attempt) = (asked.step.clone(), asked.attempt);
                let entry = Entry::StepFailed { step, attempt, code, reason, again_at: None };
                self.write(&entry).map_err(Failure::Rejected)?;
                Ok(Next::Replay)
            }
            Err(later) => Err(later),
        }
    }

    /// Takes the first event that no wait has taken yet, of those since the start. Looked at when the wait is on record,
    /// because the event may have come before, and whenever one is noticed.
    async fn look(
        &mut self,
        asked: &Asked,
        event_type: &str,
        topic: &str,
        key: &str,
    ) -> Result<Next, Failure> {
        let may_be_there = ["saga.WaitStarted", "saga.EventNoticed", "saga.Resumed"];
        let is_moment = may_be_there.contains(&self.trigger.envelope.event_type.as_str());
        let Some(start) = self.journal.start.as_ref().filter(|_| is_moment) else { return Ok(Next::Wait) };
        let stream = StreamName::new(topic, key).map_err(Failure::Rejected)?;
        let read = Read::stream(stream).after(start.position);
        let events = self.saga.shared().store.collect(read).await.map_err(Failure::Failed)?;
        let found = events.iter().find(|recorded| {
            recorded.envelope.event_type.as_str() == event_type
                && !self.journal.used.contains(&recorded.envelope.id)
        });
        let Some(found) = found else { return Ok(Next::Wait) };
        let (step, event_id) = (asked.step.clone(), found.envelope.id.clone());
        let schema_version = found.envelope.schema_version;
        let body = raw(&found.envelope.data).map_err(Failure::Rejected)?;
        self.write(&Entry::EventReceived { step, event_id, schema_version, body })
            .map_err(Failure::Rejected)?;
        self.cancel_time_limit(asked);
        self.stop_waiting(asked);
        Ok(Next::Replay)
    }

    /// The event that started the instance, as its code sees it.
    fn start_envelope(&self) -> Result<Envelope, Error> {
        let Some(start) = &self.journal.start else {
            let gap = format!("the journal {} does not begin with its start", self.stream);
            return Err(Error::new(Code::CORRUPT, gap));
        };
        let mut envelope = self.trigger.envelope.clone();
        envelope.id = start.event_id.clone();
        envelope.event_type = start.event_type.clone();
        envelope.schema_version = start.schema_version;
        envelope.data = start.body.clone();
        envelope.content_type = Draft::content_type();
        Ok(envelope)
    }

    fn head(&self) -> SagaHead {
        let current = self.journal.asked.iter().rev().find(|asked| asked.outcome.is_none());
        let undo = self.journal.undoable.iter().rev().find(|undoable| undoable.state != UndoState::Done);
        let (status, code, reason) = match (&self.journal.ending, &self.journal.unwinding) {
            (Some(Ending::NeedsAttention(code, reason)), _) => {
                (SagaStatus::NeedsAttention, Some(code.clone()), Some(reason.clone()))
            }
            (Some(Ending::Completed), _) => (SagaStatus::Completed, None, None),
            (_, Some((code, reason))) => {
                let is_over = matches!(self.journal.ending, Some(Ending::Compensated(_))) && undo.is_none();
                let status = if is_over { SagaStatus::Compensated } else { SagaStatus::Compensating };
                (status, Some(code.clone()), Some(reason.clone()))
            }
            _ if current.is_some_and(|asked| asked.kind == Kind::Local) => (SagaStatus::Running, None, None),
            _ => (SagaStatus::Waiting, None, None),
        };
        let step = match status {
            SagaStatus::Compensating => undo.map(|undoable| format!("{UNDO_PREFIX}{}", undoable.step).into()),
            SagaStatus::Waiting | SagaStatus::Running => current.map(|asked| asked.step.clone()),
            _ => None,
        };
        SagaHead {
            saga: self.saga.name().into(),
            key: self.stream.key.as_str().into(),
            waits_for: step.as_ref().and(current.filter(|_| status == SagaStatus::Waiting)).map(waits_for),
            until: current.filter(|_| !status.is_over()).and_then(|asked| asked.again_at.or(asked.due)),
            status,
            step,
            code,
            reason,
            undoable: self.journal.undoable.iter().map(|undoable| undoable.step.clone()).collect(),
            undone: self.journal.undone(),
            flow: self.origin.flow.clone(),
            since: self.now(),
        }
    }
}

fn waits_for(asked: &Asked) -> String {
    match &asked.kind {
        Kind::Command(command) => format!("the answer to {command}"),
        Kind::Wait { event_type, key, .. } => format!("{event_type} of {key}"),
        Kind::Sleep => "time to pass".to_owned(),
        Kind::Local => "its own step".to_owned(),
    }
}
