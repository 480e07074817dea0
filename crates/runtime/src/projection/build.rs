//! Building a generation beside the live one: the log is folded from its beginning, documents are held in memory up to a
//! bound and written as they fill it, and the load on everybody else is bounded.
//!
//! A build runs no reaction: it reads events, calls the projection's pure functions, and writes documents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensue_core::{Error, Host, Position, RecordWrite, Store, StoreExt};
use futures_util::{StreamExt, TryStreamExt};

use super::generation::Site;
use super::pace::{Load, Pace};
use super::rebuild::{Materials, Prepared};
use super::replay::{Kept, Replayed, guarded, replay, stepwise};
use super::{Projection, encode_index};
use crate::collection::Place;
use crate::spaces;
use crate::tally::Tally;

/// Documents held in memory before they are written.
const DOCUMENTS_HELD: usize = 200_000;
/// Bytes of documents that are written in one commit at full speed.
const COMMIT_BYTES: usize = 128 * 1_024;
/// And beside others, whose commits share a frame with them.
const COMMIT_BYTES_BOUNDED: usize = 32 * 1_024;
/// Positions that are little enough to be folded while the lanes are stopped.
pub(super) const GAP: u64 = 2_000;
/// Events applied before others get a turn.
const APPLIED_TOGETHER: usize = 256;

/// How far a build is; shared with whoever watches it.
#[derive(Default, Debug)]
pub(crate) struct Progress {
    pub(crate) position: AtomicU64,
    pub(crate) head: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) micros: AtomicU64,
}

/// A generation under construction.
pub(super) struct Builder<P: Projection> {
    pub(super) projection: Arc<P>,
    pub(super) store: Arc<dyn Store>,
    pub(super) host: Host,
    load: Load,
    pace: Pace,
    progress: Arc<Progress>,
    /// Whether an event that cannot be taken is skipped; else it ends the build.
    skips: bool,
    /// Events that an operator has given up.
    pub(super) left_out: HashSet<Position>,
    pub(super) site: Site,
    place: Place,
    held: HashMap<String, Held<P::Document>>,
    /// Nothing was written yet, so what is not held does not exist.
    is_unwritten: bool,
    pub(super) position: Position,
    pub(super) events: u64,
    pub(super) kept: Kept,
    started: Duration,
    /// One for each lane; documents are counted with the first.
    pub(super) lanes: Vec<Tally>,
}

/// A document that has changed since it was written.
struct Held<D> {
    before: Option<D>,
    now: Option<D>,
}

impl<P: Projection> Builder<P> {
    pub(super) fn new(site: Site, prepared: Prepared<P>) -> Self {
        let Prepared { materials, place, skips, left_out, start, lanes } = prepared;
        let Materials { projection, store, host, load, progress, gate: _ } = materials;
        let started = host.clock.monotonic();
        Self {
            projection,
            store,
            pace: Pace::new(load, &host),
            host,
            load,
            progress,
            skips,
            left_out,
            site,
            place,
            held: HashMap::new(),
            is_unwritten: true,
            position: start,
            events: 0,
            kept: Kept::default(),
            started,
            lanes: vec![Tally { since: start, ..Tally::default() }; usize::from(lanes.max(1))],
        }
    }

    /// Folds everything up to the end of the log, again until what has come meanwhile is little, and writes it.
    pub(super) async fn catch_up(&mut self) -> Result<(), Error> {
        self.kept.check(&*self.store, P::NAME).await?;
        let mut gap = u64::MAX;
        while gap > GAP {
            let head = self.store.head().await?;
            gap = head.0.saturating_sub(self.position.0);
            self.fold_until(head).await?;
        }
        self.kept.check(&*self.store, P::NAME).await?;
        self.write().await
    }

    /// Folds everything up to a position.
    pub(super) async fn fold_until(&mut self, until: Position) -> Result<(), Error> {
        self.progress.head.store(until.0, Ordering::Relaxed);
        let store = Arc::clone(&self.store);
        let mut ranges = match self.load {
            Load::Full => replay::<P>(&store, self.position, until).left_stream(),
            _ => stepwise::<P>(&store, self.position, until).right_stream(),
        };
        while let Some((end, events)) = ranges.try_next().await? {
            let count = events.len() as u64;
            self.apply_all(events).await?;
            self.position = end;
            self.events += count;
            if self.held.len() >= DOCUMENTS_HELD {
                self.write().await?;
            }
            self.note_progress();
            self.pace.pause(count).await;
        }
        self.position = self.position.max(until);
        Ok(())
    }

    /// For work beside the fold, at the same load.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.load, &self.host)
    }

    fn note_progress(&self) {
        let micros = self.host.clock.monotonic().saturating_sub(self.started).as_micros();
        self.progress.position.store(self.position.0, Ordering::Relaxed);
        self.progress.events.store(self.events, Ordering::Relaxed);
        self.progress.micros.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn apply_all(&mut self, events: Vec<Replayed<P::Event>>) -> Result<(), Error> {
        for (index, replayed) in events.into_iter().enumerate() {
            if index % APPLIED_TOGETHER == APPLIED_TOGETHER - 1 {
                tokio::task::yield_now().await;
            }
            let (position, key) = (replayed.meta.position, replayed.meta.stream.key.clone());
            let lanes = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
            let lane = usize::from(spaces::spread(key.as_str(), lanes));
            let id = replayed.meta.envelope.id.clone();
            let applied = self.apply(replayed).await;
            if let Some(tally) = self.lanes.get_mut(lane) {
                tally.take(position, id.as_str());
                tally.skipped += u64::from(applied.is_err());
            }
            if let Err(error) = applied
                && !self.skips
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn apply(&mut self, Replayed { meta, event }: Replayed<P::Event>) -> Result<(), Error> {
        if self.left_out.contains(&meta.position) {
            return Ok(());
        }
        let event = event?;
        let projection = Arc::clone(&self.projection);
        let Some(key) = guarded(|| projection.key(&event))? else { return Ok(()) };
        let document = match self.held.get_mut(&key) {
            Some(held) => held,
            None => {
                let before = if self.is_unwritten { None } else { self.written(&key).await? };
                let now = before.clone();
                self.held.entry(key).or_insert(Held { before, now })
            }
        };
        let untouched = self.skips.then(|| document.now.clone());
        let applied = guarded(|| projection.apply(&mut document.now, &event, &meta));
        if applied.is_err()
            && let Some(untouched) = untouched
        {
            document.now = untouched;
        }
        applied
    }

    async fn written(&self, key: &str) -> Result<Option<P::Document>, Error> {
        let record = self.store.record(self.place.documents().clone(), key.to_owned()).await?;
        record.map(|record| spaces::decode("document", &record.value)).transpose()
    }

    /// Writes what is held, in bounded commits, and lets go of it.
    pub(super) async fn write(&mut self) -> Result<(), Error> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut documents = Tally::default();
        let bytes_max = if self.load == Load::Full { COMMIT_BYTES } else { COMMIT_BYTES_BOUNDED };
        let mut held: Vec<_> = std::mem::take(&mut self.held).into_iter().collect();
        // In the order of the store, neighbours are written together.
        held.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (key, Held { before, now }) in held {
            let (was, is) = (before.as_ref().map(spaces::encode), now.as_ref().map(spaces::encode));
            if was == is {
                continue;
            }
            was.inspect(|was| documents.remove(key.as_bytes(), was));
            is.iter().for_each(|is| documents.put(key.as_bytes(), is));
            bytes += is.as_ref().map_or(0, bytes::Bytes::len) + key.len();
            let index = |document: &Option<P::Document>| encode_index(&*self.projection, document.as_ref());
            let (before, now) = guarded(|| (index(&before), index(&now)))?;
            records.extend(self.place.replace(&key, is, &before, &now));
            if bytes >= bytes_max {
                bytes = 0;
                self.put(std::mem::take(&mut records)).await?;
                self.pace.pause(0).await;
            }
        }
        if !records.is_empty() {
            self.put(records).await?;
        }
        if let Some(first) = self.lanes.first_mut() {
            *first = first.and(documents);
        }
        Ok(())
    }

    async fn put(&mut self, records: Vec<RecordWrite>) -> Result<(), Error> {
        self.is_unwritten = false;
        self.site.write(&*self.store, records).await
    }
}
