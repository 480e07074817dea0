//! A read model compared with a replay of the log, document by document, also while it goes on changing.
//!
//! A document that differs may only have moved on since the replay. So the events that have come since are applied to what
//! was expected, one after the other, and the document is a difference only if it never was what it should have been.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Error, Position, RecordScan, Space, Store, StoreExt};
use futures_util::TryStreamExt;
use serde::Serialize;

use super::generation;
use super::handler::own;
use super::pace::Pace;
use super::replay::{Replayed, guarded, replay};
use super::{Projection, setup_of, subscription_name};
use crate::policy::OnFailure;
use crate::spaces::{self, DEAD, DISCARDED};
use crate::subscription::Checkpoints;

/// Documents that a comparison holds in memory; of more, it takes one part after the other.
const DOCUMENTS_HELD: usize = 500_000;
/// Documents that are looked at again because they differ at first sight; more are taken to differ.
const SUSPECTS_MAX: usize = 100_000;
/// Keys that a difference lists of each sort.
pub(super) const LISTED_MAX: usize = 1_000;
/// Documents compared at once.
const PAGE: usize = 512;

/// How a read model differs from a fresh replay of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Difference {
    /// Events replayed.
    pub events: u64,
    /// Documents compared.
    pub documents: u64,
    /// Keys that the replay has and the read model lacks; of each sort at most 1,000 are listed.
    pub missing: Vec<String>,
    /// Keys that the read model has and the replay lacks.
    pub added: Vec<String>,
    /// Keys whose documents differ.
    pub different: Vec<String>,
    /// How many more keys differ than are listed.
    pub unlisted: u64,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.added.is_empty() && self.different.is_empty() && self.unlisted == 0
    }

    /// How much differs, in a sentence.
    pub fn in_words(&self) -> String {
        let (missing, added, different) = (self.missing.len(), self.added.len(), self.different.len());
        let unlisted = if self.unlisted > 0 { format!(", {} more", self.unlisted) } else { String::new() };
        format!("{missing} documents are missing, {added} are too many, {different} differ{unlisted}")
    }

    fn list(&mut self, key: &[u8], expected: Option<&Bytes>, found: Option<&Bytes>) {
        let list = match (expected, found) {
            (_, None) => &mut self.missing,
            (None, Some(_)) => &mut self.added,
            (Some(_), Some(_)) => &mut self.different,
        };
        if list.len() < LISTED_MAX {
            list.push(String::from_utf8_lossy(key).into_owned());
        } else {
            self.unlisted += 1;
        }
    }

    fn sort(&mut self) {
        for keys in [&mut self.missing, &mut self.added, &mut self.different] {
            keys.sort_unstable();
        }
    }
}

/// What the documents should be, as of one position.
pub(super) enum Expected {
    /// Of one part of the keys.
    Folded { documents: BTreeMap<Bytes, Bytes>, part: Part },
    /// Another generation, complete.
    Stored(Space),
}

/// One of so many parts of all keys.
#[derive(Clone, Copy)]
pub(super) struct Part {
    number: u16,
    of: u16,
}

impl Part {
    fn holds(self, key: &str) -> bool {
        self.of == 1 || spaces::spread(key, self.of) == self.number
    }
}

/// A document that is not as expected at first sight.
struct Suspect {
    expected: Option<Bytes>,
    found: Option<Bytes>,
}

type Documents = BTreeMap<Bytes, Bytes>;
/// A key with its document, if there is one.
type Keyed<P> = (String, Option<<P as Projection>::Document>);

impl Expected {
    /// What is expected of the keys in `[from, until)`.
    async fn range(
        &self,
        store: &dyn Store,
        from: &Bytes,
        until: Option<&Bytes>,
    ) -> Result<Documents, Error> {
        let space = match self {
            Self::Folded { documents, .. } => {
                let from = documents.range(from.clone()..);
                let before = from.take_while(|(key, _)| until.is_none_or(|until| *key < until));
                return Ok(before.map(|(key, value)| (key.clone(), value.clone())).collect());
            }
            Self::Stored(space) => space,
        };
        let scan = RecordScan {
            from: from.clone(),
            until: until.cloned(),
            ..RecordScan::all(space.clone()).limit(PAGE)
        };
        let records = store.records(scan).await?;
        Ok(records.into_iter().map(|record| (record.key, record.value)).collect())
    }

    fn concerns(&self, key: &[u8]) -> bool {
        match self {
            Self::Folded { part, .. } => part.holds(&String::from_utf8_lossy(key)),
            Self::Stored(_) => true,
        }
    }
}

/// A comparison under way.
pub(super) struct Comparison<'a, P> {
    pub(super) projection: &'a P,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) left_out: &'a HashSet<Position>,
}

impl<P: Projection> Comparison<'_, P> {
    /// Compares the documents in `live` with what is expected of them as of `at`, and adds what differs.
    pub(super) async fn compare(
        &self,
        live: &Space,
        expected: &Expected,
        at: Position,
        mut pace: Pace,
        difference: &mut Difference,
    ) -> Result<(), Error> {
        let mut suspects = HashMap::new();
        let mut from = Bytes::new();
        loop {
            let scan = RecordScan { from: from.clone(), ..RecordScan::all(live.clone()).limit(PAGE) };
            let page = self.store.scan(scan).await?;
            let mut should_be = expected.range(&**self.store, &from, page.next.as_ref()).await?;
            for record in page.records.into_iter().filter(|record| expected.concerns(&record.key)) {
                difference.documents += 1;
                let expected = should_be.remove(&record.key);
                if expected.as_ref() != Some(&record.value) {
                    suspect(
                        &mut suspects,
                        difference,
                        record.key,
                        Suspect { expected, found: Some(record.value) },
                    );
                }
            }
            for (key, expected) in should_be {
                difference.documents += 1;
                suspect(&mut suspects, difference, key, Suspect { expected: Some(expected), found: None });
            }
            pace.pause(0).await;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.clear_up(suspects, at, difference).await
    }

    /// Looks at what has come since, and adds the suspects that it does not explain.
    async fn clear_up(
        &self,
        mut suspects: HashMap<Bytes, Suspect>,
        at: Position,
        difference: &mut Difference,
    ) -> Result<(), Error> {
        if suspects.is_empty() {
            return Ok(());
        }
        let mut now = HashMap::new();
        for (key, suspect) in &suspects {
            let document: Option<P::Document> =
                suspect.expected.as_ref().map(|value| spaces::decode("document", value)).transpose()?;
            now.insert(String::from_utf8_lossy(key).into_owned(), document);
        }
        // Everything that the documents showed when they were read is in the log up to here.
        let head = self.store.head().await?;
        let mut ranges = std::pin::pin!(replay::<P>(self.store, at, head));
        while let Some((_, events)) = ranges.try_next().await? {
            for replayed in events {
                let Some((key, document)) = self.apply(replayed, |key| now.remove_entry(key))? else {
                    continue;
                };
                let value = document.as_ref().map(spaces::encode);
                let key_bytes = Bytes::copy_from_slice(key.as_bytes());
                if let Some(suspect) = suspects.get_mut(&key_bytes) {
                    if suspect.found == value {
                        suspects.remove(&key_bytes);
                        continue;
                    }
                    suspect.expected = value;
                }
                now.insert(key, document);
            }
        }
        suspects.iter().for_each(|(key, suspect)| {
            difference.list(key, suspect.expected.as_ref(), suspect.found.as_ref());
        });
        difference.sort();
        Ok(())
    }

    /// Applies an event to the document that `take` hands out for its key; gives both back. `None`: it concerns none.
    fn apply(
        &self,
        Replayed { meta, event }: Replayed<P::Event>,
        take: impl FnOnce(&str) -> Option<Keyed<P>>,
    ) -> Result<Option<Keyed<P>>, Error> {
        if self.left_out.contains(&meta.position) {
            return Ok(None);
        }
        let skips = setup_of(self.projection).settings.on_failure == OnFailure::Skip;
        let applied = event.and_then(|event| {
            let Some(key) = guarded(|| self.projection.key(&event))? else { return Ok(None) };
            let Some((key, mut document)) = take(&key) else { return Ok(None) };
            let before = skips.then(|| document.clone());
            let applied = guarded(|| self.projection.apply(&mut document, &event, &meta));
            match (applied, before) {
                (Err(_), Some(before)) => document = before,
                (applied, _) => applied?,
            }
            Ok(Some((key, document)))
        });
        if skips { Ok(applied.unwrap_or_default()) } else { applied }
    }

    /// Compares one part of the keys after the other. `None` if one part is more than memory shall hold.
    async fn in_parts(&self, of: u16, until: Position, live: &Space) -> Result<Option<Difference>, Error> {
        let mut difference = Difference::default();
        for number in 0..of {
            let part = Part { number, of };
            let Some((documents, events)) = self.fold(until, part).await? else { return Ok(None) };
            difference.events = events;
            let expected = Expected::Folded { documents, part };
            self.compare(live, &expected, until, Pace::Full, &mut difference).await?;
        }
        Ok(Some(difference))
    }

    /// Folds the documents of a part up to a position. `None` if they are more than memory shall hold.
    async fn fold(&self, until: Position, part: Part) -> Result<Option<(Documents, u64)>, Error> {
        let mut documents: HashMap<String, Option<P::Document>> = HashMap::new();
        let mut count = 0;
        let mut ranges =
            std::pin::pin!(replay::<P>(self.store, setup_of(self.projection).beginning(), until));
        while let Some((_, events)) = ranges.try_next().await? {
            count += events.len() as u64;
            for replayed in events {
                let applied = self.apply(replayed, |key| {
                    let known = part.holds(key).then(|| documents.remove_entry(key));
                    known.map(|known| known.unwrap_or_else(|| (key.to_owned(), None)))
                })?;
                documents.extend(applied);
            }
            if documents.len() > DOCUMENTS_HELD {
                return Ok(None);
            }
        }
        let there = documents
            .into_iter()
            .filter_map(|(key, document)| Some((Bytes::from(key), spaces::encode(&document?))));
        Ok(Some((there.collect(), count)))
    }
}

fn suspect(
    suspects: &mut HashMap<Bytes, Suspect>,
    difference: &mut Difference,
    key: Bytes,
    suspect: Suspect,
) {
    if suspects.len() < SUSPECTS_MAX {
        suspects.insert(key, suspect);
    } else {
        difference.unlisted += 1;
    }
}

/// Replays the log up to where the read model stands and compares document by document. The application may run on the
/// store meanwhile. Memory is bounded: of a large read model one part after the other is compared, each with a replay.
///
/// Errors: `E0320` if the live read model was built by another `VERSION`, and what the projection makes of an event it
/// cannot take. Events that are parked or were discarded are left out, as they are of the read model.
pub async fn verify<P: Projection>(projection: P, store: Arc<dyn Store>) -> Result<Difference, Error> {
    let live = generation::live(&*store, P::NAME, P::VERSION).await?.generation;
    let place = own::<P>(live)?.place(P::NAME)?;
    let mut left_out = positions(&*store, P::NAME, &DEAD).await?;
    left_out.extend(positions(&*store, P::NAME, &DISCARDED).await?);
    let until = super::handler::settled(&*store, P::NAME).await?;
    let comparison = Comparison { projection: &projection, store: &store, left_out: &left_out };
    let mut parts = 1;
    loop {
        if let Some(difference) = comparison.in_parts(parts, until, place.documents()).await? {
            return Ok(difference);
        }
        parts *= 2;
    }
}

/// The positions of the letters of a projection, parked or discarded.
pub(super) async fn positions(
    store: &dyn Store,
    name: &str,
    space: &Space,
) -> Result<HashSet<Position>, Error> {
    let prefix = spaces::within(&[&subscription_name(name)]);
    let records = store.records(RecordScan::prefix(space.clone(), prefix)).await?;
    let ends = records.iter().filter_map(|record| record.key.last_chunk::<8>());
    Ok(ends.map(|end| Position(u64::from_be_bytes(*end))).collect())
}

/// How many lanes the read model has; zero if it has never run.
pub(super) async fn lane_count(store: &dyn Store, name: &str) -> Result<u16, Error> {
    Ok(Checkpoints::load(store, &subscription_name(name).into()).await?.lane_count())
}
