//! The port's promises, one by one, on a real folder.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use ensue_core::{
    AppendCondition, Code, Commit, CommitError, Durability, EventType, Expected, Position, Query, Read,
    RecordScan, RecordWrite, Revision, Space, Store, StoreExt, Version,
};
use ensue_log::{Config, Log};

use crate::given::{append, block_on, commit, config, event, open, stream};

fn ids(log: &Log, read: Read) -> Vec<String> {
    let found = block_on(log.collect(read)).expect("a readable store");
    found.into_iter().map(|event| event.envelope.id.as_str().to_owned()).collect()
}

#[test]
fn what_was_committed_is_read_back_also_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let log = open(folder.path());
        if block_on(log.head()).expect("a head") == Position(0) {
            let first =
                block_on(log.commit(commit("Order/1", Expected::NoStream, &["a", "b"]))).expect("taken");
            assert_eq!(first.position(), Position(2));
            block_on(log.commit(commit("Order/2", Expected::Any, &["c"]))).expect("taken");
            let third =
                block_on(log.commit(commit("Order/1", Expected::Exact(Version(2)), &["d"]))).expect("taken");
            assert_eq!(third.appended[0].first_version, Version(3));
        }
        assert_eq!(ids(&log, Read::all()), ["a", "b", "c", "d"]);
        assert_eq!(ids(&log, Read::all().backward().limit(2)), ["d", "c"]);
        assert_eq!(ids(&log, Read::stream(stream("Order/1"))), ["a", "b", "d"]);
        assert_eq!(
            ids(&log, Read::stream(stream("Order/1")).from_version(Version(2)).backward()),
            ["d", "b"]
        );
        assert_eq!(ids(&log, Read::stream(stream("Order/3"))), Vec::<String>::new());
        assert_eq!(ids(&log, Read::flow(event("c", "x").id)), ["c"]);
        assert_eq!(ids(&log, Read::query(Query::tags(event("d", "x").tags))), ["d"]);
        let happened = Query::types([EventType::new("Happened").expect("a type")]);
        assert_eq!(ids(&log, Read::query(happened).after(Position(1)).until(Position(3))), ["b", "c"]);
        let stored = block_on(log.collect(Read::all().limit(1))).expect("readable");
        assert_eq!(stored[0].envelope, event("a", "Happened"));
        log.close().expect("a clean end");
    }
}

#[test]
fn whoever_sees_a_record_of_a_commit_can_read_its_events() {
    const COMMITS: u64 = 5_000;
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let (space, key) = (Space::new("seen").expect("a space"), Bytes::from("last"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let record = block_on(log.record(space.clone(), key.clone())).expect("readable");
                let head = block_on(log.head()).expect("a head");
                if let Some(record) = record {
                    assert!(record.revision.0 <= head.0, "commit {} is seen at {head}", record.revision);
                }
            }
        });
        // However this ends, or the scope would wait for who looks.
        let _over = Over(&is_over);
        // Each commit has one event, so its number is that of the event's position.
        for number in 0..COMMITS {
            let mut commit = commit("Order/1", Expected::Any, &[&format!("e{number}")]);
            commit.records.push(RecordWrite::put(space.clone(), key.clone(), "seen"));
            commit.durability = Durability::Buffered;
            let taken = block_on(log.commit(commit)).expect("taken");
            assert_eq!(taken.revision.0, taken.position().0);
        }
    });
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_stale_version_is_refused_and_a_repeat_is_recognised() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let first = block_on(log.commit(commit("Order/1", Expected::NoStream, &["a", "b"]))).expect("taken");
    let again = block_on(log.commit(commit("Order/1", Expected::NoStream, &["a", "b"]))).expect("recognised");
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.appended, first.appended);
    let refused = block_on(log.commit(commit("Order/1", Expected::NoStream, &["c"]))).expect_err("stale");
    assert!(matches!(refused, CommitError::Conflict { actual: Version(2), .. }), "{refused:?}");
    assert_eq!(block_on(log.head()).expect("a head"), Position(2));
}

#[test]
fn a_condition_sees_what_was_committed_after_its_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    block_on(log.commit(commit("Order/1", Expected::Any, &["a", "b"]))).expect("taken");
    let guarded = |after| Commit {
        condition: Some(AppendCondition {
            fail_if_match: Query::tags(event("b", "x").tags),
            after: Position(after),
        }),
        ..commit("Order/2", Expected::Any, &["c"])
    };
    let refused = block_on(log.commit(guarded(1))).expect_err("b came after 1");
    assert!(matches!(refused, CommitError::ConditionFailed { position: Position(2) }), "{refused:?}");
    block_on(log.commit(guarded(2))).expect("nothing came after 2");
}

#[test]
fn records_have_revisions_and_lapse() {
    let folder = tempfile::tempdir().expect("a folder");
    let space = Space::new("checkpoint").expect("a space");
    let log = open(folder.path());
    let put = |value: &'static str, expected: u64| Commit {
        records: vec![RecordWrite::put(space.clone(), "lane", value).expect(Revision(expected))],
        ..Commit::default()
    };
    let first = block_on(log.commit(put("1", 0))).expect("taken");
    let refused = block_on(log.commit(put("2", 0))).expect_err("it exists");
    assert!(
        matches!(refused, CommitError::RecordConflict { actual, .. } if actual == first.revision),
        "{refused:?}"
    );
    let second = block_on(log.commit(put("2", first.revision.0))).expect("taken");
    log.close().expect("a clean end");
    drop(log);
    let log = open(folder.path());
    let record = block_on(log.record(space.clone(), "lane")).expect("readable").expect("there");
    assert_eq!((record.value.as_ref(), record.revision), (&b"2"[..], second.revision));
    let lapsed = RecordWrite::put(space.clone(), "old", "x").expires_at(ensue_core::Timestamp::UNIX_EPOCH);
    block_on(log.commit(Commit { records: vec![lapsed], ..Commit::default() })).expect("taken");
    let page = block_on(log.scan(RecordScan::all(space))).expect("readable");
    assert_eq!(page.records.len(), 1);
}

#[test]
fn two_appends_to_one_stream_see_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let both = Commit {
        appends: vec![
            append("Order/1", Expected::NoStream, &["a"]),
            append("Order/1", Expected::Exact(Version(1)), &["b"]),
        ],
        ..Commit::default()
    };
    let committed = block_on(log.commit(both)).expect("taken");
    assert_eq!(committed.appended[1].first_version, Version(2));
}

#[test]
fn large_stores_read_the_same_warm_and_cold() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { window_bytes: 512 << 10, ..config() };
    let mut log = Log::open(folder.path(), config).expect("a folder of its own");
    let mut expected = Vec::new();
    for number in 0..3_000u32 {
        let id = format!("e{number}");
        let name = format!("Order/{}", number % 3);
        block_on(log.commit(commit(&name, Expected::Any, &[&id]))).expect("taken");
        expected.push(id);
    }
    let third: Vec<String> = expected.iter().step_by(3).cloned().collect();
    for _ in 0..2 {
        assert_eq!(ids(&log, Read::all()), expected);
        assert_eq!(ids(&log, Read::stream(stream("Order/0"))), third);
        assert_eq!(
            ids(&log, Read::stream(stream("Order/0")).from_version(Version(500)).limit(2)),
            third[499..501]
        );
        let backward: Vec<String> = third.iter().rev().cloned().collect();
        assert_eq!(ids(&log, Read::stream(stream("Order/0")).backward()), backward);
        let happened = Query::types([EventType::new("Happened").expect("a type")]);
        assert_eq!(ids(&log, Read::query(happened.clone())), expected);
        assert_eq!(ids(&log, Read::query(happened).backward().limit(5)).len(), 5);
        log.close().expect("a clean end");
        log = open(folder.path());
    }
    let stat = log.stat().expect("numbers");
    assert_eq!((stat.streams, stat.head), (3, Position(3_000)));
    assert_eq!(ids(&log, Read::stream(stream("Order/0"))), third);
    assert_eq!(ids(&log, Read::flow(event("e17", "x").id)), ["e17"]);
}

#[test]
fn an_event_that_is_too_large_is_refused_before_it_is_queued() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let mut huge = commit("Order/1", Expected::Any, &["a"]);
    huge.appends[0].events[0].data = vec![b'x'; 100 << 20].into();
    let refused = block_on(log.commit(huge)).expect_err("too large");
    assert_eq!(ensue_core::Error::from(refused).code(), Code::TOO_LARGE);
    assert_eq!(block_on(log.head()).expect("a head"), Position(0));
}

#[test]
fn a_folder_has_one_owner_who_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let refused = Log::open(folder.path(), config()).expect_err("it is open");
    assert_eq!(refused.code(), Code::IN_USE);
    assert!(refused.message().contains(&std::process::id().to_string()), "{refused}");
    drop(log);
    open(folder.path());
}

#[test]
fn a_folder_without_a_store_is_not_one() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(Log::open_existing(folder.path(), config()).expect_err("empty").code(), Code::NOT_A_STORE);
    std::fs::write(folder.path().join("notes.txt"), "mine").expect("a file");
    assert_eq!(Log::open(folder.path(), config()).expect_err("foreign").code(), Code::NOT_A_STORE);
}

#[test]
fn those_who_wait_are_woken_when_the_head_moves() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let waiting = log.advanced(Position(0));
    let committing = log.commit(commit("Order/1", Expected::Any, &["a"]));
    let (head, _) = block_on(futures_lite::future::zip(waiting, committing));
    assert_eq!(head.expect("an open store"), Position(1));
}
