//! Read models: documents, indexes, caches, reading one's own writes, comparison with a replay.

use std::sync::Arc;

use ensue_core::{Commit, RecordScan, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::context::Meta;
use ensue_runtime::projection::Load;
use ensue_runtime::{App, Cache, Projection, projection};
use ensue_test::{Harness, crash_everywhere};
use serde::{Deserialize, Serialize};

use crate::words::{Tick, tick};

/// The newest number of each key; a zero removes it.
pub(crate) struct Newest;

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) number: u32,
    pub(crate) seen: u32,
}

impl Projection for Newest {
    const NAME: &'static str = "newest";
    type Event = Tick;
    type Document = Entry;

    fn key(&self, event: &Tick) -> Option<String> {
        (event.key != "ignored").then(|| event.key.clone())
    }

    fn apply(&self, document: &mut Option<Entry>, event: &Tick, _: &Meta) {
        assert!(event.number != 13, "thirteen is not projected");
        let seen = document.as_ref().map_or(0, |document| document.seen) + 1;
        *document = (event.number > 0).then(|| Entry { key: event.key.clone(), number: event.number, seen });
    }

    fn index(&self, document: &Entry) -> Vec<(&'static str, String)> {
        let parity = if document.number.is_multiple_of(2) { "even" } else { "odd" };
        // The same twice: an index is a set.
        vec![("parity", parity.to_owned()), ("parity", parity.to_owned())]
    }

    fn invalidates(&self, document: &Entry) -> Vec<String> {
        vec![format!("number:{}", document.key)]
    }
}

fn numbers() -> Harness {
    Harness::new(|app: App| app.external::<Tick>().cache(Cache::<u32>::new(10)).project(Newest))
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

async fn even(harness: &Harness) -> Vec<String> {
    let found = harness.view::<Newest>().find("parity", "even", 10).await.expect("it can be read");
    found.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn documents_are_found_by_key_and_index_and_vanish_when_removed() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 2), ("b", 4), ("c", 1), ("ignored", 2)]).await;
    harness.settle().await;
    assert_eq!(even(&harness).await, ["a", "b"]);
    publish(&mut harness, &[("a", 3), ("b", 0), ("c", 8)]).await;
    harness.settle().await;
    assert_eq!(even(&harness).await, ["c"]);
    let view = harness.view::<Newest>();
    assert_eq!(view.get("b").await.expect("it can be read"), None);
    let page: Vec<(String, u32)> = view
        .page("", 10)
        .await
        .expect("it can be read")
        .into_iter()
        .map(|(key, number)| (key, number.number))
        .collect();
    assert_eq!(page, [("a".to_owned(), 3), ("c".to_owned(), 8)]);
}

#[tokio::test]
async fn each_event_is_applied_once_whatever_crashes_or_comes_twice() {
    let crashes = crash_everywhere(
        || numbers().deliver_twice(),
        async |harness: &mut Harness| {
            publish(harness, &[("a", 1), ("a", 2), ("b", 7), ("a", 3)]).await;
            harness.settle().await;
            let number =
                harness.view::<Newest>().get("a").await.expect("it can be read").expect("it is there");
            assert_eq!((number.number, number.seen), (3, 3));
        },
    )
    .await;
    assert!(crashes >= 10, "{crashes}");
}

#[tokio::test]
async fn waiting_for_a_position_reads_ones_own_writes() {
    for seed in 0..10 {
        let mut harness = numbers().reorder_across_keys(seed);
        let view = harness.view::<Newest>();
        for number in 1..6 {
            let position = harness.publish(tick("a", number)).await.position;
            harness.running().await.wait(position).await.expect("it keeps up");
            let document = view.get("a").await.expect("it can be read").expect("it is there");
            assert_eq!(document.number, number, "seed {seed}");
        }
        // Also over events that no read model takes.
        let position = harness.publish(tick("ignored", 1)).await.position;
        harness.running().await.wait(position).await.expect("it keeps up");
    }
}

#[tokio::test]
async fn a_cached_value_is_dropped_after_the_commit_that_changes_it() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 1), ("b", 1)]).await;
    harness.settle().await;
    let cache: Cache<u32> = harness.running().await.state().expect("it is mounted");
    for key in ["number:a", "number:b"] {
        let loaded = cache.get_or_load(key, async { Ok(1) }).await.expect("it loads");
        assert_eq!(loaded, 1);
    }
    publish(&mut harness, &[("a", 2)]).await;
    harness.settle().await;
    assert_eq!((cache.contains("number:a"), cache.contains("number:b")), (false, true));
}

#[tokio::test]
async fn a_panic_stops_the_read_model_visibly_and_loses_nothing_before_it() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 1), ("b", 13), ("c", 1)]).await;
    harness.settle().await;
    let halted = harness.running().await.halted();
    let [(name, error)] = halted.as_slice() else { panic!("{halted:?}") };
    assert_eq!((name.as_str(), error.code()), ("view.newest", ensue_core::Code::HANDLER_PANICKED));
    let view = harness.view::<Newest>();
    assert!(view.get("a").await.expect("it can be read").is_some());
    assert!(view.get("c").await.expect("it can be read").is_none(), "what comes after waits");
    let head = harness.store().head().await.expect("memory can be read");
    harness.running().await.wait(head).await.expect_err("it will never get there");
}

#[tokio::test]
async fn a_corrupted_row_is_found_by_verify_and_mended_by_rebuild() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 2), ("b", 3), ("c", 5)]).await;
    harness.settle().await;
    let store: Arc<dyn Store> = harness.store().clone();
    let clean = projection::verify(Newest, store.clone()).await.expect("it can be read");
    assert!(clean.is_none(), "{clean:?}");
    assert_eq!((clean.events, clean.documents), (3, 3));

    let space = Space::new("view.newest.1").expect("valid");
    let mut wrong =
        store.record(space.clone(), "a").await.expect("it can be read").expect("it is there").value.to_vec();
    wrong.iter_mut().filter(|byte| **byte == b'2').for_each(|byte| *byte = b'6');
    let records = vec![
        RecordWrite::put(space.clone(), "a", wrong),
        RecordWrite::delete(space.clone(), "b"),
        RecordWrite::put(space.clone(), "z", r#"{"key":"z","number":1,"seen":1}"#),
    ];
    store.commit(Commit { records, ..Commit::default() }).await.expect("it is taken");
    let found = projection::verify(Newest, store.clone()).await.expect("it can be read");
    assert_eq!(
        (found.different, found.missing, found.added),
        (vec!["a".into()], vec!["b".into()], vec!["z".into()])
    );

    let rebuilt =
        harness.running().await.projections().rebuild("newest", Load::Full).await.expect("it is built");
    let repaired = rebuilt.difference.expect("the same version");
    assert_eq!((repaired.different.len(), repaired.missing.len(), repaired.added.len()), (1, 1, 1));
    assert_eq!((rebuilt.events, rebuilt.generation.number), (3, 1));
    assert!(projection::verify(Newest, store.clone()).await.expect("it can be read").is_none());
    let index = store.records(RecordScan::all(Space::new("view.newest.1-1.index").expect("valid"))).await;
    assert_eq!(index.expect("it can be read").len(), 3);
    assert_eq!(even(&harness).await, ["a"]);
    for old in ["view.newest.1", "view.newest.1.index"] {
        let left = store.records(RecordScan::all(Space::new(old).expect("valid"))).await;
        assert_eq!(left.expect("it can be read"), [], "{old} is removed");
    }
}
