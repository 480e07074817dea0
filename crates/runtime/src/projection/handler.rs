//! A projection as the lanes run it: events in, documents out, in the commit that moves the checkpoint.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use ensue_core::{
    BoxFuture, Code, Error, EventInfo, EventSet, EventType, Failure, Host, Position, Recorded, Revision,
    Store, StoreExt, Timestamp,
};

use super::generation::{self, Generation};
use super::inline::{InlineModel, Stamp, fence};
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
    pub(crate) host: Host,
}

/// Documents that a batch changes, by key.
pub(super) struct Batch<P: Projection> {
    generation: Generation,
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
        let mut inline = Tally::default();
        for recorded in events {
            // Taken inline: the documents changed in the commit that appended it.
            let stamp = Stamp::on(&recorded.envelope, P::NAME);
            if let Some(stamp) = stamp.filter(|stamp| stamp.generation == batch.generation) {
                inline = inline.and(stamp.tally);
                done.count += 1;
                continue;
            }
            if let Err(failure) = self.apply(&mut batch, recorded).await {
                done.failure = Some(failure);
                break;
            }
            done.count += 1;
        }
        match batch.effects(&*self.projection, &self.caches) {
            Ok(effects) => {
                done.effects = effects;
                done.effects.tally = done.effects.tally.and(inline);
            }
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
        Self::on(own::<P>(live.generation)?)
    }

    /// A batch on this generation.
    pub(super) fn on(generation: Generation) -> Result<Self, Error> {
        Ok(Self { generation, place: generation.place(P::NAME)?, touched: HashMap::new() })
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
            let touched = read::<P>(&self.place, store, &key).await?;
            self.touched.insert(key.clone(), touched);
        }
        if let Some(document) = self.touched.get_mut(&key) {
            projection.apply(&mut document.now, event, meta);
        }
        Ok(())
    }

    /// Applies an event that has no position yet. `E0322` if the document depends on what is known only after the commit.
    async fn foresee(
        &mut self,
        projection: &P,
        store: &dyn Store,
        recorded: &Recorded,
    ) -> Result<(), Failure> {
        let event: P::Event = recorded.decode().map_err(Failure::Rejected)?;
        let Some(key) = guarded(|| projection.key(&event)).map_err(Failure::Rejected)? else { return Ok(()) };
        let touched = match self.touched.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let touched = read::<P>(&self.place, store, free.key()).await?;
                free.insert(touched)
            }
        };
        let meta = Meta::from(recorded);
        let later = Meta { position: Position::MAX, recorded_at: Timestamp::MAX, ..meta.clone() };
        let mut other = touched.now.clone();
        guarded(|| {
            projection.apply(&mut touched.now, &event, &meta);
            projection.apply(&mut other, &event, &later);
        })
        .map_err(Failure::Rejected)?;
        if touched.now.as_ref().map(spaces::encode) == other.as_ref().map(spaces::encode) {
            return Ok(());
        }
        let message = format!(
            "{} keeps the position or the time of record of {}",
            P::NAME,
            recorded.envelope.event_type
        );
        Err(Failure::Rejected(Error::new(Code::NOT_KNOWN_YET, message)))
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

async fn read<P: Projection>(
    place: &Place,
    store: &dyn Store,
    key: &str,
) -> Result<Touched<P::Document>, Failure> {
    let record = store.record(place.documents().clone(), key.to_owned()).await;
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

    /// What is inline and has nothing to catch up with takes the first command already.
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let setup = super::setup_of(&*self.projection);
            if setup.is_inline {
                fence::activate(&*self.store, &self.host, self, setup.beginning()).await?;
            }
            Ok(())
        })
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(self.work_through(batch))
    }
}

impl<P: Projection> InlineModel for ProjectionHandler<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> u32 {
        P::VERSION
    }

    fn types(&self) -> Vec<EventInfo> {
        P::Event::types()
    }

    fn project<'a>(
        &'a self,
        store: &'a dyn Store,
        generation: Generation,
        events: &'a [Recorded],
    ) -> BoxFuture<'a, Result<Effects, Failure>> {
        Box::pin(async move {
            let mut batch = Batch::<P>::on(generation).map_err(Failure::Rejected)?;
            for recorded in events {
                batch.foresee(&self.projection, store, recorded).await?;
            }
            batch.effects(&*self.projection, &self.caches).map_err(Failure::Rejected)
        })
    }
}

/// Where the read model stands: everything up to here is in it.
pub(super) async fn settled(store: &dyn Store, name: &str) -> Result<Position, Error> {
    let checkpoints =
        crate::subscription::Checkpoints::load(store, &super::subscription_name(name).into()).await?;
    Ok(checkpoints.settled().into_iter().min().unwrap_or_default())
}
