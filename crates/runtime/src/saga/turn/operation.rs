//! Carrying out what the code asks for: commands, local effects, waits and sleeps, each put on record before it is done.

use bytes::Bytes;
use ensue_core::{BoxFuture, Code, Envelope, Error, Failure, Read, StreamName, Timestamp};
use futures_util::TryStreamExt;
use smol_str::SmolStr;

use super::super::journal::{
    Asked, CommandBody, Entry, LOOKING, Sent, StepOutcome, raw, reason_of, timer_name,
};
use super::super::script::{Effect, IfUnknown, Order, Pending, Request, Terms};
use super::{Next, Place, Turn};
use crate::reaction::attempt;

impl Turn<'_> {
    /// Carries out what the code waits for: several operations where it has asked for them together.
    pub(super) async fn carry_out_all(&mut self, pending: Vec<Pending>) -> Result<Next, Failure> {
        if pending.is_empty() {
            let reason = "the code awaits something that is no operation of the saga".to_owned();
            return self.stop(Code::SAGA_MISMATCH, reason, None).map_err(Failure::Rejected);
        }
        let mut next = Next::Wait;
        for one in pending {
            if self.carry_out(one).await? == Next::Replay {
                next = Next::Replay;
            }
        }
        Ok(next)
    }

    async fn carry_out(&mut self, pending: Pending) -> Result<Next, Failure> {
        let Pending { step, request, terms, is_known } = pending;
        let known = self.journal.step(&step).filter(|_| is_known).cloned();
        let Some(asked) = known else {
            return self.begin(&step, 1, request, terms).map_err(Failure::Rejected);
        };
        if asked.is_reopened {
            return self.begin_again(&asked, request, terms).map_err(Failure::Rejected);
        }
        match request {
            Request::Command(order) => self.go_on(&asked, order, terms).map_err(Failure::Rejected),
            // Its intent, or the end of its pause, is delivered to the lane that may run it.
            Request::Local(_) if self.place != Place::OwnLane => Ok(Next::Wait),
            Request::Local(effect) => self.run_local(&asked, effect, terms).await,
            Request::Wait { .. } if self.is_fired(&asked) => self.expire(&asked).map_err(Failure::Rejected),
            Request::Wait { event_type, topic, key } => self.look(&asked, &event_type, &topic, &key).await,
            Request::Sleep(_) => Ok(Next::Wait),
        }
    }

    /// An operator wants it tried again, now.
    fn begin_again(&mut self, asked: &Asked, request: Request, terms: Terms) -> Result<Next, Error> {
        self.cancel_time_limit(asked);
        // What goes out again is what is on record, so that a changed program cannot change a command half-way.
        let request = match (request, &asked.command) {
            (Request::Command(order), Some(command)) => {
                Request::Command(Order { command: command.clone(), ..order })
            }
            (request, _) => request,
        };
        self.begin(&asked.step, asked.attempt + 1, request, terms)
    }

    /// Puts an attempt at an operation on record.
    fn begin(&mut self, step: &SmolStr, attempt: u32, request: Request, terms: Terms) -> Result<Next, Error> {
        match request {
            Request::Command(order) => self.send_attempt(step, attempt, order.command, terms)?,
            Request::Local(_) => self.write(&Entry::StepIntended { step: step.clone(), attempt })?,
            Request::Wait { event_type, topic, key } => {
                let due = terms.within.map(|within| self.now() + within);
                self.effects.put(self.saga.wait(&event_type, &key, self.stream.key.as_str()));
                self.effects.records.extend(self.saga.learn(&event_type)?);
                let step = step.clone();
                self.write(&Entry::WaitStarted { step: step.clone(), attempt, event_type, topic, key, due })?;
                self.time_limit(&step, due);
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
        self.send(&Sent { label: step.clone(), attempt, due, command })?;
        self.time_limit(step, due);
        Ok(())
    }

    /// A command that was sent and has no result yet.
    fn go_on(&mut self, asked: &Asked, order: Order, terms: Terms) -> Result<Next, Error> {
        if let Some(StepOutcome::Refused(refusal)) = &asked.outcome {
            // Only steps that are tried until done get here with a refusal.
            return self.try_later(asked, Code::COMMAND_FAILED.to_string(), reason_of(refusal));
        }
        if !self.is_fired(asked) {
            return Ok(Next::Wait);
        }
        if asked.again_at.is_some() || terms.until_done || asked.attempt <= terms.retries {
            // What goes out again is what is on record, so that a changed program cannot change a command half-way.
            let command = asked.command.clone().unwrap_or(order.command);
            self.send_attempt(&asked.step, asked.attempt + 1, command, terms)?;
            return Ok(Next::Wait);
        }
        match order.if_unknown {
            IfUnknown::UndoLate => self.expire(asked),
            IfUnknown::Ask => {
                let reason =
                    format!("step `{}` ({}) had no answer in time: it may be done", asked.step, asked.kind);
                self.stop(Code::SAGA_UNKNOWN, reason, Some(&asked.step))
            }
            IfUnknown::Undo(undo) => {
                self.expire(asked)?;
                self.undo_anyway(&asked.step, undo)?;
                Ok(Next::Replay)
            }
        }
    }

    /// A step that may be done is undone as if it were.
    pub(super) fn undo_anyway(&mut self, step: &SmolStr, undo: CommandBody) -> Result<(), Error> {
        self.write(&Entry::StepDone { step: step.clone(), result: None, undo: Some(undo), pivot: false })
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
        let again_at = self.again_after(asked.attempt);
        let (step, attempt) = (asked.step.clone(), asked.attempt);
        self.write(&Entry::StepFailed { step, attempt, code, reason, again_at: Some(again_at) })?;
        self.time_limit(&asked.step, Some(again_at));
        Ok(Next::Wait)
    }

    /// Makes a local effect. Its intent is on record, so a crash in it is followed by a call with the same key.
    pub(super) async fn run_local(
        &mut self,
        asked: &Asked,
        effect: Effect,
        terms: Terms,
    ) -> Result<Next, Failure> {
        let mut asked = asked.clone();
        if asked.again_at.is_some() {
            if !self.is_fired(&asked) {
                return Ok(Next::Wait);
            }
            asked.attempt += 1;
            let (step, attempt) = (asked.step.clone(), asked.attempt);
            self.write(&Entry::StepIntended { step, attempt }).map_err(Failure::Rejected)?;
        }
        let Some(work) = self.local_work(&asked.step, effect) else { return Ok(Next::Wait) };
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

    /// The effect on its way. In a fork it is not made: its result comes from the record, or there is none.
    fn local_work(
        &self,
        step: &SmolStr,
        effect: Effect,
    ) -> Option<BoxFuture<'static, Result<Bytes, Failure>>> {
        let saga = self.saga.subscription();
        if let Some(record) = self.saga.shared().replay.as_ref().filter(|record| !record.runs(saga)) {
            let result = record.local_result(&self.stream, step);
            if result.is_none() {
                record.suppress(&format!("{saga}, step {step}"), self.trigger);
            }
            return Some(Box::pin(std::future::ready(Ok(result?))));
        }
        let key = format!("{}/{}/{step}", self.saga.name(), self.stream.key);
        Some(Box::pin(async move { effect(key).await.map_err(Failure::Failed) }))
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
        let is_moment = LOOKING.contains(&self.trigger.envelope.event_type.as_str());
        let Some(start) = self.journal.start.as_ref().filter(|_| is_moment) else { return Ok(Next::Wait) };
        let stream = StreamName::new(topic, key).map_err(Failure::Rejected)?;
        let read = Read::stream(stream).after(start.position);
        let mut events = self.saga.shared().store.read(read);
        let found = loop {
            let Some(recorded) = events.try_next().await.map_err(Failure::Failed)? else {
                return Ok(Next::Wait);
            };
            let Envelope { event_type: seen, id, .. } = &recorded.envelope;
            if seen.as_str() == event_type && !self.journal.used.contains(id) {
                break recorded;
            }
        };
        drop(events);
        let (step, event_id) = (asked.step.clone(), found.envelope.id.clone());
        let schema_version = found.envelope.schema_version;
        let body = raw(&found.envelope.data).map_err(Failure::Rejected)?;
        self.write(&Entry::EventReceived { step, event_id, schema_version, body })
            .map_err(Failure::Rejected)?;
        self.cancel_time_limit(asked);
        self.stop_waiting(asked);
        Ok(Next::Replay)
    }
}
