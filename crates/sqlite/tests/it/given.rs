//! A file of its own for each test.

use std::path::PathBuf;
use std::sync::Arc;

use ensue_core::Store;
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
