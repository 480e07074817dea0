//! A projection into tables as the lanes run it: a page of events in, rows out, in the transaction that says so.

use std::sync::Arc;

use ensue_core::{
    BoxFuture, Code, Commit, Error, EventInfo, EventSet, EventType, Failure, RecordWrite, Recorded, Store,
    Transaction,
};

use super::TableProjection;
use super::guard::{self, Guard};
use super::keeper::{Keeper, Taken, is_overtaken};
use crate::effects::Effects;
use crate::lane::STORE_PAUSE;
use crate::subscription::{Handled, Handler};
use crate::tally::Tally;

pub(crate) struct TableHandler<P>(pub(crate) Arc<Keeper<P>>);

impl<P: TableProjection> TableHandler<P> {
    pub(crate) fn types() -> Vec<EventInfo> {
        P::Event::types()
    }

    async fn work_through(&self, events: &[Recorded]) -> Result<Handled, Failure> {
        self.check_live().await?;
        if self.0.is_elsewhere {
            return self.take_elsewhere(events).await;
        }
        let (count, transaction) = self.take(events).await?;
        let effects = Effects { transaction: Some(transaction), ..Effects::default() };
        Ok(Handled { effects, count, ..Handled::default() })
    }

    /// Whether the live tables are there and of this code. Asked with each page: whoever has switched to others has moved what
    /// this page expects, so that nothing is taken into tables that are not live any more.
    async fn check_live(&self) -> Result<(), Failure> {
        if let Some(error) = self.0.fit.refused() {
            return Err(Failure::Rejected(error));
        }
        let live = self.0.live().await.map_err(away)?;
        if live.revision > ensue_core::Revision::ZERO && live.generation.version == P::VERSION {
            return Ok(());
        }
        let message = format!(
            "the tables of {} are those of version {}, this code is version {}, or there are none yet",
            P::NAME,
            live.generation.version,
            P::VERSION
        );
        Err(Failure::Rejected(Error::new(Code::VIEW_NOT_BUILT, message)))
    }

    async fn take(&self, events: &[Recorded]) -> Result<(usize, Box<dyn Transaction>), Failure> {
        match self.0.take(&self.0.live_names, events).await {
            Taken::Some(count, transaction) => Ok((count, transaction)),
            Taken::None(failure) => Err(failure),
        }
    }

    /// Takes what is not in the tables yet, and advances the guard with it.
    async fn take_elsewhere(&self, events: &[Recorded]) -> Result<Handled, Failure> {
        let guard = self.guard().await?;
        let known = events.iter().take_while(|event| event.position <= guard.position).count();
        if let [recorded] = events
            && known == 1
        {
            return self.take_late(guard, recorded).await;
        }
        if known > 0 {
            return Ok(Handled { count: known, ..Handled::default() });
        }
        let (count, transaction) = self.take(events).await?;
        let Some(last) = events.get(count.saturating_sub(1)) else { return Ok(Handled::default()) };
        self.commit(transaction, guard.after(last), None).await?;
        Ok(Handled { count, ..Handled::default() })
    }

    /// An event that the tables have passed: delivered twice, or parked then and worked off now.
    async fn take_late(&self, guard: Guard, recorded: &Recorded) -> Result<Handled, Failure> {
        let done = Handled { count: 1, ..Handled::default() };
        if recorded.position <= guard.built {
            return Ok(done);
        }
        let stores: (&dyn Store, &dyn Store) = (&*self.0.log, &*self.0.target);
        let mark = guard::redriven(stores, P::NAME, recorded, self.key(recorded)).await.map_err(away)?;
        let Some(mark) = mark else { return Ok(done) };
        let (_, transaction) = self.take(std::slice::from_ref(recorded)).await?;
        self.commit(transaction, guard, Some(mark)).await?;
        Ok(done)
    }

    async fn guard(&self) -> Result<Guard, Failure> {
        let guard = Guard::load(&*self.0.target, P::NAME).await.map_err(away)?;
        if !self.0.fit.is_known(guard.revision) {
            guard.check(&*self.0.log, P::NAME).await.map_err(away)?;
            self.0.fit.know(guard.revision);
        }
        Ok(guard)
    }

    /// Where the outcome stays open, the guard tells it the next time.
    async fn commit(
        &self,
        transaction: Box<dyn Transaction>,
        guard: Guard,
        mark: Option<RecordWrite>,
    ) -> Result<(), Failure> {
        let mut records = vec![guard.write(P::NAME)];
        records.extend(mark);
        match transaction.commit(Commit { records, ..Commit::default() }).await {
            Ok(committed) => {
                self.0.fit.know(committed.revision);
                Ok(())
            }
            Err(error) if is_overtaken(&error) => Err(Failure::Later(STORE_PAUSE)),
            Err(error) => Err(away(error.into())),
        }
    }
}

/// That a database is away is no failure of an event.
fn away(error: Error) -> Failure {
    if error.is_retryable() { Failure::Later(STORE_PAUSE) } else { Failure::Rejected(error) }
}

impl<P: TableProjection> Handler for TableHandler<P> {
    fn types(&self) -> Vec<EventType> {
        P::Event::types().iter().filter_map(|info| EventType::new(info.event_type).ok()).collect()
    }

    fn tally(&self, events: &[Recorded]) -> Option<Tally> {
        Some(Tally::of(events))
    }

    /// A session of another type is found out before there is anything to do.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            match self.0.begin().await {
                // It is awaited by the lanes, like any other outage.
                Err(error) if error.is_retryable() => Ok(()),
                begun => begun.map(|_| ()),
            }
        })
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            let refused = |failure| Handled { failure: Some(failure), ..Handled::default() };
            self.work_through(batch).await.unwrap_or_else(refused)
        })
    }
}
