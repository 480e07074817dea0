//! Handles: the same data, opened beside or after another.

use std::sync::Arc;

use ensue_core::{Expected, Kind, Position, Read, Revision, Store, StoreExt, Version};
use futures_util::FutureExt;

use super::words::{Contents, Extend, append, conflict_of, ids, put, record_conflict_of, refuse, take};
use super::{Open, Subject};

pub(super) async fn two_handles_see_each_other(store: Subject) {
    let open =
        store.open.clone().expect("a store that is shared says how it is opened: `Subject::opened_by`");
    let other = open().await.expect("a shared store opens twice");
    take(&*store, append("a", Expected::NoStream, &["a1"])).await;
    assert_eq!(ids(&*other, Read::all()).await, ["a1"]);

    let mut wait = store.advanced(Position(1));
    assert!((&mut wait).now_or_never().is_none(), "nothing is past 1 yet");
    take(&*other, append("a", Expected::Exact(Version(1)), &["a2"]).writing(put("key", "other"))).await;
    assert_eq!(wait.await.expect("a commit through the other handle wakes"), Position(2));

    let stale = append("a", Expected::Exact(Version(1)), &["never"]);
    assert_eq!(conflict_of(refuse(&*store, stale).await).2, 2);
    let fresh = append("b", Expected::Any, &["never"]).writing(put("key", "mine").expect(Revision::ZERO));
    assert_ne!(record_conflict_of(refuse(&*store, fresh).await), 0);
    assert_eq!(Contents::of(&*store).await, Contents::of(&*other).await);
}

/// What a store that is not shared does: whoever opens it a second time is told so.
pub(super) async fn sharing_refused(store: Subject) {
    if let Some(open) = &store.open {
        let error = open().await.err().expect("the store opened twice, but does not declare `can_share`");
        assert!(matches!(error.kind(), Kind::Unavailable | Kind::Unsupported), "{error}");
    }
    // The refused opening has harmed nothing.
    take(&*store, append("a", Expected::NoStream, &["a1"])).await;
    assert_eq!(ids(&*store.share(), Read::all()).await, ["a1"]);
}

pub(super) async fn reopening_keeps_everything(store: Subject) {
    let open = store.open.clone().expect("a durable store says how it is opened again: `Subject::opened_by`");
    for number in 0..20 {
        let commit = append(&format!("s{}", number % 3), Expected::Any, &[&format!("e{number}")]);
        take(&*store, commit.writing(put("number", "moves")).writing(put("last", "stays"))).await;
    }
    let repeated = append("repeated", Expected::NoStream, &["r1", "r2"]);
    let first = take(&*store, repeated.clone()).await;
    let before = Contents::of(&*store).await;
    let revision = before.records.iter().map(|record| record.revision).max().unwrap_or_default();

    let (store, _guard) = reopened(store, &open).await;
    assert_eq!(Contents::of(&*store).await, before);
    assert_eq!(store.advanced(Position::ZERO).await.expect("the head has passed"), Position(22));
    assert_eq!(store.head().await.expect("the head can be read"), Position(22));

    // The old commits are known, the old rules hold, and numbers go on where they stood.
    let again = take(&*store, repeated).await;
    assert!(again.repeated && again.appended == first.appended, "{first:?} then {again:?}");
    assert_eq!(conflict_of(refuse(&*store, append("s0", Expected::NoStream, &["never"])).await).2, 7);
    let new =
        take(&*store, append("s0", Expected::Exact(Version(7)), &["new"]).writing(put("key", "new"))).await;
    assert_eq!(new.position(), Position(23));
    assert!(new.revision > revision, "revision {} after {revision}", new.revision);
}

/// Drops the store, opens its data again, and keeps what guards the data.
async fn reopened(store: Subject, open: &Open) -> (Arc<dyn Store>, impl Sized) {
    let Subject { store, open: _, guard } = store;
    drop(store);
    (open().await.expect("the data opens again"), guard)
}

/// What a store that is not durable does: it may forget, but never a part of a commit.
pub(super) async fn forgetting_is_whole(store: Subject) {
    take(&*store, append("a", Expected::NoStream, &["a1"]).writing(put("key", "value"))).await;
    let before = Contents::of(&*store).await;
    assert_eq!((before.events.len(), before.records.len()), (1, 1), "{before:?}");
    if let Some(open) = store.open.clone() {
        let (store, _guard) = reopened(store, &open).await;
        let left = Contents::of(&*store).await;
        let nothing = Contents { events: Vec::new(), records: Vec::new() };
        assert!(left == before || left == nothing, "a part of a commit was left: {left:?}");
    }
}
