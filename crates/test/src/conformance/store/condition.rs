//! Conditions: "nothing new matches the query after the position I read".

use std::sync::Arc;

use ensue_core::{Commit, CommitError, Expected, Kind, Position, Query, Read, StoreExt};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::Subject;
use super::words::{Dress, Extend, append, append_events, event, ids, item, put, query, refuse, take};

/// What a store without conditions does.
pub(super) async fn refused(store: Subject) {
    let error =
        refuse(&*store, append("a", Expected::Any, &["a1"]).unless(Query::all(), Position::MAX)).await;
    let error = ensue_core::Error::from(error);
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

pub(super) async fn an_empty_result_still_enforces(store: Subject) {
    let claim = |id: &str| {
        append_events("names", [event(id).tagged("name:ada")])
            .unless(query(&[], &["name:ada"]), Position::ZERO)
    };
    take(&*store, claim("first")).await;
    let error = refuse(&*store, claim("second").writing(put("key", "value"))).await;
    assert_eq!(failed_at(error), 1);
}

pub(super) async fn unrelated_events_do_not_conflict(store: Subject) {
    let placed = [
        event("e1").typed("Placed").tagged("order:2"),
        event("e2").typed("Paid").tagged("order:1"),
        event("e3").typed("Placed").tagged("customer:1"),
    ];
    take(&*store, append_events("a", placed)).await;
    let unless_placed = query(&["Placed"], &["order:1"]);
    take(&*store, append("a", Expected::Any, &["e4"]).unless(unless_placed, Position::ZERO)).await;

    let both = query(&["Placed"], &["order:1"]).or(item(&["Paid", "Shipped"], &[]));
    assert_eq!(
        failed_at(refuse(&*store, append("a", Expected::Any, &["e5"]).unless(both, Position(1))).await),
        2
    );
}

pub(super) async fn events_up_to_the_position_do_not_count(store: Subject) {
    take(&*store, append("a", Expected::Any, &["e1", "e2", "e3"])).await;
    let attempt =
        |id: &str, after| append("a", Expected::Any, &[id]).unless(query(&["Happened"], &[]), after);
    assert_eq!(failed_at(refuse(&*store, attempt("never", Position(2))).await), 3);
    take(&*store, attempt("e4", Position(3))).await;
    assert_eq!(failed_at(refuse(&*store, attempt("never", Position(3))).await), 4);
    take(&*store, attempt("e5", Position::MAX)).await;
    // A query without items matches everything.
    let anything = append("a", Expected::Any, &["never"]).unless(Query::all(), Position(4));
    assert_eq!(failed_at(refuse(&*store, anything).await), 5);
}

pub(super) async fn a_commit_does_not_meet_its_own_events(store: Subject) {
    let twice = append_events("a", [event("e1").tagged("name:ada"), event("e2").tagged("name:ada")])
        .unless(query(&[], &["name:ada"]), Position::ZERO);
    assert_eq!(take(&*store, twice).await.position(), Position(2));
    // A condition also guards a commit without events.
    let guarded =
        Commit::default().writing(put("key", "value")).unless(query(&[], &["name:ada"]), Position(1));
    assert_eq!(failed_at(refuse(&*store, guarded).await), 2);
}

pub(super) async fn the_last_match_is_named(store: Subject) {
    let events = [
        event("e1").tagged("name:ada"),
        event("e2"),
        event("e3").tagged("name:ada").tagged("order:1"),
        event("e4").tagged("order:1"),
    ];
    take(&*store, append_events("a", events)).await;
    let attempt =
        |tags: &[&str]| append("a", Expected::Any, &["never"]).unless(query(&[], tags), Position::ZERO);
    assert_eq!(failed_at(refuse(&*store, attempt(&["name:ada"])).await), 3);
    assert_eq!(failed_at(refuse(&*store, attempt(&["order:1"])).await), 4);
    assert_eq!(failed_at(refuse(&*store, attempt(&["order:1", "name:ada"])).await), 3);
}

pub(super) async fn a_repeat_is_known_under_a_condition(store: Subject) {
    let commit = append("a", Expected::NoStream, &["e1"]).unless(Query::all(), Position::ZERO);
    let first = take(&*store, commit.clone()).await;
    let again = take(&*store, commit).await;
    assert!(again.repeated, "its own event must not fail its condition: {again:?}");
    assert_eq!(again.appended, first.appended);
}

pub(super) async fn of_racing_deciders_exactly_one_wins(store: Subject) {
    const RACERS: usize = 8;
    for round in 0..20 {
        let tag = format!("seat:{round}");
        let seen = store.head().await.expect("the head can be read");
        let start = Arc::new(Barrier::new(RACERS));
        let race = (0..RACERS).map(|racer| {
            // Different streams, so that nothing but the condition stands between the racers.
            let taken = event(&format!("r{round}-{racer}")).tagged(&tag);
            let commit = append_events(&format!("racer-{racer}"), [taken]).unless(query(&[], &[&tag]), seen);
            let (store, start) = (store.share(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                store.commit(commit).await
            })
        });
        let outcomes: Vec<_> =
            join_all(race).await.into_iter().map(|racer| racer.expect("no racer panics")).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let winner = seen.next();
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(failed_at(error), winner.0);
        }
        assert_eq!(ids(&*store, Read::query(query(&[], &[&tag]))).await.len(), 1);
    }
}

fn failed_at(error: CommitError) -> u64 {
    match error {
        CommitError::ConditionFailed { position } => position.0,
        other => panic!("a failed condition was due, not: {other}"),
    }
}
