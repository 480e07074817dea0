//! Building a generation of tables beside the live one: the log is read from its beginning and taken in pages, at bounded load.
//!
//! A build runs no reaction: it reads events and calls `apply`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensue_core::{Error, Failure, Position, Query, Read, Recorded};
use futures_util::{StreamExt, TryStreamExt};

use super::keeper::{Keeper, Taken, put_tables, types};
use super::{Names, TableProjection};
use crate::lane::STORE_PAUSE;
use crate::policy::OnFailure;
use crate::projection::build::{GAP, Progress};
use crate::projection::compare::lane_count;
use crate::projection::generation::{Generation, Site};
use crate::projection::pace::{Load, Pace};
use crate::projection::replay::Kept;
use crate::spaces;
use crate::tally::Tally;

/// A generation of tables under construction.
pub(super) struct Builder<P> {
    pub(super) keeper: Arc<Keeper<P>>,
    pub(super) names: Names,
    pub(super) site: Site,
    /// Events that are not taken.
    left_out: HashSet<Position>,
    /// Everything up to here is in the tables.
    pub(super) position: Position,
    pub(super) events: u64,
    pub(super) kept: Kept,
    /// One for each lane.
    pub(super) lanes: Vec<Tally>,
    pace: Pace,
    progress: Arc<Progress>,
    started: Duration,
}

impl<P: TableProjection> Builder<P> {
    /// Makes the tables of the site.
    pub(super) async fn begin(
        keeper: Arc<Keeper<P>>,
        site: Site,
        load: Load,
        progress: Arc<Progress>,
    ) -> Result<Self, (Error, Site)> {
        let names = Names::beside(&keeper.tables(), site.generation);
        let (position, started) = (keeper.beginning(), keeper.host.clock.monotonic());
        let lanes = match lane_count(&*keeper.log, P::NAME).await {
            Ok(0) => keeper.setup.settings.lanes,
            Ok(lanes) => lanes,
            Err(error) => return Err((error, site)),
        };
        let mut builder = Self {
            pace: Pace::new(load, &keeper.host),
            keeper,
            names,
            site,
            left_out: HashSet::new(),
            position,
            events: 0,
            kept: Kept::default(),
            lanes: vec![Tally { since: position, ..Tally::default() }; usize::from(lanes.max(1))],
            progress,
            started,
        };
        match builder.make().await {
            Ok(()) => Ok(builder),
            Err(error) => Err((error, builder.site)),
        }
    }

    async fn make(&mut self) -> Result<(), Error> {
        let (transaction, session) = self.keeper.begin().await?;
        ensue_core::SqlSession::run_statements(&session, self.keeper.tables().making(&self.names)).await?;
        drop(session);
        let generation: Generation = self.site.generation;
        self.site.write_in(transaction, vec![put_tables::<P>(Some(generation), &self.names)]).await
    }

    /// Leaves these out from here on.
    pub(super) fn leave_out(&mut self, letters: &HashSet<Position>) {
        self.left_out.extend(letters);
    }

    /// Takes everything up to the end of the log, again until what has come meanwhile is little.
    pub(super) async fn catch_up(&mut self) -> Result<(), Error> {
        self.kept.check(&*self.keeper.log, P::NAME).await?;
        let mut gap = u64::MAX;
        while gap > GAP {
            let head = ensue_core::StoreExt::head(&*self.keeper.log).await?;
            gap = head.0.saturating_sub(self.position.0);
            self.take_until(head, &[]).await?;
        }
        self.kept.check(&*self.keeper.log, P::NAME).await
    }

    /// Takes everything up to a position; of each lane only what is not beyond its bound, where there are bounds.
    pub(super) async fn take_until(&mut self, until: Position, bounds: &[Position]) -> Result<(), Error> {
        self.progress.head.store(until.0, Ordering::Relaxed);
        let log = Arc::clone(&self.keeper.log);
        let read = Read::query(Query::types(types::<P>()?)).after(self.position).until(until);
        let mut pages = log.read(read).try_ready_chunks(self.keeper.setup.settings.batch).boxed();
        while let Some(page) = pages.try_next().await.map_err(|error| error.1)? {
            let end = page.last().map_or(until, |last| last.position);
            let count = page.len() as u64;
            let page: Vec<Recorded> = page
                .into_iter()
                .filter(|event| bounds.get(self.lane_of(event)).is_none_or(|bound| event.position <= *bound))
                .collect();
            self.take(&page).await?;
            self.position = end;
            self.events += page.len() as u64;
            self.note_progress();
            self.pace.pause(count).await;
        }
        self.position = self.position.max(until);
        Ok(())
    }

    fn lane_of(&self, event: &Recorded) -> usize {
        let lanes = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        usize::from(spaces::spread(event.stream.key.as_str(), lanes))
    }

    async fn take(&mut self, page: &[Recorded]) -> Result<(), Error> {
        let wanted: Vec<Recorded> =
            page.iter().filter(|event| !self.left_out.contains(&event.position)).cloned().collect();
        let mut rest = wanted.as_slice();
        while let Some(first) = rest.first() {
            match self.keeper.take(&self.names, rest).await {
                Taken::Some(count, transaction) => {
                    self.site.write_in(transaction, Vec::new()).await?;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Taken::None(Failure::Failed(error) | Failure::Rejected(error)) => {
                    self.skip(first, error)?;
                    rest = rest.get(1..).unwrap_or_default();
                }
                Taken::None(Failure::Later(_) | Failure::Deferred(_)) => {
                    self.keeper.host.clock.sleep(STORE_PAUSE).await;
                }
            }
        }
        for event in page {
            let lane = self.lane_of(event);
            if let Some(tally) = self.lanes.get_mut(lane) {
                tally.take(event.position, event.envelope.id.as_str());
            }
        }
        Ok(())
    }

    /// An event that cannot be taken is skipped and counted, or ends the build.
    fn skip(&mut self, event: &Recorded, error: Error) -> Result<(), Error> {
        if self.keeper.setup.settings.on_failure != OnFailure::Skip {
            return Err(error);
        }
        let lane = self.lane_of(event);
        if let Some(tally) = self.lanes.get_mut(lane) {
            tally.skipped += 1;
        }
        Ok(())
    }

    fn note_progress(&self) {
        let micros = self.keeper.host.clock.monotonic().saturating_sub(self.started).as_micros();
        self.progress.position.store(self.position.0, Ordering::Relaxed);
        self.progress.events.store(self.events, Ordering::Relaxed);
        self.progress.micros.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
