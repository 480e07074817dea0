//! Appends: expected versions, atomicity over streams, and what a commit reports.

use ensue_core::{Commit, Durability, Expected, Kind, Position, Read, StoreExt, Version};

use super::Subject;
use super::words::{
    Contents, Extend, append, conflict_of, event, events, ids, nothing, put, refuse, stream, take,
};

pub(super) async fn stale_version_is_refused_and_leaves_nothing(store: Subject) {
    take(&*store, append("a", Expected::NoStream, &["a1", "a2"])).await;
    let stale = append("a", Expected::Exact(Version(1)), &["b2"]).writing(put("key", "value"));
    let error = refuse(&*store, stale).await;
    assert_eq!(conflict_of(error), (stream("a"), Expected::Exact(Version(1)), 2));
    assert_eq!(ids(&*store, Read::stream(stream("a"))).await, ["a1", "a2"]);
}

pub(super) async fn each_expectation_admits_what_it_says(store: Subject) {
    for (round, expected) in [Expected::Exists, Expected::Exact(Version(1))].into_iter().enumerate() {
        let error = refuse(&*store, append("absent", expected, &["never"])).await;
        assert_eq!(conflict_of(error), (stream("absent"), expected, 0), "round {round}");
    }
    take(&*store, append("any", Expected::Any, &["n1"])).await;
    take(&*store, append("none", Expected::NoStream, &["n2"])).await;
    take(&*store, append("zero", Expected::Exact(Version::ZERO), &["n3"])).await;

    take(&*store, append("any", Expected::Any, &["n4"])).await;
    take(&*store, append("any", Expected::Exists, &["n5"])).await;
    take(&*store, append("any", Expected::Exact(Version(3)), &["n6"])).await;
    for expected in [Expected::NoStream, Expected::Exact(Version(3)), Expected::Exact(Version(5))] {
        let error = refuse(&*store, append("any", expected, &["never"])).await;
        assert_eq!(conflict_of(error), (stream("any"), expected, 4));
    }
    assert_eq!(ids(&*store, Read::all()).await, ["n1", "n2", "n3", "n4", "n5", "n6"]);
}

pub(super) async fn positions_and_versions_are_consecutive(store: Subject) {
    take(&*store, append("a", Expected::Any, &["a1"])).await;
    let both = append("b", Expected::Any, &["b1", "b2", "b3"]).and("a", Expected::Any, [event("a2")]);
    let committed = take(&*store, both).await;
    assert!(!committed.repeated);
    assert_eq!(committed.position(), Position(5));
    let reported: Vec<[u64; 4]> = committed
        .appended
        .iter()
        .map(|a| [a.first_position.0, a.last_position.0, a.first_version.0, a.last_version.0])
        .collect();
    assert_eq!(reported, [[2, 4, 1, 3], [5, 5, 2, 2]]);

    let all = events(&*store, Read::all()).await;
    let places: Vec<(u64, &str, u64)> =
        all.iter().map(|e| (e.position.0, e.stream.key.as_str(), e.version.0)).collect();
    assert_eq!(places, [(1, "a", 1), (2, "b", 1), (3, "b", 2), (4, "b", 3), (5, "a", 2)]);
    assert!(all.is_sorted_by_key(|e| e.recorded_at), "the time of record goes back: {all:#?}");
    assert_eq!(store.head().await.expect("the head can be read"), Position(5));
}

pub(super) async fn a_stream_named_twice_sees_itself(store: Subject) {
    let twice =
        append("a", Expected::NoStream, &["a1", "a2"]).and("a", Expected::Exact(Version(2)), [event("a3")]);
    let committed = take(&*store, twice).await;
    let versions: Vec<u64> = committed.appended.iter().map(|appended| appended.last_version.0).collect();
    assert_eq!(versions, [2, 3]);

    let blind = append("b", Expected::NoStream, &["b1"]).and("b", Expected::NoStream, [event("b2")]);
    assert_eq!(conflict_of(refuse(&*store, blind).await), (stream("b"), Expected::NoStream, 1));
    assert_eq!(ids(&*store, Read::all()).await, ["a1", "a2", "a3"]);
}

pub(super) async fn one_conflict_among_streams_leaves_nothing(store: Subject) {
    take(&*store, append("c", Expected::Any, &["c1"])).await;
    let mixed = append("a", Expected::NoStream, &["a1"])
        .and("b", Expected::Any, [event("b1")])
        .and("c", Expected::Exact(Version(7)), [event("c2")])
        .writing(put("key", "value"));
    assert_eq!(conflict_of(refuse(&*store, mixed).await), (stream("c"), Expected::Exact(Version(7)), 1));
    // The positions that the refused commit would have taken are not lost.
    let committed = take(&*store, append("a", Expected::NoStream, &["a1"])).await;
    assert_eq!(committed.position(), Position(2));
}

pub(super) async fn an_empty_commit_changes_nothing(store: Subject) {
    take(&*store, append("a", Expected::Any, &["a1"]).writing(put("key", "value"))).await;
    let before = Contents::of(&*store).await;
    let committed = take(&*store, nothing()).await;
    assert!(committed.appended.is_empty() && !committed.repeated, "{committed:?}");
    assert_eq!(committed.position(), Position::ZERO);
    assert_eq!(Contents::of(&*store).await, before);
}

pub(super) async fn an_append_without_events_is_refused(store: Subject) {
    let hollow = append("a", Expected::Any, &["a1"]).and("b", Expected::Any, []);
    let error = ensue_core::Error::from(refuse(&*store, hollow).await);
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

pub(super) async fn a_buffered_commit_is_taken_and_read(store: Subject) {
    let buffered =
        Commit { durability: Durability::Buffered, ..append("a", Expected::NoStream, &["a1", "a2"]) };
    let committed = take(&*store, buffered).await;
    assert_eq!(committed.position(), Position(2));
    let head = store.advanced(Position(1)).await.expect("the head passes what was acknowledged");
    assert_eq!(head, Position(2));
    // A durable commit after it pulls it along: order is one.
    take(&*store, append("a", Expected::Exact(Version(2)), &["a3"])).await;
    assert_eq!(ids(&*store, Read::all()).await, ["a1", "a2", "a3"]);
}
