//! Events and commands that callers set for later.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::later::check_name;
use ensue_core::{BoxFuture, Commit, CommitError, Draft, Due, Error, Event, EventId, Later, Timestamp};

use super::{TimerId, delayed};
use crate::door::{Admitted, Door, Fingerprint};
use crate::effects::Effects;
use crate::message::appends;
use crate::subscription::Shared;

/// An event on its way into the log; await it to append it, or say when.
#[must_use = "publishing does nothing until it is awaited"]
pub struct Publish {
    shared: Arc<Shared>,
    draft: Result<Draft, Error>,
}

impl Publish {
    pub(crate) fn new<E: Event>(shared: Arc<Shared>, event: &E) -> Self {
        let is_free = shared.inline.refuse(E::INFO.event_type);
        let draft = is_free.and_then(|()| crate::door::check_rules(event)).and_then(|()| Draft::of(event));
        Self { shared, draft }
    }

    /// Appends it so much later; until then it is a timer.
    pub fn after(self, delay: Duration) -> Delay {
        self.due(Due::After(delay))
    }

    /// Appends it at this time, or at once if that has passed; until then it is a timer.
    pub fn at(self, time: Timestamp) -> Delay {
        self.due(Due::At(time))
    }

    fn due(self, due: Due) -> Delay {
        Delay::new(self.shared, self.draft, due, None)
    }
}

impl IntoFuture for Publish {
    type Output = Result<Admitted, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let first = self.shared.press.first(self.draft?, None);
            let commit = Commit { appends: appends([first]), ..Commit::default() };
            let committed = self.shared.store.commit(commit).await?;
            Ok(Admitted { position: committed.position(), repeated: committed.repeated })
        })
    }
}

/// Something to be appended later; await it to set the timer.
#[must_use = "nothing is set until it is awaited"]
pub struct Delay {
    shared: Arc<Shared>,
    draft: Result<Draft, Error>,
    later: Later,
    /// The caller's id, under which it is set once.
    id: Option<EventId>,
}

/// What was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheduled {
    /// By which it is listed and cancelled.
    pub timer: TimerId,
    /// When it is due.
    pub due: Timestamp,
    /// The id that the event or command will have; it begins this flow.
    pub event: EventId,
}

impl Delay {
    pub(crate) fn new(
        shared: Arc<Shared>,
        draft: Result<Draft, Error>,
        due: Due,
        id: Option<EventId>,
    ) -> Self {
        Self { shared, draft, later: Later { due, name: None }, id }
    }

    /// Gives it a name in the stream it goes to. Set again under the same name, the earlier one is replaced. At most 200
    /// bytes, without control characters (`E0101`).
    pub fn named(mut self, name: &str) -> Self {
        self.later.name = Some(name.into());
        self
    }

    async fn set(self) -> Result<Scheduled, Error> {
        self.later.name.as_deref().map_or(Ok(()), check_name)?;
        let draft = self.draft?;
        let is_callers_id = self.id.is_some();
        let (stream, envelope) = self.shared.press.first(draft, self.id);
        let door = Door::new(Arc::clone(&self.shared.store), self.shared.press.host.clone());
        let fingerprint = Fingerprint::of_bytes(&envelope, &envelope.data);
        let (id, remembered) = (envelope.id.clone(), door.remember(&envelope, &fingerprint, None));
        let mut is_known = is_callers_id && door.earlier(&envelope, &fingerprint).await?.is_some();
        let timer = delayed::timer_of(&self.shared, self.later, (stream, envelope.clone()));
        let scheduled = Scheduled { timer: timer.id(), due: timer.due, event: id };
        while !is_known {
            let mut effects = Effects::default();
            delayed::set(&self.shared, &mut effects, &timer);
            effects.records.extend(is_callers_id.then(|| remembered.clone()));
            let commit = Commit { records: effects.records, ..Commit::default() };
            match self.shared.store.commit(commit).await {
                Ok(_) => {
                    effects.after.into_iter().for_each(|hook| hook());
                    break;
                }
                // Somebody set it under the same id at the same moment.
                Err(CommitError::RecordConflict { .. }) => {
                    is_known = door.earlier(&envelope, &fingerprint).await?.is_some();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(scheduled)
    }
}

impl IntoFuture for Delay {
    type Output = Result<Scheduled, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.set())
    }
}
