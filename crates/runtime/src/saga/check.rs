//! Replaying the recorded histories of instances against the code that is mounted, without effects: before a deployment,
//! so that no instance has to stop because its code has changed under it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use ensue_core::{Code, Envelope, Error, Host, Read, Recorded, Store, StoreExt};
use serde::Serialize;
use smol_str::SmolStr;

use super::Run;
use super::head::{self, Difference, SagaHead, SagaStatus};
use super::journal::{Journal, Start};
use super::script::Script;
use crate::context::{Context, States};
use crate::policy::Settings;

/// Which instances are replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Histories {
    /// Those that have not ended: they will run on with the new code.
    Live,
    /// Those that have ended, too.
    All,
}

/// What a replay of recorded histories came to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct SagaCheck {
    /// Instances that were replayed.
    pub checked: usize,
    /// Instances that do not fit.
    pub misfits: Vec<Misfit>,
    /// Sagas that are not mounted, with how many of their instances were left out.
    pub unknown: BTreeMap<SmolStr, usize>,
}

/// An instance whose journal the code does not fit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Misfit {
    /// The saga.
    pub saga: SmolStr,
    /// The instance.
    pub key: SmolStr,
    /// How it stands.
    pub status: SagaStatus,
    /// What does not fit.
    pub reason: String,
    /// The two sequences, where it is the sequence.
    pub difference: Option<Difference>,
}

impl SagaCheck {
    /// An error (`E0601`) that names the first instance that does not fit: for a test.
    pub fn ok(&self) -> Result<(), Error> {
        let Some(Misfit { saga, key, reason, difference, .. }) = self.misfits.first() else { return Ok(()) };
        let columns = difference.as_ref().map(|difference| format!("\n{difference}")).unwrap_or_default();
        let count = self.misfits.len();
        Err(Error::new(
            Code::SAGA_MISMATCH,
            format!("{count} instances do not fit; the first is {saga} {key}: {reason}{columns}"),
        ))
    }
}

/// What instances are replayed with.
pub(crate) struct Replayer {
    pub(crate) sagas: Vec<(SmolStr, Run)>,
    pub(crate) states: Arc<States>,
    pub(crate) host: Host,
}

impl Replayer {
    pub(crate) async fn check(&self, store: &dyn Store, histories: Histories) -> Result<SagaCheck, Error> {
        let mut check = SagaCheck::default();
        for head in head::list(store).await? {
            if head.status.is_over() && histories == Histories::Live {
                continue;
            }
            let Some((_, run)) = self.sagas.iter().find(|(name, _)| *name == head.saga) else {
                *check.unknown.entry(head.saga).or_default() += 1;
                continue;
            };
            let events = store.collect(Read::stream(head.stream()?)).await?;
            check.checked += 1;
            check.misfits.extend(self.misfit(run, head, &events));
        }
        Ok(check)
    }

    fn misfit(&self, run: &Run, head: SagaHead, events: &[Recorded]) -> Option<Misfit> {
        let (reason, difference) = match self.replay(run, &head, events) {
            Ok(found) => found?,
            Err(error) => (error.message().to_owned(), None),
        };
        let SagaHead { saga, key, status, .. } = head;
        Some(Misfit { saga, key, status, reason, difference })
    }

    /// Runs the code up to where the journal ends. Nothing that it asks for is done.
    fn replay(
        &self,
        run: &Run,
        head: &SagaHead,
        events: &[Recorded],
    ) -> Result<Option<(String, Option<Difference>)>, Error> {
        let mut journal = Journal::default();
        journal.extend(events)?;
        let (Some(first), Some(start)) = (events.first(), journal.start.clone()) else { return Ok(None) };
        if journal.unwinding.is_some() {
            // It goes back by its journal alone.
            return Ok(None);
        }
        let is_complete = head.status == SagaStatus::Completed;
        let script = Script::new(journal);
        let polled = self.poll(run, &script, &start, first, head)?;
        if let Some((mismatch, difference)) = script.difference(polled.is_ready()) {
            return Ok(Some((mismatch.reason, Some(difference))));
        }
        let reason = match polled {
            Poll::Pending if script.take_pending().is_empty() => {
                "the code awaits something that is no operation of the saga"
            }
            Poll::Pending if is_complete => "it has completed, but the code goes on",
            _ => return Ok(None),
        };
        Ok(Some((reason.to_owned(), None)))
    }

    fn poll(
        &self,
        run: &Run,
        script: &Script,
        start: &Start,
        first: &Recorded,
        head: &SagaHead,
    ) -> Result<Poll<()>, Error> {
        let context = Context {
            states: Arc::clone(&self.states),
            recorded: first.clone(),
            handler: format!("saga.{}", head.saga),
            attempt: 1,
            deadline: self.host.clock.now() + Settings::HANDLER.timeout,
            session: None,
            host: self.host.clone(),
        };
        let start = start.envelope(&first.envelope);
        let code = || -> Result<Poll<()>, Error> {
            let mut code = run(script.clone(), &start, &head.key, &context)?;
            Ok(code.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).map(drop))
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).unwrap_or_else(|_| {
            Err(Error::new(Code::HANDLER_PANICKED, format!("the saga {} panicked", head.saga)))
        })
    }
}

impl Start {
    /// The event that started the instance, as its code sees it; `like` gives what is not on record.
    pub(super) fn envelope(&self, like: &Envelope) -> Envelope {
        Envelope {
            id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            schema_version: self.schema_version,
            data: self.body.clone(),
            content_type: ensue_core::Draft::content_type(),
            ..like.clone()
        }
    }
}
