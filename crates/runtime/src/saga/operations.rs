//! What operators ask of saga instances: pause, resume, cancel, retry, resolve, terminate, restart.
//!
//! A request is an entry in the instance's stream, with its reason, and says nothing but what was decided. It is checked
//! against the journal it was read from and only taken if nothing was written since; a turn of the instance is taken by
//! the same rule. So a request and a turn never cross: one of them is worked out anew with the other in sight. It works
//! on any store, whether the application runs or not; what follows from it happens as soon as it runs.

use std::sync::Arc;

use ensue_core::{
    Append, Code, Commit, CommitError, Error, Expected, Host, RecordWrite, Source, Store, StreamName,
    Timestamp, Version,
};
use smol_str::SmolStr;

use super::handler::load;
use super::head::SagaHead;
use super::journal::{Asked, DEADLINE_TIMER, Entry, Journal, Kind, UndoState, timer_name};
use super::stream_of;
use super::turn::Instance;
use crate::effects::Effects;
use crate::message::Press;
use crate::spaces::{self, WAITING};
use crate::timer::Timer;

mod request;
mod restart;
pub use request::Request;

/// How often a request is checked anew because the instance moved on meanwhile.
const CONFLICTS_MAX: u32 = 20;

/// The operations on saga instances of one store.
pub struct Operations {
    store: Arc<dyn Store>,
    press: Press,
}

impl Operations {
    /// On a store, whether an application runs on it or not. `source` is who asks, such as the name of the program.
    pub fn new(store: Arc<dyn Store>, host: Host, source: Source) -> Self {
        Self { store, press: Press { host, source } }
    }

    pub(crate) fn of(store: Arc<dyn Store>, press: Press) -> Self {
        Self { store, press }
    }

    /// Puts a request on record, with the reason, and says how the instance stands then. What follows from it happens in
    /// the application, as soon as that runs.
    ///
    /// Errors: `E0414` if there is no such instance or step, `E0606` if the request does not fit where it stands, `E0701`
    /// without a reason. Cancellation leaves open whether it was put on record; asking again tells.
    pub async fn ask(
        &self,
        saga: &str,
        key: &str,
        request: &Request,
        reason: &str,
    ) -> Result<SagaHead, Error> {
        let mut conflicts = 0;
        loop {
            let planned = self.plan(saga, key, request, reason).await?;
            let commit = Commit {
                appends: planned.effects.appends,
                records: planned.effects.records,
                ..Commit::default()
            };
            match self.store.commit(commit).await {
                Ok(_) => return Ok(planned.head),
                Err(CommitError::Conflict { .. }) if conflicts < CONFLICTS_MAX => conflicts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How the instance would stand after a request; changes nothing. Refuses what [`Operations::ask`] would refuse.
    pub async fn would(
        &self,
        saga: &str,
        key: &str,
        request: &Request,
        reason: &str,
    ) -> Result<SagaHead, Error> {
        Ok(self.plan(saga, key, request, reason).await?.head)
    }

    async fn plan(&self, saga: &str, key: &str, request: &Request, reason: &str) -> Result<Planned, Error> {
        if reason.trim().is_empty() {
            return Err(Error::new(Code::USAGE, "a request needs a reason")
                .with_fix("say why, for whoever asks later: `--reason TEXT`"));
        }
        let instance = self.instance(saga, key).await?;
        request.check(&instance.journal, &format!("{saga} {key}"))?;
        let mut draft = Plan::new(self, saga, instance);
        match request {
            Request::Restart { at, key } => self.restart(draft, at, key, reason).await,
            Request::Terminate => {
                draft.write(&request.entry(reason)?)?;
                draft.let_go();
                draft.tell_parents(reason)?;
                Ok(draft.finish())
            }
            _ => {
                draft.write(&request.entry(reason)?)?;
                Ok(draft.finish())
            }
        }
    }

    async fn instance(&self, saga: &str, key: &str) -> Result<Instance, Error> {
        let instance = load(&*self.store, stream_of(saga, key)?).await?;
        if instance.journal.start.is_none() {
            return Err(Error::new(Code::NOT_FOUND, format!("saga {saga} has no instance {key}"))
                .with_fix("`ensue saga ls` lists the instances"));
        }
        Ok(instance)
    }
}

/// What a request comes to.
struct Planned {
    effects: Effects,
    head: SagaHead,
}

/// A request being worked out.
struct Plan<'a> {
    operations: &'a Operations,
    saga: SmolStr,
    stream: StreamName,
    journal: Journal,
    version: Version,
    effects: Effects,
}

impl<'a> Plan<'a> {
    fn new(operations: &'a Operations, saga: &str, instance: Instance) -> Self {
        let Instance { stream, journal, version } = instance;
        Self { operations, saga: saga.into(), stream, journal, version, effects: Effects::default() }
    }

    fn now(&self) -> Timestamp {
        self.operations.press.host.clock.now()
    }

    fn write(&mut self, entry: &Entry) -> Result<(), Error> {
        let (stream, mut envelope) = self.operations.press.first(entry.draft(self.stream.clone())?, None);
        envelope.correlation.clone_from(&self.journal.flow);
        self.journal.apply(entry);
        match self.effects.appends.last_mut().filter(|append| append.stream == stream) {
            Some(append) => append.events.push(envelope),
            None => {
                let expected = Expected::Exact(self.version);
                self.effects.appends.push(Append { stream, expected, events: vec![envelope] });
            }
        }
        Ok(())
    }

    /// The instance is over: no timer and no event is to wake it any more.
    fn let_go(&mut self) {
        let open: Vec<Asked> =
            self.journal.asked.iter().filter(|asked| asked.outcome.is_none()).cloned().collect();
        for asked in open {
            if let Some(due) = asked.again_at.or(asked.due) {
                self.cancel_timer(&timer_name(&asked), due);
            }
            if let Kind::Wait { event_type, key, .. } = &asked.kind {
                let key = spaces::join(&[&self.saga, event_type, key, self.stream.key.as_str()]);
                self.effects.put(RecordWrite::delete(WAITING.clone(), key));
            }
        }
        for undoable in self.journal.undoable.clone() {
            if let UndoState::FailedUntil(due) = undoable.state {
                self.cancel_timer(&super::journal::undo_timer_name(&undoable.step, undoable.attempt), due);
            }
        }
        if let Some(due) = self.journal.deadline {
            self.cancel_timer(DEADLINE_TIMER, due);
        }
    }

    /// Whoever waits for it is told that it is over.
    fn tell_parents(&mut self, reason: &str) -> Result<(), Error> {
        let reason = format!("{} was terminated: {reason}", self.stream);
        for told in super::child::tell_of_bad_end(&self.journal, &reason)? {
            let (stream, mut envelope) = self.operations.press.first(told, None);
            envelope.correlation.clone_from(&self.journal.flow);
            self.effects.appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
        }
        Ok(())
    }

    fn cancel_timer(&mut self, name: &str, due: Timestamp) {
        self.effects.put(Timer::cancel_waking(&self.stream, name, due));
    }

    fn head(&self) -> SagaHead {
        let flow = self.journal.flow.clone().unwrap_or_else(|| self.operations.press.host.event_id());
        SagaHead::of(&self.journal, &self.saga, self.stream.key.as_str(), flow, self.now())
    }

    fn finish(mut self) -> Planned {
        let head = self.head();
        self.effects.put(head.write());
        Planned { effects: self.effects, head }
    }
}
