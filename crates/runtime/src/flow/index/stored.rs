//! The index in the store: loaded, caught up with the log, saved by compare-and-set.
//!
//! Invariant: position, figures and open flows change in one commit that expects the revision they were read at, so two
//! processes that fold the same log cannot mix their results: the slower one takes over what the faster one has stored.

use std::collections::HashSet;

use ensue_core::{
    Commit, CommitError, Error, EventId, Position, Read, RecordScan, RecordWrite, Recorded, Revision, Store,
    StoreExt,
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::entry::Copied;
use super::{Completeness, Figures, Index, OpenFlow};
use crate::catalogue::Catalogue;
use crate::spaces::{self, FLOW_INDEX, FLOW_KIND, FLOW_OPEN};

/// The one record that says how far the index is.
const STATE: &str = "state";
/// Changed when stored entries mean something else than before; then the index is folded again.
const FORMAT: u32 = 1;
/// Events that are read before they are folded.
const PAGE: usize = 1_024;
/// An entry that has changed this far before the position leaves the memory; the store has it.
const FORGET_AFTER: u64 = 16_384;
/// Flows that change between two saves, about: a commit stays far below what any store takes.
const CHANGES_MAX: usize = 2_048;

#[derive(Serialize, Deserialize)]
struct State {
    position: Position,
    /// Of the declarations that entries were made by.
    declarations: String,
    completeness: Completeness,
}

/// What the store holds of an index.
enum Stored {
    None,
    Whole(Box<Index>, Revision),
    /// Made by other declarations or in another format.
    Foreign(Revision),
}

/// What came of going on with the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reached {
    /// Everything that was to be folded is.
    Target,
    /// So much has changed that it should be saved first.
    Limit,
}

impl Index {
    /// What is stored, with every open flow. Empty where nothing is stored, or what is stored cannot be gone on with.
    pub(crate) async fn load(store: &dyn Store, catalogue: &Catalogue) -> Result<Self, Error> {
        let mut index = Self::load_figures(store, catalogue).await?;
        if index.position > Position::ZERO {
            for record in store.records(RecordScan::all(FLOW_OPEN.clone())).await? {
                let id = EventId::new(String::from_utf8_lossy(&record.key))?;
                index.open.insert(id, decode(&record.value)?);
            }
        }
        Ok(index)
    }

    /// The same without the open flows.
    pub(crate) async fn load_figures(store: &dyn Store, catalogue: &Catalogue) -> Result<Self, Error> {
        Ok(match Self::stored(store, catalogue).await? {
            Stored::Whole(index, _) => *index,
            Stored::None | Stored::Foreign(_) => Self::new(catalogue.clone()),
        })
    }

    /// What is stored without the open flows, which are fetched when an event of them comes, and the revision that a save
    /// expects. What cannot be gone on with is removed.
    pub(crate) async fn take_up(store: &dyn Store) -> Result<(Self, Revision), Error> {
        loop {
            let catalogue = Catalogue::merged(store).await?;
            match Self::stored(store, &catalogue).await? {
                Stored::Whole(index, revision) => return Ok((*index, revision)),
                Stored::None => return Ok((Self::new(catalogue), Revision::ZERO)),
                Stored::Foreign(revision) => clear(store, revision).await?,
            }
        }
    }

    async fn stored(store: &dyn Store, catalogue: &Catalogue) -> Result<Stored, Error> {
        let Some(record) = store.record(FLOW_INDEX.clone(), STATE).await? else { return Ok(Stored::None) };
        // One of another format is no error: it is folded again.
        let state = serde_json::from_slice::<State>(&record.value).ok();
        let Some(state) = state.filter(|state| state.declarations == declarations(catalogue)) else {
            return Ok(Stored::Foreign(record.revision));
        };
        let mut index = Self::new(catalogue.clone());
        index.position = state.position;
        index.completeness = state.completeness;
        for record in store.records(RecordScan::all(FLOW_KIND.clone())).await? {
            let kind = SmolStr::from(String::from_utf8_lossy(&record.key));
            index.kinds.insert(kind, spaces::decode("flow figures", &record.value)?);
        }
        Ok(Stored::Whole(Box::new(index), record.revision))
    }

    /// Folds on up to `until`, or until enough has changed. Open flows that are not in memory are fetched.
    pub(crate) async fn advance(&mut self, store: &dyn Store, until: Position) -> Result<Reached, Error> {
        let read = Read::all().after(self.position).until(until);
        let mut events = store.read(read).try_ready_chunks(PAGE);
        while let Some(page) = events.try_next().await.map_err(|error| error.1)? {
            self.fetch(store, &page).await?;
            page.iter().for_each(|recorded| self.fold(recorded));
            if self.changed >= CHANGES_MAX {
                return Ok(Reached::Limit);
            }
            // Whoever serves orders goes first.
            tokio::task::yield_now().await;
        }
        Ok(Reached::Target)
    }

    /// Folds on up to `until`, where everything that is open is in memory and nothing is saved.
    pub(crate) async fn advance_in_memory(
        &mut self,
        store: &dyn Store,
        until: Position,
    ) -> Result<(), Error> {
        let mut events = store.read(Read::all().after(self.position).until(until));
        while let Some(recorded) = events.try_next().await? {
            self.fold(&recorded);
        }
        Ok(())
    }

    async fn fetch(&mut self, store: &dyn Store, page: &[Recorded]) -> Result<(), Error> {
        let mut seen: HashSet<&EventId> = HashSet::with_capacity(page.len());
        for Recorded { envelope, .. } in page {
            let id = envelope.flow();
            // Only of a flow that began before the page, and is not in memory, the store may know more.
            if seen.insert(id) && envelope.correlation.is_some() && !self.open.contains_key(id) {
                let id = id.clone();
                let known = store.record(FLOW_OPEN.clone(), id.as_str().to_owned()).await?;
                // An entry newer than the index is of a process that is ahead; a save of ours will find out.
                if let Some(flow) = known.map(|record| decode(&record.value)).transpose()?
                    && flow.last <= self.position
                {
                    self.open.insert(id, flow);
                }
            }
        }
        Ok(())
    }

    /// Stores what has changed. `None`: another process has saved meanwhile, and what it stored must be loaded.
    pub(crate) async fn save(
        &mut self,
        store: &dyn Store,
        expected: Revision,
    ) -> Result<Option<Revision>, Error> {
        let state = State {
            position: self.position,
            declarations: declarations(&self.catalogue),
            completeness: self.completeness.clone(),
        };
        let state = RecordWrite::put(FLOW_INDEX.clone(), STATE, spaces::encode(&state)).expect(expected);
        let mut records = vec![state];
        let kind = |(kind, figures): (&SmolStr, &Figures)| {
            RecordWrite::put(FLOW_KIND.clone(), kind.to_string(), spaces::encode(figures))
        };
        records.extend(self.kinds.iter().map(kind));
        let changed = self.open.iter().filter(|(_, flow)| flow.copy != Copied::Same);
        records.extend(changed.map(|(id, flow)| {
            RecordWrite::put(FLOW_OPEN.clone(), id.as_str().to_owned(), spaces::encode(flow))
        }));
        records.extend(
            self.gone.iter().map(|id| RecordWrite::delete(FLOW_OPEN.clone(), id.as_str().to_owned())),
        );
        match store.commit(Commit { records, ..Commit::default() }).await {
            Ok(committed) => {
                self.saved();
                Ok(Some(committed.revision))
            }
            Err(CommitError::RecordConflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn saved(&mut self) {
        self.gone.clear();
        self.changed = 0;
        let forget = Position(self.position.0.saturating_sub(FORGET_AFTER));
        // What is to be looked at for its end stays.
        let kept: HashSet<&EventId> = self.touched.iter().collect();
        self.open.retain(|id, flow| {
            flow.copy = Copied::Same;
            flow.last > forget || kept.contains(id)
        });
    }
}

/// Removes what is stored of an index that cannot be gone on with.
async fn clear(store: &dyn Store, expected: Revision) -> Result<(), Error> {
    let mut records = vec![RecordWrite::delete(FLOW_INDEX.clone(), STATE).expect(expected)];
    for space in [&*FLOW_KIND, &*FLOW_OPEN] {
        let stale = store.records(RecordScan::all(space.clone())).await?;
        records.extend(stale.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)));
    }
    match store.commit(Commit { records, ..Commit::default() }).await {
        // Whoever was quicker has cleared it, or made a new one.
        Ok(_) | Err(CommitError::RecordConflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn decode(value: &[u8]) -> Result<OpenFlow, Error> {
    let mut flow: OpenFlow = spaces::decode("open flow", value)?;
    flow.copy = Copied::Same;
    Ok(flow)
}

/// What entries depend on besides the log. Text, so that a person can see what has changed.
fn declarations(catalogue: &Catalogue) -> String {
    let flows = serde_json::to_string(&(FORMAT, &catalogue.flows, &catalogue.external));
    let flows = flows.expect("our own records always encode");
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, flows.as_bytes()).to_string()
}
