//! Inline projections: the read model changes in the commit that appends the events of an aggregate's command.
//!
//! The lanes of an inline projection run all the same. An event carries a stamp that says in which generation it is
//! applied already, so the lanes pass over it, and take what anybody else has appended. So nothing is lost whoever writes
//! into the store: a process without the projection, or one with another version of it, only writes what is shown a moment
//! later.
//!
//! Invariant: an event is stamped for a generation only if no other has been put in its place before the commit. That is the
//! condition of the commit: nothing was told of a switch since the generation was looked up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ensue_core::{
    Append, BoxFuture, Code, Error, EventInfo, Failure, Position, Recorded, Store, StoreExt, Version,
};
use tokio::sync::RwLock;

use super::generation::Generation;
use crate::effects::Effects;
use crate::progress::lock;
use crate::tally::Tally;

pub(crate) mod fence;
mod stamp;

pub(super) use stamp::Stamp;

/// Commands pass while nobody holds it for writing: a switch, or the moment in which a read model becomes inline, does.
pub(crate) type Gate = Arc<RwLock<()>>;

/// An inline projection with its type erased.
pub(crate) trait InlineModel: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn types(&self) -> Vec<EventInfo>;
    /// What these events, which have no position yet, change in a generation.
    fn project<'a>(
        &'a self,
        store: &'a dyn Store,
        generation: Generation,
        events: &'a [Recorded],
    ) -> BoxFuture<'a, Result<Effects, Failure>>;
}

/// The inline projections of an application.
#[derive(Default)]
pub(crate) struct Inline {
    models: Vec<Arc<dyn InlineModel>>,
    known: Mutex<Option<Arc<Known>>>,
    gate: Gate,
}

/// Which generations take events inline, as of a position.
struct Known {
    as_of: AtomicU64,
    /// For each model; `None` while its lanes have to catch up first, or another version of the code is live.
    generations: Vec<Option<Generation>>,
}

impl Inline {
    pub(crate) fn new(models: Vec<Arc<dyn InlineModel>>) -> Self {
        Self { models, ..Self::default() }
    }

    pub(crate) fn gate(&self) -> Gate {
        Arc::clone(&self.gate)
    }

    /// The right to decide and commit one command; waits while a read model is being switched.
    pub(crate) async fn pass(&self) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
        if self.models.is_empty() { None } else { Some(self.gate.read().await) }
    }

    /// The read model that events of this type feed.
    fn fed_by(&self, event_type: &str) -> Option<&'static str> {
        let fed = self.models.iter().find(|model| takes(&***model, event_type));
        fed.map(|model| model.name())
    }

    /// `E0321` for an event that feeds an inline read model: only aggregates may cause it.
    pub(crate) fn refuse(&self, event_type: &str) -> Result<(), Error> {
        self.fed_by(event_type).map_or(Ok(()), |model| {
            Err(Error::new(Code::FED_INLINE, format!("{event_type} feeds the inline read model {model}")))
        })
    }

    /// What the append changes in the read models; its events get their stamps.
    pub(crate) async fn project(&self, store: &dyn Store, append: &mut Append) -> Result<Effects, Failure> {
        let is_fed = append.events.iter().any(|event| self.fed_by(event.event_type.as_str()).is_some());
        if !is_fed {
            return Ok(Effects::default());
        }
        let known = self.known(store).await.map_err(Failure::Failed)?;
        let mut effects =
            Effects { fence: Some(Position(known.as_of.load(Ordering::Acquire))), ..Effects::default() };
        let events = foreseen(append);
        let live = self.models.iter().zip(&known.generations);
        for (model, generation) in live.filter_map(|(model, live)| live.map(|live| (model, live))) {
            let events: Vec<Recorded> =
                events.iter().filter(|event| is_for(&**model, event)).cloned().collect();
            let Some(last) = events.last().map(|event| event.envelope.id.clone()) else { continue };
            let mut own = model.project(store, generation, &events).await?;
            let tally = std::mem::take(&mut own.tally);
            for envelope in append.events.iter_mut().filter(|one| takes(&**model, one.event_type.as_str())) {
                let tally = if envelope.id == last { tally } else { Tally::default() };
                Stamp { generation, tally }.put(envelope, model.name());
            }
            effects.absorb(own);
        }
        Ok(effects)
    }

    async fn known(&self, store: &dyn Store) -> Result<Arc<Known>, Error> {
        let known = lock(&self.known).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        // The head first: a switch after it is told of behind it.
        let as_of = store.head().await?;
        let mut generations = Vec::with_capacity(self.models.len());
        for model in &self.models {
            generations.push(fence::taking(store, &**model).await?);
        }
        let known = Arc::new(Known { as_of: AtomicU64::new(as_of.0), generations });
        *lock(&self.known) = Some(Arc::clone(&known));
        Ok(known)
    }

    /// A commit was refused because of a switch: what is known is out of date.
    pub(crate) fn forget(&self) {
        *lock(&self.known) = None;
    }

    /// A commit with a fence was taken: no switch was told of before it, so there is less to look through the next time.
    pub(crate) fn confirm(&self, at: Position) {
        if let Some(known) = &*lock(&self.known) {
            known.as_of.fetch_max(at.0, Ordering::AcqRel);
        }
    }
}

fn takes(model: &dyn InlineModel, event_type: &str) -> bool {
    model.types().iter().any(|info| info.event_type == event_type)
}

fn is_for(model: &dyn InlineModel, event: &Recorded) -> bool {
    takes(model, event.envelope.event_type.as_str())
}

/// The events as they will be stored, but for position and time of record, which nobody knows before.
fn foreseen(append: &Append) -> Vec<Recorded> {
    let before = match append.expected {
        ensue_core::Expected::Exact(version) => version,
        _ => Version::ZERO,
    };
    let events = append.events.iter().zip(before.0 + 1..);
    events
        .map(|(envelope, version)| Recorded {
            position: Position::ZERO,
            stream: append.stream.clone(),
            version: Version(version),
            recorded_at: envelope.time,
            envelope: envelope.clone(),
        })
        .collect()
}
