//! The contract of a store, run on the engine: with the small files and windows of the other tests, so that the cases
//! cross their borders, and with the sizes that it comes with.

use std::future::ready;
use std::sync::Arc;

use ensue_core::Store;
use ensue_log::{Config, Log};
use ensue_test::conformance::store::Subject;

use crate::given;

fn subject(config: fn() -> Config) -> Subject {
    let folder = tempfile::tempdir().expect("a folder of its own");
    let path = folder.path().to_owned();
    let first = Log::open(&path, config()).expect("an empty folder opens");
    Subject::new(Arc::new(first))
        .opened_by(move || ready(Log::open(&path, config()).map(|log| Arc::new(log) as Arc<dyn Store>)))
        .guarded_by(folder)
}

mod small {
    async fn fresh() -> super::Subject {
        super::subject(super::given::config)
    }
    ensue_test::store_conformance!(fresh);
}

mod as_it_comes {
    async fn fresh() -> super::Subject {
        super::subject(|| super::Config::new(super::given::host()))
    }
    ensue_test::store_conformance!(fresh);
}
