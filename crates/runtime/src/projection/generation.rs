//! Generations of a read model: which one readers see, which one is being built, and which ones are to be removed.
//!
//! Invariant: the record of the live generation changes in the commit that also moves the checkpoints to where the new
//! generation stands, so that no event falls between the two.

use ensue_core::{
    Code, Commit, CommitError, Durability, Error, RecordScan, RecordWrite, Revision, Space, Store, StoreExt,
    Transaction,
};
use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::subscription_name;
use crate::collection::Place;
use crate::spaces::{self, VIEW};

/// Records that are removed in one commit.
const REMOVED_TOGETHER: usize = 256;

const BUILDING: &str = "building";
const RETIRED: &str = "retired";

/// One building of a read model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// The `VERSION` of the code that built it.
    pub version: u32,
    /// Which building of that version, from 0.
    pub number: u64,
}

impl Generation {
    /// The first building of a version.
    pub(crate) fn first(version: u32) -> Self {
        Self { version, number: 0 }
    }

    /// Where its documents stand.
    pub(crate) fn place(self, name: &str) -> Result<Place, Error> {
        match self {
            Self { version, number: 0 } => Place::at(&format!("view.{name}.{version}")),
            Self { version, number } => Place::at(&format!("view.{name}.{version}-{number}")),
        }
    }

    /// Nothing of it is left.
    pub(crate) fn forget_retired(self, name: &str) -> RecordWrite {
        RecordWrite::delete(VIEW.clone(), self.retired_key(name))
    }

    fn retired_key(self, name: &str) -> bytes::Bytes {
        spaces::join(&[name, RETIRED, &format!("{}-{}", self.version, self.number)])
    }
}

/// The generation that readers see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Live {
    pub(crate) generation: Generation,
    /// Changes with every switch; zero before the read model has run for the first time.
    pub(crate) revision: Revision,
}

/// The live generation; that of `version` where nothing is on record.
pub(crate) async fn live(store: &dyn Store, name: &str, version: u32) -> Result<Live, Error> {
    let record = store.record(VIEW.clone(), spaces::join(&[name])).await?;
    let Some(record) = record else {
        return Ok(Live { generation: Generation::first(version), revision: Revision::ZERO });
    };
    Ok(Live { generation: spaces::decode("read model", &record.value)?, revision: record.revision })
}

/// Puts the first generation on record, so that a later version is recognised as one. Does nothing if there is one.
pub(crate) async fn settle(store: &dyn Store, name: &str, version: u32) -> Result<Live, Error> {
    let found = live(store, name, version).await?;
    if found.revision > Revision::ZERO {
        return Ok(found);
    }
    let records = vec![live_write(name, found.generation).expect(Revision::ZERO)];
    match store.commit(Commit { records, ..Commit::default() }).await {
        Ok(_) | Err(CommitError::RecordConflict { .. }) => live(store, name, version).await,
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn live_write(name: &str, generation: Generation) -> RecordWrite {
    RecordWrite::put(VIEW.clone(), spaces::join(&[name]), spaces::encode(&generation))
}

/// A generation under construction; on record, so that what an interrupted build leaves behind is found again.
pub(crate) struct Site {
    pub(crate) generation: Generation,
    name: String,
    /// Fences the build: who begins another one takes it over.
    revision: Revision,
}

impl Site {
    /// Begins a generation that is neither live nor left over. An earlier build that was under way is given up. `E0203` if another one
    /// has begun or ended meanwhile.
    pub(crate) async fn open(store: &dyn Store, name: &str, version: u32) -> Result<Self, Error> {
        let key = spaces::join(&[name, BUILDING]);
        let left = store.record(VIEW.clone(), key.clone()).await?;
        let mut taken = retired(store, name).await?;
        let live_now = live(store, name, version).await?.generation;
        taken.push(live_now);
        let mut records = Vec::new();
        if let Some(left) = &left {
            let abandoned: Generation = spaces::decode("read model", &left.value)?;
            // One that was begun too late, see below, has nothing to remove.
            if abandoned != live_now {
                let key = abandoned.retired_key(name);
                records.push(RecordWrite::put(VIEW.clone(), key, spaces::encode(&abandoned)));
            }
            taken.push(abandoned);
        }
        let numbers = taken.iter().filter(|taken| taken.version == version).map(|taken| taken.number + 1);
        let generation = Generation { version, number: numbers.max().unwrap_or_default() };
        let revision = left.map(|left| left.revision).unwrap_or_default();
        records
            .push(RecordWrite::put(VIEW.clone(), key.clone(), spaces::encode(&generation)).expect(revision));
        let revision = store.commit(Commit { records, ..Commit::default() }).await?.revision;
        // Another build may have begun and ended since it was read what is live; from here on none can end.
        if live(store, name, version).await?.generation == generation {
            let records = vec![RecordWrite::delete(VIEW.clone(), key).expect(revision)];
            store.commit(Commit { records, ..Commit::default() }).await?;
            return Err(Error::new(Code::STALE_RECORD, format!("another build of {name} has just ended")));
        }
        Ok(Self { generation, name: name.to_owned(), revision })
    }

    /// Writes documents of the new generation, unless another build has taken over (`E0203`). Buffered: nobody reads them
    /// before the switch, which is durable and comes later in the log.
    pub(crate) async fn write(
        &mut self,
        store: &dyn Store,
        mut records: Vec<RecordWrite>,
    ) -> Result<(), Error> {
        records.push(self.hold());
        let commit = Commit { records, durability: Durability::Buffered, ..Commit::default() };
        self.revision = store.commit(commit).await?.revision;
        Ok(())
    }

    /// Takes what was written of the new generation in this transaction, unless another build has taken over (`E0203`).
    pub(crate) async fn write_in(
        &mut self,
        transaction: Box<dyn Transaction>,
        mut records: Vec<RecordWrite>,
    ) -> Result<(), Error> {
        records.push(self.hold());
        self.revision = transaction.commit(Commit { records, ..Commit::default() }).await?.revision;
        Ok(())
    }

    fn hold(&self) -> RecordWrite {
        let key = spaces::join(&[&self.name, BUILDING]);
        RecordWrite::put(VIEW.clone(), key, spaces::encode(&self.generation)).expect(self.revision)
    }

    /// The writes that put the new generation in the place of the live one, which is to be removed.
    pub(crate) fn switch(&self, from: &Live) -> Vec<RecordWrite> {
        let retired = from.generation.retired_key(&self.name);
        let mut writes = self.switch_places(from);
        writes.push(RecordWrite::put(VIEW.clone(), retired, spaces::encode(&from.generation)));
        writes
    }

    /// The writes that put the new generation in the place of the live one, of which nothing is left.
    pub(crate) fn switch_places(&self, from: &Live) -> Vec<RecordWrite> {
        vec![
            live_write(&self.name, self.generation).expect(from.revision),
            RecordWrite::delete(VIEW.clone(), spaces::join(&[&self.name, BUILDING])).expect(self.revision),
        ]
    }

    /// `E0203` if another build has taken over. It may have removed what this one was at.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<(), Error> {
        if building(store, &self.name).await? == Some(self.revision) {
            return Ok(());
        }
        Err(Error::new(Code::STALE_RECORD, format!("another build of {} has taken over", self.name)))
    }

    /// Gives the build up; what it wrote is removed by the next [`clear`].
    pub(crate) async fn abandon(self, store: &dyn Store) -> Result<(), Error> {
        let records = vec![
            RecordWrite::delete(VIEW.clone(), spaces::join(&[&self.name, BUILDING])).expect(self.revision),
            RecordWrite::put(
                VIEW.clone(),
                self.generation.retired_key(&self.name),
                spaces::encode(&self.generation),
            ),
        ];
        store.commit(Commit { records, ..Commit::default() }).await?;
        Ok(())
    }
}

/// How often a build that is under way has moved on, if there is one.
pub(crate) async fn building(store: &dyn Store, name: &str) -> Result<Option<Revision>, Error> {
    let record = store.record(VIEW.clone(), spaces::join(&[name, BUILDING])).await?;
    Ok(record.map(|record| record.revision))
}

/// The subscriptions of read models that are being built. A build that was interrupted counts until the next one.
pub(crate) async fn under_construction(store: &dyn Store) -> Result<Vec<String>, Error> {
    let suffix = spaces::join(&["", BUILDING]);
    let records = store.records(RecordScan::all(VIEW.clone())).await?;
    let names = records.iter().filter_map(|record| record.key.strip_suffix(&*suffix));
    Ok(names.map(|name| subscription_name(&String::from_utf8_lossy(name))).collect())
}

/// Generations that nobody reads any more and that are not removed yet.
pub(crate) async fn retired(store: &dyn Store, name: &str) -> Result<Vec<Generation>, Error> {
    let prefix = spaces::within(&[name, RETIRED]);
    let records = store.records(RecordScan::prefix(VIEW.clone(), prefix)).await?;
    records.iter().map(|record| spaces::decode("read model", &record.value)).collect()
}

/// Removes the documents of retired generations, in bounded steps at this pace. Interrupted, it goes on at the next call.
pub(super) async fn clear(store: &dyn Store, name: &str, mut pace: Pace) -> Result<(), Error> {
    for generation in retired(store, name).await? {
        for space in generation.place(name)?.spaces() {
            empty(store, space, &mut pace).await?;
        }
        let done = RecordWrite::delete(VIEW.clone(), generation.retired_key(name));
        store.commit(Commit { records: vec![done], ..Commit::default() }).await?;
    }
    Ok(())
}

async fn empty(store: &dyn Store, space: &Space, pace: &mut Pace) -> Result<(), Error> {
    let mut from = bytes::Bytes::new();
    loop {
        // On from where the last page ended: what was removed before it would have to be stepped over again.
        let scan = RecordScan { from, ..RecordScan::all(space.clone()).limit(REMOVED_TOGETHER) };
        let page = store.scan(scan).await?;
        let records: Vec<_> =
            page.records.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)).collect();
        if !records.is_empty() {
            store.commit(Commit { records, durability: Durability::Buffered, ..Commit::default() }).await?;
        }
        let Some(next) = page.next else { return Ok(()) };
        from = next;
        pace.pause(0).await;
    }
}
