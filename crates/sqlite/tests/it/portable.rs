//! Moving a store: an import keeps what another store has recorded, and nothing else can be imported.

use ensue_core::{Code, Commit, Expected, Portable, Position, Read, RecordWrite, Space, Store, StoreExt};

use crate::given::{Folder, append, ids, take};

#[tokio::test]
async fn an_import_keeps_positions_versions_and_times() {
    let (from, to) = (Folder::new(), Folder::new());
    let (source, target) = (from.open().await, to.open().await);
    for number in 0..50 {
        take(&source, append(&format!("s{}", number % 7), Expected::Any, &[&format!("e{number}")])).await;
    }
    let events = source.collect(Read::all()).await.expect("the log can be read");
    let (first, rest) = events.split_at(20);
    target.import(first.to_vec()).await.expect("it follows");
    assert_eq!(target.import(rest.to_vec()).await.expect("it follows"), Position(50));
    assert_eq!(target.collect(Read::all()).await.expect("the log can be read"), events);
    take(&target, append("s0", Expected::Exists, &["next"])).await;
    assert_eq!(ids(&target).await.len(), 51);
}

#[tokio::test]
async fn what_does_not_follow_the_head_is_refused_as_a_whole() {
    let (from, to) = (Folder::new(), Folder::new());
    let (source, target) = (from.open().await, to.open().await);
    take(&source, append("a", Expected::NoStream, &["a1", "a2", "a3", "a4"])).await;
    let events = source.collect(Read::all()).await.expect("the log can be read");
    let mut other_version = events.clone();
    other_version[2].version = other_version[2].version.next();
    for strays in [events[1..].to_vec(), [&events[..2], &events[3..]].concat(), other_version] {
        let error = target.import(strays).await.expect_err("it does not follow");
        assert_eq!(error.code(), Code::NO_COPY, "{error}");
        assert_eq!(target.head().await.expect("the head"), Position::ZERO);
    }
}

#[tokio::test]
async fn spaces_are_found_in_order() {
    let folder = Folder::new();
    let store = folder.open().await;
    for name in ["z", "a.b", "a", "a.b", "ab"] {
        let records = vec![RecordWrite::put(Space::new(name).expect("valid"), "key", "value")];
        store.commit(Commit { records, ..Commit::default() }).await.expect("it is taken");
    }
    let spaces = store.spaces().await.expect("they can be read");
    assert_eq!(spaces.iter().map(Space::as_str).collect::<Vec<_>>(), ["a", "a.b", "ab", "z"]);
}
