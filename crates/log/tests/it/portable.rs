//! Moving a store: an import keeps what another log has recorded, and nothing else can be imported.

use ensue_core::{
    Code, Commit, Expected, Portable, Position, Read, RecordWrite, Recorded, Space, Store, StoreExt,
};
use futures_lite::future::block_on;

use crate::given::{commit, open};

fn all(log: &ensue_log::Log) -> Vec<Recorded> {
    block_on(log.collect(Read::all())).expect("a whole log")
}

/// A log of streams that take turns.
fn filled(folder: &std::path::Path, events: usize) -> ensue_log::Log {
    let log = open(folder);
    for number in 0..events {
        let (name, id) = (format!("Order/{}", number % 7), format!("e{number}"));
        block_on(log.commit(commit(&name, Expected::Any, &[&id]))).expect("there is room");
    }
    log
}

#[test]
fn an_import_keeps_positions_versions_and_times_also_after_a_restart() {
    let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let source = filled(from.path(), 1_500);
    let events = all(&source);
    let target = open(to.path());
    let (first, rest) = events.split_at(400);
    block_on(target.import(first.to_vec())).expect("it follows");
    assert_eq!(block_on(target.import(rest.to_vec())).expect("it follows"), Position(1_500));
    assert_eq!(all(&target), events);
    target.close().expect("it closes");
    assert_eq!(all(&open(to.path())), events);
}

#[test]
fn what_does_not_follow_the_head_is_refused_as_a_whole() {
    let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let events = all(&filled(from.path(), 10));
    let target = open(to.path());
    let gap = [&events[..3], &events[4..]].concat();
    for strays in [events[1..].to_vec(), gap] {
        let error = block_on(target.import(strays)).expect_err("a position is missing");
        assert_eq!(error.code(), Code::NO_COPY);
        assert_eq!(block_on(target.head()).expect("readable"), Position::ZERO);
    }
}

#[test]
fn spaces_are_found_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["a", "a.b", "ab", "z"];
    let put = |log: &ensue_log::Log, name: &str| {
        let records = vec![RecordWrite::put(Space::new(name).expect("valid"), "key", "value")];
        block_on(log.commit(Commit { records, ..Commit::default() })).expect("there is room");
    };
    let log = open(folder.path());
    names[..3].iter().for_each(|name| put(&log, name));
    log.close().expect("flushed");
    let log = open(folder.path());
    put(&log, names[3]);
    let spaces = block_on(log.spaces()).expect("readable");
    assert_eq!(spaces.iter().map(Space::as_str).collect::<Vec<_>>(), names);
}
