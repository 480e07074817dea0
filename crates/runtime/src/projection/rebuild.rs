//! Blue/green: a new generation is built beside the live one, compared with it, and put in its place in one commit.
//!
//! Whatever ends it before that commit leaves the live generation as it is; what was built is removed.

use std::collections::HashSet;
use std::sync::Arc;

use ensue_core::{Commit, CommitError, Error, Host, Position, RecordScan, RecordWrite, Store, StoreExt};
use serde::Serialize;

use super::build::{Builder, Progress};
use super::compare::{Comparison, Difference, Expected, lane_count, positions};
use super::generation::{self, Generation, Live, Site};
use super::hold::Holder;
use super::inline::Gate;
use super::inline::fence::{self, Marker};
use super::pace::{Load, Pace};
use super::{Projection, setup_of, subscription_name};
use crate::collection::Place;
use crate::policy::OnFailure;
use crate::spaces::{self, DEAD, DISCARDED, HALTED, REDRIVE, VIEW};
use crate::subscription::Checkpoints;

/// Switches that are tried before another process that keeps moving the read model on has won.
pub(super) const SWITCHES_MAX: u32 = 100;

/// What a rebuild did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Rebuilt {
    /// What is live now.
    pub generation: Generation,
    /// Events that were folded.
    pub events: u64,
    /// Events, of whatever topic, that the log had dropped before the build. What the old generation had made of them is gone.
    pub dropped: u64,
    /// How long it took until the new one was live; removing the old one comes after that.
    pub seconds: f64,
    /// How the old generation differed from the new one. None where another `VERSION` had built it.
    pub difference: Option<Difference>,
}

/// What a build is made of.
pub(crate) struct Materials<P> {
    pub(crate) projection: Arc<P>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) host: Host,
    pub(crate) gate: Gate,
    pub(crate) load: Load,
    pub(crate) progress: Arc<Progress>,
}

/// Builds the read model anew beside the live one and puts it in its place, on a store that no application runs on. In a
/// running application: [`Projections::rebuild`](super::Projections::rebuild).
///
/// Errors: what the projection makes of an event it cannot take, unless its policy is to skip; `E0203` if another rebuild
/// took over. Cancellation leaves the live read model as it is; the next rebuild removes what was built.
pub async fn rebuild<P: Projection>(
    projection: P,
    store: Arc<dyn Store>,
    host: Host,
    load: Load,
) -> Result<Rebuilt, Error> {
    let (projection, gate, progress) = (Arc::new(projection), Gate::default(), Arc::default());
    let materials = Materials { projection, store, host, gate, load, progress };
    run(materials, None).await
}

/// Builds, compares, switches, removes. The lanes are stopped for the switch alone.
pub(super) async fn run<P: Projection>(
    materials: Materials<P>,
    lanes: Option<&Holder>,
) -> Result<Rebuilt, Error> {
    let (store, host) = (Arc::clone(&materials.store), materials.host.clone());
    let began = host.clock.monotonic();
    generation::clear(&*store, P::NAME, Pace::new(materials.load, &host)).await?;
    let live = generation::settle(&*store, P::NAME, P::VERSION).await?;
    let site = Site::open(&*store, P::NAME, P::VERSION).await?;
    let generation = site.generation;
    let load = materials.load;
    let result = build_and_switch(materials, site, live, lanes).await;
    let Done { events, dropped, difference } = match result {
        Ok(done) => done,
        Err((error, site)) => {
            // Fenced: if another build has taken over, this one is on record as left over already.
            let _abandoned = site.abandon(&*store).await.is_ok();
            let _cleared = generation::clear(&*store, P::NAME, Pace::new(load, &host)).await.is_ok();
            return Err(error);
        }
    };
    let seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
    generation::clear(&*store, P::NAME, Pace::new(load, &host)).await?;
    Ok(Rebuilt { generation, events, dropped, seconds, difference })
}

/// What came of a build.
struct Done {
    events: u64,
    /// Of the log, before the build had read anything.
    dropped: u64,
    difference: Option<Difference>,
}

async fn build_and_switch<P: Projection>(
    materials: Materials<P>,
    site: Site,
    live: Live,
    lanes: Option<&Holder>,
) -> Result<Done, (Error, Site)> {
    let gate = Arc::clone(&materials.gate);
    let mut builder = match prepare(materials, &site).await {
        Ok(prepared) => Builder::new(site, prepared),
        Err(error) => return Err((error, site)),
    };
    let worked: Result<Option<Difference>, Error> = async {
        builder.catch_up().await?;
        let difference = compare(&builder, &live).await?;
        builder.catch_up().await?;
        let held = match lanes {
            Some(lanes) => Some(lanes.stop().await?),
            None => None,
        };
        // Commands that feed it inline wait too: the switch is refused if one of their events came in between.
        let shut = gate.write().await;
        switch(&mut builder, &live).await?;
        drop((held, shut));
        Ok(difference)
    }
    .await;
    match worked {
        Ok(difference) => Ok(Done { events: builder.events, dropped: builder.kept.dropped(), difference }),
        Err(error) => Err((error, builder.site)),
    }
}

/// What a build needs to know of the store before it begins.
pub(super) struct Prepared<P> {
    pub(super) materials: Materials<P>,
    pub(super) place: Place,
    pub(super) skips: bool,
    pub(super) left_out: HashSet<Position>,
    pub(super) start: Position,
    pub(super) lanes: u16,
}

async fn prepare<P: Projection>(materials: Materials<P>, site: &Site) -> Result<Prepared<P>, Error> {
    let setup = setup_of(&*materials.projection);
    let store = &*materials.store;
    let lanes = lane_count(store, P::NAME).await?;
    Ok(Prepared {
        place: site.generation.place(P::NAME)?,
        skips: setup.settings.on_failure == OnFailure::Skip,
        left_out: positions(store, P::NAME, &DISCARDED).await?,
        start: setup.beginning(),
        lanes: if lanes == 0 { setup.settings.lanes } else { lanes },
        materials,
    })
}

/// How the live generation differs from the new one, as of where the new one stands.
async fn compare<P: Projection>(builder: &Builder<P>, live: &Live) -> Result<Option<Difference>, Error> {
    if live.generation.version != P::VERSION {
        return Ok(None);
    }
    let mut left_out = positions(&*builder.store, P::NAME, &DEAD).await?;
    left_out.extend(builder.left_out.iter().copied());
    let comparison =
        Comparison { projection: &*builder.projection, store: &builder.store, left_out: &left_out };
    let expected = Expected::Stored(builder.site.generation.place(P::NAME)?.documents().clone());
    let mut difference = Difference { events: builder.events, ..Difference::default() };
    let documents = live.generation.place(P::NAME)?;
    let pace = builder.pace();
    comparison.compare(documents.documents(), &expected, builder.position, pace, &mut difference).await?;
    Ok(Some(difference))
}

/// One commit: the new generation is live, the checkpoints stand where it stands, and what was parked or stopped is
/// forgotten, because the new generation has it.
async fn switch<P: Projection>(builder: &mut Builder<P>, live: &Live) -> Result<(), Error> {
    let store = Arc::clone(&builder.store);
    let subscription = subscription_name(P::NAME);
    let mut tries = 0;
    loop {
        let checkpoints = Checkpoints::load(&*store, &subscription.as_str().into()).await?;
        // Not before where the old one stands, so that nobody who has waited for a position sees an older state.
        builder.catch_up().await?;
        let marker = Marker::load(&*store, P::NAME).await?;
        let is_inline =
            setup_of(&*builder.projection).is_inline || marker.generation == Some(live.generation);
        let mut commit = Commit::default();
        let records = &mut commit.records;
        records.extend(builder.site.switch(live));
        records.push(marker.moved(P::NAME, is_inline.then_some(builder.site.generation)));
        if is_inline {
            commit.condition = Some(fence::unfed(super::replay::types::<P>()?, builder.position));
            commit.appends.push(fence::told(&builder.host, P::NAME, builder.site.generation)?);
        }
        records.extend(checkpoints.moved(builder.position, &builder.lanes));
        for space in [&*DEAD, &*HALTED, &*REDRIVE] {
            let scan = RecordScan::prefix(space.clone(), spaces::within(&[&subscription]));
            let old = store.records(scan).await?;
            records.extend(old.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)));
        }
        records.push(RecordWrite::delete(VIEW.clone(), super::audit::alarm_key(P::NAME)));
        match store.commit(commit).await {
            Ok(_) => return Ok(()),
            // An event came at this moment: the new generation takes it first.
            Err(CommitError::ConditionFailed { .. }) if tries < SWITCHES_MAX => tries += 1,
            // A lane has settled at this moment: what it had is folded too, and it is tried again.
            Err(CommitError::RecordConflict { write, .. })
                if (write.space != *VIEW || fence::is_marker(&write, P::NAME)) && tries < SWITCHES_MAX =>
            {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
