//! A file of its own for each test.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    Append, Commit, Committed, ContentType, Envelope, Error, EventId, EventType, Expected, Read, Source,
    Store, StoreExt, StreamName, Tag, Timestamp,
};
use ensue_sqlite::{Config, SqliteStore};
use ensue_test::conformance::store::Subject;
use tempfile::TempDir;

/// A folder with a database in it, which goes with the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder of its own"))
    }

    /// The file of the database.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("shop.db")
    }

    /// How the store in it is opened.
    pub(crate) fn config(&self) -> Config {
        Config::new(self.file())
    }

    /// The store.
    pub(crate) async fn open(&self) -> SqliteStore {
        self.config().open().await.expect("an empty folder takes a store")
    }
}

/// A fresh store that can be opened again.
pub(crate) async fn subject() -> Subject {
    let folder = Folder::new();
    let store: Arc<dyn Store> = Arc::new(folder.open().await);
    let config = folder.config();
    Subject::new(store)
        .opened_by(move || {
            let config = config.clone();
            async move { config.open().await.map(|store| Arc::new(store) as Arc<dyn Store>) }
        })
        .guarded_by(folder)
}

/// A plain event: its id as its data.
pub(crate) fn event(id: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("a valid id"),
        source: Source::new("test").expect("a valid source"),
        event_type: EventType::new("Happened").expect("a valid type"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: vec![Tag::new("n", id).expect("a valid tag")],
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: Bytes::from(format!("{{\"id\":{id:?}}}")),
    }
}

/// A stream of the topic that the tests use.
pub(crate) fn stream(key: &str) -> StreamName {
    StreamName::new("Test", key).expect("a valid key")
}

/// A commit of plain events to one stream.
pub(crate) fn append(key: &str, expected: Expected, ids: &[&str]) -> Commit {
    let events = ids.iter().map(|id| event(id)).collect();
    Commit { appends: vec![Append { stream: stream(key), expected, events }], ..Commit::default() }
}

/// Commits, and insists that it is taken.
pub(crate) async fn take(store: &SqliteStore, commit: Commit) -> Committed {
    store.commit(commit).await.expect("it is taken")
}

/// Commits, and insists that it is refused.
pub(crate) async fn refuse(store: &SqliteStore, commit: Commit) -> Error {
    store.commit(commit).await.expect_err("it is refused").into()
}

/// The ids of all events, whose positions must be 1, 2, 3, ….
pub(crate) async fn ids(store: &SqliteStore) -> Vec<String> {
    let all = store.collect(Read::all()).await.expect("the log can be read");
    let positions: Vec<u64> = all.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, (1..=all.len() as u64).collect::<Vec<_>>(), "positions");
    all.into_iter().map(|event| event.envelope.id.to_string()).collect()
}
