//! Races: many writers and readers at once, on threads of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ensue_core::{CommitError, Expected, Position, Read, Recorded, Revision, Store, StreamName, Version};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use super::Subject;
use super::words::{Extend, append, conflict_of, event, events, ids, nothing, put, record, stream, take};

const WRITERS: usize = 8;
const COMMITS_EACH: usize = 50;

pub(super) async fn of_racing_writers_exactly_one_wins(store: Subject) {
    for round in 0..30u64 {
        let start = Arc::new(Barrier::new(WRITERS));
        let race = (0..WRITERS).map(|writer| {
            let id = format!("r{round}-{writer}");
            let commit = append("contested", Expected::Exact(Version(round)), &[&id]);
            let (store, start) = (store.share(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                (id, store.commit(commit).await)
            })
        });
        let outcomes = all(race).await;
        let winners: Vec<&String> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(id, _)| id).collect();
        let last = ids(&*store, Read::stream(stream("contested")).backward().limit(1)).await;
        assert_eq!(winners, last.iter().collect::<Vec<_>>(), "{outcomes:#?}");
        for error in outcomes.into_iter().filter_map(|(_, outcome)| outcome.err()) {
            assert_eq!(conflict_of(error), (stream("contested"), Expected::Exact(Version(round)), round + 1));
        }
    }
    assert_eq!(events(&*store, Read::all()).await.len(), 30);
}

pub(super) async fn racing_writers_leave_no_gap(store: Subject) {
    let positions = all(write_in_parallel(&store)).await;
    let mut reported: Vec<u64> = positions.into_iter().flatten().collect();
    reported.sort_unstable();
    let expected: Vec<u64> = (1..=(WRITERS * COMMITS_EACH * 2) as u64).collect();
    assert_eq!(reported, expected, "the positions that the writers were told");

    let stored = events(&*store, Read::all()).await;
    assert_eq!(stored.iter().map(|event| event.position.0).collect::<Vec<_>>(), expected);
    assert!(stored.is_sorted_by_key(|event| event.recorded_at), "the time of record goes back");
    assert_versions_gapless(&stored);
}

pub(super) async fn a_tailing_reader_sees_no_gap_no_skip_no_reorder(store: Subject) {
    let total = (WRITERS * COMMITS_EACH * 2) as u64;
    let readers = (0..3).map(|_| {
        let store = store.share();
        tokio::spawn(async move { tail(&*store, Position(total)).await })
    });
    let readers: Vec<_> = readers.collect();
    all(write_in_parallel(&store)).await;
    let stored = events(&*store, Read::all()).await;
    for seen in all(readers).await {
        assert_eq!(seen, stored, "a reader at the tail saw another log than a reader afterwards");
    }
    assert_versions_gapless(&stored);
}

/// Whoever comes late reads in steps of his own what was there before, while more and more comes behind it.
pub(super) async fn a_reader_that_catches_up_under_load_sees_the_same_log(store: Subject) {
    for number in 0..COMMITS_EACH {
        take(&*store, append("old", Expected::Any, &[&format!("old-{number}"), &format!("older-{number}")]))
            .await;
    }
    let total = Position(((WRITERS + 1) * COMMITS_EACH * 2) as u64);
    let writing = write_in_parallel(&store);
    let readers = [1, 7, 64, 1_000].map(|step| {
        let store = store.share();
        tokio::spawn(async move { catch_up(&*store, step, total).await })
    });
    let readers = all(readers).await;
    all(writing).await;
    let stored = events(&*store, Read::all()).await;
    for seen in readers {
        assert_eq!(seen, stored, "a reader that caught up saw another log than a reader afterwards");
    }
}

/// Reads so many events at a time, from the first one up to a position.
async fn catch_up(store: &dyn Store, step: usize, until: Position) -> Vec<Recorded> {
    let mut seen: Vec<Recorded> = Vec::new();
    while (seen.len() as u64) < until.0 {
        let last = Position(seen.len() as u64);
        let new = events(store, Read::all().after(last).limit(step)).await;
        if new.is_empty() {
            store.advanced(last).await.expect("the head advances");
        }
        for event in new {
            assert_eq!(event.position.0, seen.len() as u64 + 1, "after {last}");
            seen.push(event);
        }
    }
    seen
}

/// Follows the log as a subscription does, up to a position: waits, reads what is new, goes on behind it.
async fn tail(store: &dyn Store, until: Position) -> Vec<Recorded> {
    let mut seen: Vec<Recorded> = Vec::new();
    let mut last = Position::ZERO;
    while last < until {
        let head = store.advanced(last).await.expect("the head advances");
        let mut reading = store.read(Read::all().after(last));
        while let Some(event) = reading.try_next().await.expect("the tail can be read") {
            assert_eq!(event.position, last.next(), "after {last}");
            last = event.position;
            seen.push(event);
        }
        assert!(last >= head, "{head} was announced, but a read ended at {last}");
    }
    seen
}

pub(super) async fn nobody_sees_half_a_commit(store: Subject) {
    let total = (WRITERS * COMMITS_EACH) as u64;
    let readers = (0..3).map(|_| {
        let store = store.share();
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < total {
                store.advanced(Position(seen * 2)).await.expect("the head advances");
                let all = events(&*store, Read::all()).await;
                let [left, right] = ["left", "right"].map(|key| count(&all, key));
                assert_eq!(left, right, "half of a commit is readable");
                assert!(left > seen, "the head was announced past {} events", seen * 2);
                seen = left;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.share();
        tokio::spawn(async move {
            for number in 0..COMMITS_EACH {
                let [left, right] = ["l", "r"].map(|side| event(&format!("{side}{writer}-{number}")));
                let both = nothing().and("left", Expected::Any, [left]).and("right", Expected::Any, [right]);
                take(&*store, both).await;
                tokio::task::yield_now().await;
            }
        })
    });
    all(writers).await;
    all(readers).await;
}

pub(super) async fn racing_record_writers_lose_no_update(store: Subject) {
    let adders = (0..WRITERS).map(|_| {
        let store = store.share();
        tokio::spawn(async move {
            let mut added = 0;
            while added < COMMITS_EACH {
                added += usize::from(add_one(&*store).await);
            }
        })
    });
    all(adders).await;
    let counter = record(&*store, "counter").await.expect("it was written");
    assert_eq!(counter.value, (WRITERS * COMMITS_EACH).to_string());
}

/// Adds one to a record; false if another was faster.
async fn add_one(store: &dyn Store) -> bool {
    let old = record(store, "counter").await;
    let revision = old.as_ref().map(|record| record.revision).unwrap_or_default();
    let value = old.map_or(0, |record| {
        let text = String::from_utf8(record.value.to_vec()).expect("the counter is text");
        text.parse::<u64>().expect("the counter is a number")
    });
    let mut write = put("counter", "").expect(revision);
    write.change = ensue_core::Change::Put { value: (value + 1).to_string().into(), expires_at: None };
    // Others get their turn between reading and writing, or a store that answers at once would never be raced.
    tokio::task::yield_now().await;
    match store.commit(nothing().writing(write)).await {
        Ok(committed) => {
            assert!(committed.revision > revision, "a revision grows");
            true
        }
        Err(CommitError::RecordConflict { actual, .. }) => {
            assert!(actual > revision || revision == Revision::ZERO, "{actual} after {revision}");
            false
        }
        Err(other) => panic!("a record conflict was due, not: {other}"),
    }
}

/// Writers that append pairs of events, each to a stream of its own and to one that all share; they answer with the
/// positions that they were told.
fn write_in_parallel(store: &Subject) -> Vec<JoinHandle<Vec<u64>>> {
    let writer = |writer: usize| {
        let store = store.share();
        async move {
            let mut positions = Vec::new();
            for number in 0..COMMITS_EACH {
                let [own, shared] = ["own", "shared"].map(|side| event(&format!("{side}{writer}-{number}")));
                let version = Expected::Exact(Version(number as u64));
                let commit = nothing().and(&format!("own-{writer}"), version, [own]).and(
                    "shared",
                    Expected::Any,
                    [shared],
                );
                let committed = take(&*store, commit).await;
                positions.extend(committed.appended.iter().map(|appended| appended.first_position.0));
                tokio::task::yield_now().await;
            }
            positions
        }
    };
    (0..WRITERS).map(|number| tokio::spawn(writer(number))).collect()
}

fn assert_versions_gapless(events: &[Recorded]) {
    let mut versions: BTreeMap<&StreamName, Version> = BTreeMap::new();
    for event in events {
        let version = versions.entry(&event.stream).or_default();
        assert_eq!(event.version, version.next(), "{} after version {version}", event.stream);
        *version = event.version;
    }
}

fn count(events: &[Recorded], key: &str) -> u64 {
    events.iter().filter(|event| event.stream == stream(key)).count() as u64
}

/// Waits for tasks; a panic in one of them is a panic here.
async fn all<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let ended = join_all(tasks).await;
    ended
        .into_iter()
        .map(|task| task.unwrap_or_else(|failure| panic!("{}", super::message_of(failure))))
        .collect()
}
