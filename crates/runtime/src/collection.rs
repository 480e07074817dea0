//! A collection: the documents of a read model, in the store, with secondary indexes.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Error, RecordScan, RecordWrite, Space, Store, StoreExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::spaces;

/// Documents by key. Read-only: only the projection that owns it writes.
pub struct Collection<T> {
    store: Arc<dyn Store>,
    place: Place,
    of: PhantomData<fn() -> T>,
}

/// Where the documents and indexes of one read model stand.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    documents: Space,
    index: Space,
}

impl Place {
    /// Of a read model with this name and version.
    pub(crate) fn new(name: &str, version: u32) -> Result<Self, Error> {
        Self::at(&format!("view.{name}.{version}"))
    }

    fn at(space: &str) -> Result<Self, Error> {
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

impl<T: Serialize + DeserializeOwned> Collection<T> {
    pub(crate) fn at(store: Arc<dyn Store>, place: Place) -> Self {
        Self { store, place, of: PhantomData }
    }

    /// One document.
    pub async fn get(&self, key: &str) -> Result<Option<T>, Error> {
        let record = self.store.record(self.place.documents.clone(), key.to_owned()).await?;
        record.map(|record| spaces::decode("document", &record.value)).transpose()
    }

    /// Documents in order of their keys: at most `limit` after the key `after`; an empty `after` begins at the front.
    pub async fn page(&self, after: &str, limit: usize) -> Result<Vec<(String, T)>, Error> {
        let mut scan = RecordScan::all(self.place.documents.clone()).limit(limit);
        if !after.is_empty() {
            scan = scan.after(&Bytes::copy_from_slice(after.as_bytes()));
        }
        let records = self.store.scan(scan).await?.records;
        records
            .into_iter()
            .map(|record| Ok((text(&record.key), spaces::decode("document", &record.value)?)))
            .collect()
    }

    /// Documents whose index `name` has this value, in order of their keys, at most `limit`.
    pub async fn find(&self, name: &str, value: &str, limit: usize) -> Result<Vec<(String, T)>, Error> {
        let prefix = spaces::within(&[name, value]);
        let entries = self
            .store
            .scan(RecordScan::prefix(self.place.index.clone(), prefix.clone()).limit(limit))
            .await?;
        let mut found = Vec::with_capacity(entries.records.len());
        for entry in entries.records {
            let key = text(entry.key.get(prefix.len()..).unwrap_or_default());
            if let Some(document) = self.get(&key).await? {
                found.push((key, document));
            }
        }
        Ok(found)
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
