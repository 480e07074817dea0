//! A collection: the documents of a read model, in the store, with secondary indexes.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ensue_core::{BoxFuture, Code, Error, RecordScan, RecordWrite, Space, Store, StoreExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::progress::lock;
use crate::projection::{self, Live};
use crate::spaces;

/// Documents by key. Read-only: only the projection that owns it writes.
///
/// A read sees one generation of the read model: where another took its place meanwhile, it is read again.
pub struct Collection<T> {
    store: Arc<dyn Store>,
    name: &'static str,
    version: u32,
    /// The generation that was live at the last read.
    known: Mutex<Option<Live>>,
    of: PhantomData<fn() -> T>,
}

/// Where the documents and indexes of one read model stand.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    documents: Space,
    index: Space,
}

impl Place {
    /// Named after its generation.
    pub(crate) fn at(space: &str) -> Result<Self, Error> {
        Ok(Self { documents: Space::new(space)?, index: Space::new(format!("{space}.index"))? })
    }

    pub(crate) fn documents(&self) -> &Space {
        &self.documents
    }

    pub(crate) fn spaces(&self) -> [&Space; 2] {
        [&self.documents, &self.index]
    }

    /// The writes that turn a document into another, with the index entries that follow.
    pub(crate) fn replace(
        &self,
        key: &str,
        value: Option<Bytes>,
        before: &[(&'static str, String)],
        now: &[(&'static str, String)],
    ) -> Vec<RecordWrite> {
        let document = Bytes::copy_from_slice(key.as_bytes());
        let mut writes = vec![match value {
            Some(value) => RecordWrite::put(self.documents.clone(), document, value),
            None => RecordWrite::delete(self.documents.clone(), document),
        }];
        // Sets, because a document may say the same twice and a commit may not.
        let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), now.iter().collect());
        for (name, value) in before.difference(&now) {
            writes.push(RecordWrite::delete(self.index.clone(), spaces::join(&[name, value, key])));
        }
        for (name, value) in now.difference(&before) {
            writes.push(RecordWrite::put(
                self.index.clone(),
                spaces::join(&[name, value, key]),
                Bytes::new(),
            ));
        }
        writes
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync> Collection<T> {
    pub(crate) fn new(store: Arc<dyn Store>, name: &'static str, version: u32) -> Self {
        Self { store, name, version, known: Mutex::default(), of: PhantomData }
    }

    /// One document.
    pub async fn get(&self, key: &str) -> Result<Option<T>, Error> {
        self.read(|live, place| Box::pin(self.get_at(live, place, key.to_owned()))).await
    }

    async fn get_at(&self, live: Live, place: Place, key: String) -> Result<Option<T>, Error> {
        let record = self.store.record(place.documents, key).await?;
        record.map(|record| self.decode(live, &record.value)).transpose()
    }

    /// Documents in order of their keys: at most `limit` after the key `after`; an empty `after` begins at the front.
    pub async fn page(&self, after: &str, limit: usize) -> Result<Vec<(String, T)>, Error> {
        let after = Bytes::copy_from_slice(after.as_bytes());
        self.read(|live, place| Box::pin(self.page_at(live, place, after.clone(), limit))).await
    }

    async fn page_at(
        &self,
        live: Live,
        place: Place,
        after: Bytes,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let mut scan = RecordScan::all(place.documents).limit(limit);
        if !after.is_empty() {
            scan = scan.after(&after);
        }
        let records = self.store.scan(scan).await?.records;
        records.into_iter().map(|record| Ok((text(&record.key), self.decode(live, &record.value)?))).collect()
    }

    /// Documents whose index `name` has this value, in order of their keys, at most `limit`.
    pub async fn find(&self, name: &str, value: &str, limit: usize) -> Result<Vec<(String, T)>, Error> {
        let prefix = spaces::within(&[name, value]);
        self.read(|live, place| Box::pin(self.find_at(live, place, prefix.clone(), limit))).await
    }

    async fn find_at(
        &self,
        live: Live,
        place: Place,
        prefix: Bytes,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let scan = RecordScan::prefix(place.index.clone(), prefix.clone()).limit(limit);
        let entries = self.store.scan(scan).await?;
        let mut found = Vec::with_capacity(entries.records.len());
        for entry in entries.records {
            let key = text(entry.key.get(prefix.len()..).unwrap_or_default());
            if let Some(document) = self.get_at(live, place.clone(), key.clone()).await? {
                found.push((key, document));
            }
        }
        Ok(found)
    }

    /// Reads from the live generation; again if another was put in its place meanwhile.
    async fn read<'a, R>(
        &'a self,
        read: impl Fn(Live, Place) -> BoxFuture<'a, Result<R, Error>>,
    ) -> Result<R, Error> {
        let known = *lock(&self.known);
        let mut live = match known {
            Some(known) => known,
            None => projection::live(&*self.store, self.name, self.version).await?,
        };
        loop {
            let result = read(live, live.generation.place(self.name)?).await;
            let now = projection::live(&*self.store, self.name, self.version).await?;
            if now == live {
                *lock(&self.known) = Some(live);
                return result;
            }
            live = now;
        }
    }

    fn decode(&self, live: Live, value: &[u8]) -> Result<T, Error> {
        spaces::decode("document", value).map_err(|error| {
            let version = live.generation.version;
            if version == self.version {
                return error;
            }
            let (name, ours) = (self.name, self.version);
            Error::new(
                Code::VIEW_NOT_BUILT,
                format!("read model {name} is at version {version}; version {ours} is being built"),
            )
        })
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
