//! Repeats: the same commit again is a success with the old positions, so that an unknown outcome can be learned.

use ensue_core::{Expected, Read, Version};
use futures_util::FutureExt;

use super::Subject;
use super::words::{Contents, Extend, append, conflict_of, event, ids, put, record, refuse, stream, take};

pub(super) async fn the_same_ids_again_are_the_old_positions(store: Subject) {
    take(&*store, append("other", Expected::Any, &["o1"])).await;
    for commit in [
        append("a", Expected::NoStream, &["a1", "a2"]),
        append("a", Expected::Exact(Version(2)), &["a3"]),
        append("b", Expected::Exact(Version::ZERO), &["b1"]),
    ] {
        let first = take(&*store, commit.clone()).await;
        let before = Contents::of(&*store).await;
        let again = take(&*store, commit).await;
        assert!(again.repeated && !first.repeated, "{first:?} then {again:?}");
        assert_eq!(again.appended, first.appended);
        assert_eq!(Contents::of(&*store).await, before);
    }
}

pub(super) async fn a_repeat_is_known_after_the_stream_has_moved_on(store: Subject) {
    let commit = append("a", Expected::NoStream, &["a1", "a2"]);
    let first = take(&*store, commit.clone()).await;
    take(&*store, append("a", Expected::Exact(Version(2)), &["a3"])).await;
    take(&*store, append("b", Expected::Any, &["b1"])).await;
    let again = take(&*store, commit).await;
    assert!(again.repeated, "{again:?}");
    assert_eq!(again.appended, first.appended);
    assert_eq!(ids(&*store, Read::all()).await, ["a1", "a2", "a3", "b1"]);
}

pub(super) async fn a_repeat_does_not_write_its_records_again(store: Subject) {
    let commit = append("a", Expected::NoStream, &["a1"]).writing(put("key", "old"));
    take(&*store, commit.clone()).await;
    take(&*store, append("b", Expected::Any, &["b1"]).writing(put("key", "new"))).await;
    assert!(take(&*store, commit).await.repeated);
    let record = record(&*store, "key").await.expect("it was written");
    assert_eq!(record.value, "new");
}

pub(super) async fn a_repeat_over_several_streams_is_known_as_a_whole(store: Subject) {
    let commit = append("a", Expected::NoStream, &["a1"])
        .and("b", Expected::NoStream, [event("b1"), event("b2")])
        .and("a", Expected::Exact(Version(1)), [event("a2")]);
    let first = take(&*store, commit.clone()).await;
    let again = take(&*store, commit).await;
    assert!(again.repeated, "{again:?}");
    assert_eq!(again.appended, first.appended);
    assert_eq!(ids(&*store, Read::all()).await, ["a1", "b1", "b2", "a2"]);
}

pub(super) async fn a_part_of_the_same_ids_is_a_conflict(store: Subject) {
    take(&*store, append("a", Expected::NoStream, &["a1", "a2"])).await;
    for (what, ids) in [
        ("one more than stored", &["a1", "a2", "a3"][..]),
        ("another last", &["a1", "x2"]),
        ("another first", &["x1", "a2"]),
        ("another order", &["a2", "a1"]),
    ] {
        let error = refuse(&*store, append("a", Expected::NoStream, ids)).await;
        assert_eq!(conflict_of(error), (stream("a"), Expected::NoStream, 2), "{what}");
    }
    // One stream has the events, the other does not: the commit as a whole was never taken.
    let half = append("a", Expected::NoStream, &["a1", "a2"]).and("b", Expected::NoStream, [event("b1")]);
    assert_eq!(conflict_of(refuse(&*store, half).await), (stream("a"), Expected::NoStream, 2));
    // The same ids at another place are other events.
    let elsewhere = append("a", Expected::Exact(Version(1)), &["a1"]);
    assert_eq!(conflict_of(refuse(&*store, elsewhere).await), (stream("a"), Expected::Exact(Version(1)), 2));
}

pub(super) async fn an_abandoned_commit_is_resolved_by_repeating_it(store: Subject) {
    const COMMITS: u64 = 50;
    for version in 0..COMMITS {
        let id = format!("a{version}");
        let commit = append("a", Expected::Exact(Version(version)), &[&id]);
        // Polled at most once and dropped: whether it was stored is open.
        let abandoned = store.commit(commit.clone()).now_or_never();
        if let Some(outcome) = abandoned {
            outcome.expect("nobody else writes");
        }
        let committed = take(&*store, commit).await;
        let versions: Vec<u64> = committed.appended.iter().map(|appended| appended.last_version.0).collect();
        assert_eq!(versions, [version + 1]);
    }
    let expected: Vec<String> = (0..COMMITS).map(|version| format!("a{version}")).collect();
    assert_eq!(ids(&*store, Read::all()).await, expected);
}
