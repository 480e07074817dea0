//! A mounted read model with its type erased: what operators and the application do with it by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensue_core::{BoxFuture, Code, Error, Host, Position, Store, StoreExt};
use serde::Serialize;

use super::audit::{self, Alarm, Audit};
use super::build::Progress;
use super::compare::{Difference, verify};
use super::generation::{self, Generation};
use super::handler::ProjectionHandler;
use super::hold::{self, Holder, Requests};
use super::inline::Gate;
use super::inline::fence::{self, Activation, Marker};
use super::pace::{Load, Pace};
use super::rebuild::{Materials, Rebuilt, run};
use super::tables::{Keeper, TableModel, TableProjection};
use super::{Projection, Shared as SharedProjection, setup_of, subscription_name};
use crate::catalogue::{Catalogue, HandlerKind};
use crate::lane::{STORE_PAUSE, passes};
use crate::subscription::{Checkpoints, Shared, Subscription};

/// How a read model stands.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ModelStatus {
    /// Its name.
    pub projection: String,
    /// What readers see.
    pub live: Generation,
    /// Whether it changes in the commit of the command that causes its events.
    pub inline: bool,
    /// Everything up to here is in it.
    pub position: Position,
    /// Positions of the log that it has not looked at yet.
    pub behind: u64,
    /// Events that were given up for good.
    pub skipped: u64,
    /// Events that are parked.
    pub parked: u64,
    /// A build that is under way, in this process.
    pub building: Option<Building>,
    /// What the last check found.
    pub alarm: Option<Alarm>,
}

/// How far a build is.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Building {
    /// Events folded.
    pub events: u64,
    /// How far in the log.
    pub position: Position,
    /// How far it goes for now.
    pub until: Position,
    /// So far, pauses included.
    pub events_per_s: f64,
    /// How long the rest takes at this rate, in seconds.
    pub seconds_left: f64,
}

/// What can be done with a read model whose type is not known.
pub(crate) trait Model: Send + Sync {
    fn name(&self) -> &'static str;
    fn rebuild<'a>(&'a self, load: Load, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Rebuilt, Error>>;
    fn verify<'a>(&'a self, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Difference, Error>>;
    fn audit<'a>(&'a self, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Audit, Error>>;
    fn status(&self) -> BoxFuture<'_, Result<ModelStatus, Error>>;
    /// What has to be done before the lanes may run: the build of a new version.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// Makes it inline if it is mounted so and has nothing to catch up with. Whether there is nothing left to do.
    fn activate(&self) -> BoxFuture<'_, Result<bool, Error>>;
    /// Removes what earlier builds have left.
    fn clear(&self) -> BoxFuture<'_, Result<(), Error>>;
}

pub(crate) struct ModelOf<P> {
    pub(crate) projection: Arc<P>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) host: Host,
    /// Held while it is switched; that of the application that it is mounted in.
    gate: Gate,
    progress: Arc<Progress>,
    is_building: AtomicBool,
}

impl<P: Projection> ModelOf<P> {
    pub(crate) fn new(projection: Arc<P>, store: Arc<dyn Store>, host: Host) -> Self {
        let (progress, is_building) = (Arc::default(), AtomicBool::new(false));
        Self { projection, store, host, gate: Gate::default(), progress, is_building }
    }

    /// Commands wait at this gate while it is switched.
    pub(crate) fn behind(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    async fn build(&self, load: Load, lanes: Option<&Holder>) -> Result<Rebuilt, Error> {
        let _over = Over::begin(&self.is_building, P::NAME)?;
        let materials = Materials {
            projection: Arc::clone(&self.projection),
            store: Arc::clone(&self.store),
            host: self.host.clone(),
            gate: Arc::clone(&self.gate),
            load,
            progress: Arc::clone(&self.progress),
        };
        run(materials, lanes).await
    }

    fn building(&self) -> Option<Building> {
        let is_building = self.is_building.load(Ordering::Acquire);
        is_building.then(|| self.progress.snapshot())
    }
}

/// Says that a build is over, however it ends.
pub(super) struct Over<'a>(&'a AtomicBool);

impl<'a> Over<'a> {
    /// `E0413` while another one is under way.
    pub(super) fn begin(is_building: &'a AtomicBool, name: &str) -> Result<Self, Error> {
        if is_building.swap(true, Ordering::AcqRel) {
            return Err(Error::new(Code::BUSY, format!("a build of {name} is under way"))
                .with_fix("wait until it is done"));
        }
        Ok(Self(is_building))
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Progress {
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]
    pub(super) fn snapshot(&self) -> Building {
        let events = self.events.load(Ordering::Relaxed);
        let (position, until) = (self.position.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed));
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1_000_000.0;
        let positions_per_s = if seconds > 0.0 { position as f64 / seconds } else { 0.0 };
        let left = until.saturating_sub(position) as f64;
        Building {
            events,
            position: Position(position),
            until: Position(until),
            events_per_s: if seconds > 0.0 { events as f64 / seconds } else { 0.0 },
            seconds_left: if positions_per_s > 0.0 { left / positions_per_s } else { 0.0 },
        }
    }
}

impl<P: Projection> Model for ModelOf<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn rebuild<'a>(&'a self, load: Load, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Rebuilt, Error>> {
        Box::pin(self.build(load, lanes))
    }

    fn verify<'a>(&'a self, _lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Difference, Error>> {
        Box::pin(async {
            let found =
                verify(SharedProjection(Arc::clone(&self.projection)), Arc::clone(&self.store)).await?;
            if !found.is_none() {
                let findings = vec![found.in_words()];
                audit::report(&*self.store, P::NAME, findings, self.host.clock.now()).await?;
            }
            Ok(found)
        })
    }

    fn audit<'a>(&'a self, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Audit, Error>> {
        Box::pin(audit::run::<P>(&*self.store, self.host.clock.now(), lanes))
    }

    fn status(&self) -> BoxFuture<'_, Result<ModelStatus, Error>> {
        Box::pin(async {
            let status = status(&*self.store, P::NAME, P::VERSION).await?;
            Ok(ModelStatus { building: self.building(), ..status })
        })
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let live = generation::settle(&*self.store, P::NAME, P::VERSION).await?;
            if live.generation.version != P::VERSION {
                self.build(setup_of(&*self.projection).load, None).await?;
            }
            Ok(())
        })
    }

    fn activate(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async {
            let setup = setup_of(&*self.projection);
            if !setup.is_inline {
                return Ok(true);
            }
            let (projection, store, host) =
                (Arc::clone(&self.projection), Arc::clone(&self.store), self.host.clone());
            let handler = ProjectionHandler { projection, store, caches: Vec::new(), host };
            let activation = fence::activate(&*self.store, &self.host, &handler, setup.beginning()).await?;
            Ok(activation != Activation::Behind)
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), Error>> {
        let pace = Pace::new(setup_of(&*self.projection).load, &self.host);
        Box::pin(generation::clear(&*self.store, P::NAME, pace))
    }
}

/// How a read model stands, as far as the store says.
pub(super) async fn status(store: &dyn Store, name: &str, version: u32) -> Result<ModelStatus, Error> {
    let live = generation::live(store, name, version).await?.generation;
    let checkpoints = Checkpoints::load(store, &subscription_name(name).into()).await?;
    let position = checkpoints.settled().into_iter().min().unwrap_or_default();
    let tallies = (0..checkpoints.lane_count()).filter_map(|lane| checkpoints.lane(lane).0.tally);
    let head = store.head().await?;
    Ok(ModelStatus {
        projection: name.to_owned(),
        live,
        inline: Marker::load(store, name).await?.generation == Some(live),
        position,
        behind: head.0.saturating_sub(position.0),
        skipped: tallies.map(|tally| tally.skipped).sum(),
        parked: super::compare::positions(store, name, &crate::spaces::DEAD).await?.len() as u64,
        building: None,
        alarm: audit::alarm(store, name).await?,
    })
}

/// How every read model stands that an application on this store has declared, by name. Of one that is declared and has
/// never run, the live generation is the first of version 1.
pub async fn declared(store: &dyn Store) -> Result<Vec<ModelStatus>, Error> {
    let catalogue = Catalogue::merged(store).await?;
    let names: BTreeSet<&str> = catalogue
        .handlers
        .iter()
        .filter(|handler| handler.kind == HandlerKind::Projection)
        .filter_map(|handler| handler.name.strip_prefix(super::SUBSCRIPTION_PREFIX))
        .collect();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        all.push(status(store, name, 1).await?);
    }
    Ok(all)
}

/// A read model on a store that no application runs on, its type erased.
pub struct ReadModel(Box<dyn Model>);

impl ReadModel {
    /// Of this projection.
    pub fn new<P: Projection>(projection: P, store: Arc<dyn Store>, host: Host) -> Self {
        Self(Box::new(ModelOf::new(Arc::new(projection), store, host)))
    }

    /// Of this projection into tables.
    pub fn of_tables<P: TableProjection>(projection: P, store: Arc<dyn Store>, host: Host) -> Self {
        let keeper = Keeper::new(Arc::new(projection), store, host, Arc::default());
        Self(Box::new(TableModel::new(keeper)))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// How it stands.
    pub async fn status(&self) -> Result<ModelStatus, Error> {
        self.0.status().await
    }

    /// As [`Projections::rebuild`].
    pub async fn rebuild(&self, load: Load) -> Result<Rebuilt, Error> {
        self.0.rebuild(load, None).await
    }

    /// As [`Projections::verify`].
    pub async fn verify(&self) -> Result<Difference, Error> {
        self.0.verify(None).await
    }

    /// As [`Projections::audit`].
    pub async fn audit(&self) -> Result<Audit, Error> {
        self.0.audit(None).await
    }
}

/// A read model of a running application.
pub(crate) struct Mount {
    pub(crate) model: Arc<dyn Model>,
    holder: Holder,
}

/// Runs the lanes of a read model: first the build of a new version, then the lanes, stopped while a rebuild switches.
pub(crate) fn drive(
    model: Arc<dyn Model>,
    subscription: Arc<Subscription>,
) -> (Mount, BoxFuture<'static, ()>) {
    let (holder, requests) = Holder::new();
    let mount = Mount { model: Arc::clone(&model), holder };
    (mount, Box::pin(follow(model, subscription, requests)))
}

async fn follow(model: Arc<dyn Model>, subscription: Arc<Subscription>, requests: Requests) {
    let shared = Arc::clone(&subscription.shared);
    tokio::select! {
        biased;
        () = shared.closed() => return,
        () = prepared(&*model, &subscription) => {}
    }
    let clear = async {
        // What cannot be removed now is removed at the next start or rebuild.
        let _cleared = model.clear().await.is_ok();
    };
    let inline = become_inline(&*model, &subscription);
    let lanes = hold::run(Arc::clone(&subscription), requests);
    futures_util::future::join3(clear, inline, lanes).await;
}

/// Lets the lanes take what there is, and then makes a read model inline that is mounted so.
async fn become_inline(model: &dyn Model, subscription: &Subscription) {
    let shared = &subscription.shared;
    loop {
        match try_inline(model, subscription).await {
            Ok(false) => tokio::task::yield_now().await,
            Err(error) if error.is_retryable() => shared.press.host.clock.sleep(STORE_PAUSE).await,
            // It is, or cannot be: another version is live, or it has stopped. A rebuild makes it inline by itself.
            Ok(true) | Err(_) => return,
        }
    }
}

async fn try_inline(model: &dyn Model, subscription: &Subscription) -> Result<bool, Error> {
    if model.activate().await? {
        return Ok(true);
    }
    let Shared { store, inline, .. } = &*subscription.shared;
    subscription.reached(store.head().await?).await?;
    // The lanes take the rest while no command of this process is under way.
    let gate = inline.gate();
    let _held = gate.write().await;
    subscription.reached(store.head().await?).await?;
    model.activate().await
}

/// Builds a new version, again and again while the store is away; a build that fails for good halts the read model.
async fn prepared(model: &dyn Model, subscription: &Subscription) {
    while let Err(error) = model.prepare().await {
        if !passes(&error) {
            return subscription.standing.halt(error);
        }
        subscription.standing.reader_waits(true);
        subscription.shared.press.host.clock.sleep(STORE_PAUSE).await;
        subscription.standing.reader_waits(false);
    }
}

/// The read models of a running application.
pub struct Projections<'a> {
    pub(crate) mounts: &'a [Mount],
}

impl Projections<'_> {
    fn find(&self, name: &str) -> Result<&Mount, Error> {
        self.mounts.iter().find(|mount| mount.model.name() == name).ok_or_else(|| {
            Error::new(Code::NOT_FOUND, format!("this application mounts no read model {name}"))
        })
    }

    /// How every read model stands.
    pub async fn list(&self) -> Result<Vec<ModelStatus>, Error> {
        let mut all = Vec::with_capacity(self.mounts.len());
        for mount in self.mounts {
            all.push(mount.model.status().await?);
        }
        Ok(all)
    }

    /// Builds the read model anew beside the live one, compares the two, and puts the new one in its place in one commit.
    /// Readers and writers go on; the read model stands still for the moment of the switch. What was parked or had stopped
    /// is in the new one. No reaction runs.
    ///
    /// Errors: `E0413` while another build is under way; an event that the projection cannot take, unless it skips those.
    /// Cancellation leaves the live read model as it is.
    pub async fn rebuild(&self, name: &str, load: Load) -> Result<Rebuilt, Error> {
        let mount = self.find(name)?;
        mount.model.rebuild(load, Some(&mount.holder)).await
    }

    /// Compares the read model with a fresh replay of the log, while it goes on changing.
    pub async fn verify(&self, name: &str) -> Result<Difference, Error> {
        let mount = self.find(name)?;
        mount.model.verify(Some(&mount.holder)).await
    }

    /// Compares what the lanes have counted with the log, and the documents with what was written; a difference stays on
    /// record as an alarm.
    pub async fn audit(&self, name: &str) -> Result<Audit, Error> {
        let mount = self.find(name)?;
        mount.model.audit(Some(&mount.holder)).await
    }
}
