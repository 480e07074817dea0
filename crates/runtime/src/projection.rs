//! Projections: read models fed from the log, in one commit with their checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    BoxFuture, Commit, Error, EventInfo, EventSet, EventType, Failure, Position, Query, Read, RecordScan,
    RecordWrite, Recorded, Space, Store, StoreExt,
};
use futures_util::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Invalidate;
use crate::collection::{Collection, Place};
use crate::context::Meta;
use crate::effects::Effects;
use crate::spaces;
use crate::subscription::{Handled, Handler};

mod history;
pub use history::{blame, document_at};

/// A read model: which document an event belongs to, and what it changes there. Pure: no I/O, no clock, so that it
/// can be rebuilt at any time.
pub trait Projection: Send + Sync + 'static {
    /// Its name; owns checkpoint and documents.
    const NAME: &'static str;
    /// Raise it when `apply` or the shape of the document changes: the read model is then built anew beside the old one.
    const VERSION: u32 = 1;
    /// The events it is fed with.
    type Event: EventSet;
    /// What it keeps.
    type Document: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// The key of the document this event changes; `None` for an event that changes nothing.
    fn key(&self, event: &Self::Event) -> Option<String>;

    /// Changes the document. It starts as `None` and is removed by setting it to `None`.
    fn apply(&self, document: &mut Option<Self::Document>, event: &Self::Event, meta: &Meta);

    /// Under what the document can be found besides its key: (index, value).
    fn index(&self, _document: &Self::Document) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Names of cached values that are out of date when this document changes.
    fn invalidates(&self, _document: &Self::Document) -> Vec<String> {
        Vec::new()
    }
}

/// The documents of a projection, as they stand in this store.
pub fn collection<P: Projection>(store: Arc<dyn Store>) -> Result<Collection<P::Document>, Error> {
    Ok(Collection::at(store, Place::new(P::NAME, P::VERSION)?))
}

/// A projection as the lanes run it.
pub(crate) struct ProjectionHandler<P> {
    pub(crate) projection: Arc<P>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) place: Place,
    pub(crate) caches: Vec<Arc<dyn Invalidate>>,
}

struct Touched<D> {
    before: Option<D>,
    now: Option<D>,
}

impl<P: Projection> ProjectionHandler<P> {
    pub(crate) fn types() -> Vec<EventInfo> {
        P::Event::types()
    }

    async fn apply(&self, batch: &[Recorded]) -> Handled {
        let mut touched: HashMap<String, Touched<P::Document>> = HashMap::new();
        let mut done = Handled::default();
        for recorded in batch {
            if let Err(failure) = self.apply_one(&mut touched, recorded).await {
                done.failure = Some(failure);
                break;
            }
            done.count += 1;
        }
        done.effects = self.effects(touched);
        done
    }

    async fn apply_one(
        &self,
        touched: &mut HashMap<String, Touched<P::Document>>,
        recorded: &Recorded,
    ) -> Result<(), Failure> {
        // What cannot be decoded now will not decode on the next attempt either.
        let event: P::Event = recorded.decode().map_err(Failure::Rejected)?;
        let Some(key) = self.projection.key(&event) else { return Ok(()) };
        if !touched.contains_key(&key) {
            let read = self.store.record(self.place.documents().clone(), key.clone()).await;
            let stored = read.map_err(Failure::Failed)?;
            let before: Option<P::Document> = stored
                .map(|record| spaces::decode("document", &record.value))
                .transpose()
                .map_err(Failure::Rejected)?;
            touched.insert(key.clone(), Touched { now: before.clone(), before });
        }
        if let Some(document) = touched.get_mut(&key) {
            self.projection.apply(&mut document.now, &event, &Meta::from(recorded));
        }
        Ok(())
    }

    fn effects(&self, touched: HashMap<String, Touched<P::Document>>) -> Effects {
        let mut effects = Effects::default();
        let mut stale = Vec::new();
        for (key, Touched { before, now }) in touched {
            let index = |document: &Option<P::Document>| {
                document.as_ref().map(|document| self.projection.index(document)).unwrap_or_default()
            };
            let value = now.as_ref().map(spaces::encode);
            effects.records.extend(self.place.replace(&key, value, &index(&before), &index(&now)));
            for document in [&before, &now].into_iter().flatten() {
                stale.extend(self.projection.invalidates(document));
            }
        }
        stale.sort_unstable();
        stale.dedup();
        for cache in self.caches.iter().filter(|_| !stale.is_empty()) {
            let (cache, stale) = (Arc::clone(cache), stale.clone());
            effects.after.push(Box::new(move || {
                for name in stale {
                    // Invalidation in memory is done at the first poll.
                    let _done = futures_util::FutureExt::now_or_never(cache.invalidate(name));
                }
            }));
        }
        effects
    }
}

impl<P: Projection> Handler for ProjectionHandler<P> {
    fn types(&self) -> Vec<EventType> {
        P::Event::types().iter().filter_map(|info| EventType::new(info.event_type).ok()).collect()
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(self.apply(batch))
    }
}

/// How a read model differs from a fresh replay of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Difference {
    /// Events replayed.
    pub events: u64,
    /// Documents compared.
    pub documents: u64,
    /// Keys that the replay has and the read model lacks.
    pub missing: Vec<String>,
    /// Keys that the read model has and the replay lacks.
    pub added: Vec<String>,
    /// Keys whose documents differ.
    pub different: Vec<String>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.added.is_empty() && self.different.is_empty()
    }
}

/// Replays the log into memory, up to where the read model stands, and compares document by document.
pub async fn verify<P: Projection>(projection: P, store: Arc<dyn Store>) -> Result<Difference, Error> {
    let floor = settled(&*store, P::NAME).await?;
    let place = Place::new(P::NAME, P::VERSION)?;
    let (replayed, events) = replay(&projection, &*store, floor).await?;
    let mut difference = Difference { events, ..Difference::default() };
    let mut stored = HashMap::new();
    for record in store.records(RecordScan::all(place.documents().clone())).await? {
        stored.insert(String::from_utf8_lossy(&record.key).into_owned(), record.value);
    }
    for (key, value) in &replayed {
        difference.documents += 1;
        match stored.remove(key) {
            None => difference.missing.push(key.clone()),
            Some(found) if found != *value => difference.different.push(key.clone()),
            Some(_) => {}
        }
    }
    difference.added = stored.into_keys().collect();
    for keys in [&mut difference.missing, &mut difference.added, &mut difference.different] {
        keys.sort_unstable();
    }
    Ok(difference)
}

/// Builds the read model anew from the log, up to where the old one stands, and puts it in its place. Says what
/// differed. The application must not run on the store meanwhile.
pub async fn rebuild<P: Projection>(projection: P, store: Arc<dyn Store>) -> Result<Difference, Error> {
    let projection = Arc::new(projection);
    let difference = verify(Shared(Arc::clone(&projection)), Arc::clone(&store)).await?;
    let place = Place::new(P::NAME, P::VERSION)?;
    let mut writes: HashMap<(Space, Bytes), RecordWrite> = HashMap::new();
    let mut add = |write: RecordWrite| drop(writes.insert((write.space.clone(), write.key.clone()), write));
    for space in place.spaces() {
        let old = store.records(RecordScan::all(space.clone())).await?;
        old.into_iter().for_each(|record| add(RecordWrite::delete(space.clone(), record.key)));
    }
    let (replayed, _) = replay(&*projection, &*store, settled(&*store, P::NAME).await?).await?;
    for (key, value) in replayed {
        let document: P::Document = spaces::decode("document", &value)?;
        place.replace(&key, Some(value), &[], &projection.index(&document)).into_iter().for_each(&mut add);
    }
    let writes: Vec<RecordWrite> = writes.into_values().collect();
    for together in writes.chunks(REBUILD_TOGETHER) {
        store.commit(Commit { records: together.to_vec(), ..Commit::default() }).await?;
    }
    Ok(difference)
}

/// Documents that a rebuild writes in one commit.
const REBUILD_TOGETHER: usize = 2_000;

/// Lets a projection be used twice.
struct Shared<P>(Arc<P>);

impl<P: Projection> Projection for Shared<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u32 = P::VERSION;
    type Event = P::Event;
    type Document = P::Document;

    fn key(&self, event: &P::Event) -> Option<String> {
        self.0.key(event)
    }

    fn apply(&self, document: &mut Option<P::Document>, event: &P::Event, meta: &Meta) {
        self.0.apply(document, event, meta);
    }
}

async fn replay<P: Projection>(
    projection: &P,
    store: &dyn Store,
    until: Position,
) -> Result<(HashMap<String, Bytes>, u64), Error> {
    let types = P::Event::types()
        .iter()
        .map(|info| EventType::new(info.event_type))
        .collect::<Result<Vec<_>, _>>()?;
    let mut documents: HashMap<String, Option<P::Document>> = HashMap::new();
    let mut count = 0;
    let mut events = store.read(Read::query(Query::types(types)).until(until));
    while let Some(recorded) = events.try_next().await? {
        let event: P::Event = recorded.decode()?;
        count += 1;
        if let Some(key) = projection.key(&event) {
            projection.apply(documents.entry(key).or_default(), &event, &Meta::from(&recorded));
        }
    }
    let documents =
        documents.into_iter().filter_map(|(key, document)| Some((key, spaces::encode(&document?))));
    Ok((documents.collect(), count))
}

/// Where the projection stands.
async fn settled(store: &dyn Store, name: &str) -> Result<Position, Error> {
    let checkpoints = crate::subscription::Checkpoints::load(store, &subscription_name(name).into()).await?;
    Ok(checkpoints.settled().into_iter().min().unwrap_or_default())
}

/// The name that a projection's checkpoint goes by.
pub(crate) fn subscription_name(name: &str) -> String {
    format!("view.{name}")
}
