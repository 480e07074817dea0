//! A projection as the lanes run it: events in, documents out, in the commit that moves the checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use ensue_core::{
    BoxFuture, Code, Error, EventInfo, EventSet, EventType, Failure, Position, Recorded, Revision, Store,
    StoreExt,
};

use super::generation::{self, Generation};
use super::replay::guarded;
use super::{Projection, encode_index};
use crate::cache::Invalidate;
use crate::collection::Place;
use crate::context::Meta;
use crate::effects::Effects;
use crate::spaces;
use crate::subscription::{Handled, Handler};
use crate::tally::Tally;

pub(crate) struct ProjectionHandler<P> {
    pub(crate) projection: Arc<P>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) caches: Vec<Arc<dyn Invalidate>>,
}

/// Documents that a batch changes, by key.
pub(super) struct Batch<P: Projection> {
    place: Place,
    touched: HashMap<String, Touched<P::Document>>,
}

struct Touched<D> {
    before: Option<D>,
    stored: Option<bytes::Bytes>,
    revision: Revision,
    now: Option<D>,
}

impl<P: Projection> ProjectionHandler<P> {
    pub(crate) fn types() -> Vec<EventInfo> {
        P::Event::types()
    }

    async fn work_through(&self, events: &[Recorded]) -> Handled {
        let mut done = Handled::default();
        // Asked with each batch: whoever has switched to another generation has moved our checkpoint too, so that what is
        // written to a place that is not live any more cannot be settled.
        let mut batch = match Batch::begin(&*self.store).await {
            Ok(batch) => batch,
            Err(error) => {
                done.failure = Some(Failure::Failed(error));
                return done;
            }
        };
        for recorded in events {
            if let Err(failure) = self.apply(&mut batch, recorded).await {
                done.failure = Some(failure);
                break;
            }
            done.count += 1;
        }
        match batch.effects(&*self.projection, &self.caches) {
            Ok(effects) => done.effects = effects,
            Err(error) => {
                done = Handled { failure: Some(Failure::Failed(error)), ..Handled::default() };
            }
        }
        done
    }

    async fn apply(&self, batch: &mut Batch<P>, recorded: &Recorded) -> Result<(), Failure> {
        // What cannot be decoded now will not decode on the next attempt either.
        let event: P::Event = recorded.decode().map_err(Failure::Rejected)?;
        batch.apply(&self.projection, &*self.store, &event, &Meta::from(recorded)).await
    }
}

impl<P: Projection> Batch<P> {
    /// A batch on the live generation. An error if that was built by other code.
    pub(super) async fn begin(store: &dyn Store) -> Result<Self, Error> {
        let live = generation::live(store, P::NAME, P::VERSION).await?;
        let place = own::<P>(live.generation)?.place(P::NAME)?;
        Ok(Self { place, touched: HashMap::new() })
    }

    pub(super) async fn apply(
        &mut self,
        projection: &P,
        store: &dyn Store,
        event: &P::Event,
        meta: &Meta,
    ) -> Result<(), Failure> {
        let Some(key) = projection.key(event) else { return Ok(()) };
        if !self.touched.contains_key(&key) {
            let touched = self.read(store, &key).await?;
            self.touched.insert(key.clone(), touched);
        }
        if let Some(document) = self.touched.get_mut(&key) {
            projection.apply(&mut document.now, event, meta);
        }
        Ok(())
    }

    async fn read(&self, store: &dyn Store, key: &str) -> Result<Touched<P::Document>, Failure> {
        let record = store.record(self.place.documents().clone(), key.to_owned()).await;
        let record = record.map_err(Failure::Failed)?;
        let revision = record.as_ref().map(|record| record.revision).unwrap_or_default();
        let stored = record.map(|record| record.value);
        let before: Option<P::Document> = stored
            .as_ref()
            .map(|value| spaces::decode("document", value))
            .transpose()
            .map_err(Failure::Rejected)?;
        Ok(Touched { now: before.clone(), before, stored, revision })
    }

    pub(super) fn effects(self, projection: &P, caches: &[Arc<dyn Invalidate>]) -> Result<Effects, Error> {
        let mut effects = Effects::default();
        let mut stale = Vec::new();
        for (key, Touched { before, stored, revision, now }) in self.touched {
            let value = now.as_ref().map(spaces::encode);
            stored.iter().for_each(|stored| effects.tally.remove(key.as_bytes(), stored));
            value.iter().for_each(|value| effects.tally.put(key.as_bytes(), value));
            let (was, is) = guarded(|| {
                let names = [&before, &now]
                    .into_iter()
                    .flatten()
                    .flat_map(|document| projection.invalidates(document));
                stale.extend(names);
                (encode_index(projection, before.as_ref()), encode_index(projection, now.as_ref()))
            })?;
            let mut writes = self.place.replace(&key, value, &was, &is);
            // Another lane, or another stream's command, may have changed the document meanwhile.
            if let Some(document) = writes.first_mut() {
                document.expected = Some(revision);
            }
            effects.records.extend(writes);
        }
        invalidate(&mut effects, stale, caches);
        Ok(effects)
    }
}

fn invalidate(effects: &mut Effects, mut stale: Vec<String>, caches: &[Arc<dyn Invalidate>]) {
    stale.sort_unstable();
    stale.dedup();
    for cache in caches.iter().filter(|_| !stale.is_empty()) {
        let (cache, stale) = (Arc::clone(cache), stale.clone());
        effects.after.push(Box::new(move || {
            for name in stale {
                // Invalidation in memory is done at the first poll.
                let _done = futures_util::FutureExt::now_or_never(cache.invalidate(name));
            }
        }));
    }
}

/// The generation, if this code has built it.
pub(super) fn own<P: Projection>(generation: Generation) -> Result<Generation, Error> {
    if generation.version == P::VERSION {
        return Ok(generation);
    }
    Err(Error::new(
        Code::VIEW_NOT_BUILT,
        format!(
            "read model {} is at version {}, this code is version {}",
            P::NAME,
            generation.version,
            P::VERSION
        ),
    ))
}

impl<P: Projection> Handler for ProjectionHandler<P> {
    fn types(&self) -> Vec<EventType> {
        P::Event::types().iter().filter_map(|info| EventType::new(info.event_type).ok()).collect()
    }

    fn tally(&self, events: &[Recorded]) -> Option<Tally> {
        Some(Tally::of(events))
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(self.work_through(batch))
    }
}

/// Where the read model stands: everything up to here is in it.
pub(super) async fn settled(store: &dyn Store, name: &str) -> Result<Position, Error> {
    let checkpoints =
        crate::subscription::Checkpoints::load(store, &super::subscription_name(name).into()).await?;
    Ok(checkpoints.settled().into_iter().min().unwrap_or_default())
}
