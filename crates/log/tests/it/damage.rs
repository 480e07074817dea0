//! Bytes that are not what was written: every change is noticed, with its range, or does not matter.

use std::path::Path;
use std::sync::Arc;

use ensue_core::{Code, Expected, Read, Store, StoreExt, Version};
use ensue_log::verify::{Report, verify_on};
use ensue_log::{Config, Log};

use crate::given::{block_on, commit, config};
use crate::sim::{Fault, SimDisk};

const JOURNAL: &str = "journal/00000001.log";
const FRAME: usize = 4096;
const COMMITS: usize = 4;

/// A store that was not closed: nothing but its frames says what was acknowledged.
fn crashed(ids: &[&str]) -> SimDisk {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::new(Fault::None);
    let config = Config { window_bytes: 1 << 20, ..config() };
    let log =
        Log::open_on(Arc::new(disk.clone()), &folder.path().join("index"), &config).expect("a new store");
    for (id, version) in ids.iter().zip(0..) {
        block_on(log.commit(commit("Order/1", Expected::Exact(Version(version)), &[id]))).expect("taken");
    }
    disk.after_power_loss()
}

fn look(disk: &SimDisk) -> Report {
    verify_on(disk, Path::new("/nonexistent/index")).expect("a superblock")
}

/// The damaged range that a finding names in the journal.
fn range(report: &Report) -> Option<(usize, usize)> {
    let [finding] = report.findings.as_slice() else { return None };
    assert_eq!(finding.code(), Code::CORRUPT, "{finding}");
    let (_, rest) = finding.message().split_once("bytes ")?;
    let (range, _) = rest.split_once(':')?;
    let (from, until) = range.split_once("..")?;
    Some((from.parse().ok()?, until.parse().ok()?))
}

#[test]
fn a_flipped_byte_is_noticed_in_its_range_or_is_padding() {
    let disk = crashed(&["a", "b", "c", "d"]);
    let whole = look(&disk);
    assert_eq!((whole.events, whole.findings.len()), (COMMITS as u64, 0), "{whole:?}");
    let bytes = disk.bytes(JOURNAL);
    let end = COMMITS * FRAME;
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "the frames are 4 KiB each");
    let mut padding = 0;
    let content = (0..end).filter(|at| bytes[*at] != 0 || at % 13 == 0);
    for at in content {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        disk.tamper(JOURNAL, damaged);
        let report = look(&disk);
        let Some((from, until)) = range(&report) else {
            assert_eq!(report.events, COMMITS as u64, "byte {at}: events are gone without a word");
            assert_eq!(bytes[at], 0, "byte {at} is content");
            padding += 1;
            continue;
        };
        assert!((from..until).contains(&at), "byte {at}: the report says {from}..{until}");
    }
    assert!((1..end / 13).contains(&padding), "of the bytes that are zero, some are content: {padding}");
}

#[test]
fn a_flipped_byte_keeps_the_store_shut() {
    let disk = crashed(&["a", "b", "c", "d"]);
    let mut bytes = disk.bytes(JOURNAL);
    bytes[3 * FRAME + 200] ^= 1;
    disk.tamper(JOURNAL, bytes);
    let folder = tempfile::tempdir().expect("a folder");
    let refused = Log::open_on(Arc::new(disk), &folder.path().join("index"), &config()).expect_err("rot");
    assert_eq!(refused.code(), Code::CORRUPT);
    assert!(refused.message().contains("00000001.log, bytes 12416.."), "{refused}");
}

#[test]
fn a_file_cut_at_any_length_is_noticed() {
    let disk = crashed(&["a", "b", "c", "d"]);
    let bytes = disk.bytes(JOURNAL);
    for length in (0..bytes.len()).step_by(509) {
        disk.tamper(JOURNAL, bytes[..length].to_vec());
        let report = look(&disk);
        assert_eq!(range(&report), Some((length, bytes.len())), "{report:?}");
    }
}

#[test]
fn every_lost_block_before_the_last_frame_is_noticed() {
    let disk = crashed(&["a", "b", "c", "d"]);
    let bytes = disk.bytes(JOURNAL);
    for frame in 0..COMMITS - 1 {
        let mut damaged = bytes.clone();
        damaged[frame * FRAME..(frame + 1) * FRAME].fill(0);
        disk.tamper(JOURNAL, damaged);
        let found = range(&look(&disk)).expect("a finding");
        assert_eq!(found, (frame * FRAME, (frame + 1) * FRAME));
    }
}

#[test]
fn the_last_frame_of_a_closed_store_cannot_vanish() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::new(Fault::None);
    let log =
        Log::open_on(Arc::new(disk.clone()), &folder.path().join("index"), &config()).expect("a new store");
    block_on(log.commit(commit("Order/1", Expected::Any, &["a"]))).expect("taken");
    log.close().expect("a clean end");
    let mut bytes = disk.bytes(JOURNAL);
    bytes[..FRAME].fill(0);
    disk.tamper(JOURNAL, bytes);
    let found = range(&look(&disk)).expect("a finding");
    assert_eq!(found.0, 0);
}

#[test]
fn swapped_and_copied_frames_are_noticed() {
    let disk = crashed(&["a", "b", "c", "d"]);
    let bytes = disk.bytes(JOURNAL);
    let frame = |number: usize| bytes[number * FRAME..(number + 1) * FRAME].to_vec();
    for (to, from) in [(0, 1), (1, 0), (2, 3), (3, 2), (COMMITS, 1)] {
        let mut damaged = bytes.clone();
        damaged[to * FRAME..(to + 1) * FRAME].copy_from_slice(&frame(from));
        disk.tamper(JOURNAL, damaged);
        let found = range(&look(&disk)).expect("a finding");
        assert!((found.0..found.1).contains(&(to * FRAME)), "frame {from} copied over {to}: {found:?}");
    }
}

/// Both histories have the same identity, as a restored backup that was written on has; only the chain tells them apart.
#[test]
fn a_frame_of_another_history_breaks_the_chain() {
    let (one, other) = (crashed(&["a", "b", "c", "d"]), crashed(&["a", "x", "c", "d"]));
    let (bytes, foreign) = (one.bytes(JOURNAL), other.bytes(JOURNAL));
    assert_eq!(bytes[..FRAME], foreign[..FRAME], "the first frame is the same in both");
    let mut spliced = bytes;
    spliced[2 * FRAME..].copy_from_slice(&foreign[2 * FRAME..]);
    one.tamper(JOURNAL, spliced);
    let report = look(&one);
    assert_eq!(range(&report).map(|found| found.0), Some(2 * FRAME), "{report:?}");
    assert!(report.findings[0].message().contains("chain"), "{report:?}");
}

#[test]
fn the_journal_of_another_store_is_noticed() {
    let (one, other) = (crashed(&["a"]), SimDisk::new(Fault::None));
    let folder = tempfile::tempdir().expect("a folder");
    let config = config();
    config.host.entropy.fill(&mut [0; 3]); // so that this store gets another uuid
    let log =
        Log::open_on(Arc::new(other.clone()), &folder.path().join("index"), &config).expect("a new store");
    block_on(log.commit(commit("Order/1", Expected::Any, &["a"]))).expect("taken");
    one.tamper(JOURNAL, other.bytes(JOURNAL));
    let report = look(&one);
    assert_eq!(range(&report).map(|found| found.0), Some(0), "{report:?}");
    assert!(report.findings[0].message().contains("written elsewhere"), "{report:?}");
}

#[test]
fn either_copy_of_the_superblock_is_enough_and_both_are_needed() {
    let disk = crashed(&["a"]);
    let bytes = disk.bytes("superblock");
    for at in (0..2 * FRAME).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x80;
        disk.tamper("superblock", damaged);
        assert_eq!(look(&disk).events, 1, "byte {at}");
    }
    let mut damaged = bytes;
    damaged[20] ^= 1;
    damaged[FRAME + 20] ^= 1;
    disk.tamper("superblock", damaged);
    let refused = verify_on(&disk, Path::new("/nonexistent/index")).expect_err("no copy is whole");
    assert_eq!(refused.code(), Code::CORRUPT);
}

#[test]
fn a_half_deleted_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::open(folder.path(), config()).expect("a new store");
    block_on(log.commit(commit("Order/1", Expected::Any, &["a"]))).expect("taken");
    drop(log);
    let kept = std::fs::read(folder.path().join("superblock")).expect("a superblock");
    std::fs::remove_file(folder.path().join("superblock")).expect("removed");
    for refused in [Log::open(folder.path(), config()), Log::open_existing(folder.path(), config())] {
        let refused = refused.expect_err("the superblock is gone");
        assert_eq!(refused.code(), Code::INCOMPLETE, "{refused}");
    }
    std::fs::write(folder.path().join("superblock"), kept).expect("put back");
    std::fs::remove_file(folder.path().join(JOURNAL)).expect("removed");
    let refused = Log::open(folder.path(), config()).expect_err("the journal is gone");
    assert_eq!(refused.code(), Code::INCOMPLETE, "{refused}");
    assert!(refused.message().contains("00000001.log"), "{refused}");
}

#[test]
fn a_lost_or_foreign_index_is_rebuilt() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::open(folder.path(), config()).expect("a new store");
    for version in 0..50 {
        let one = commit("Order/1", Expected::Exact(Version(version)), &[&format!("e{version}")]);
        block_on(log.commit(one)).expect("taken");
    }
    drop(log);
    let other = tempfile::tempdir().expect("a folder");
    drop(Log::open(other.path(), config()).expect("a new store"));
    let index = folder.path().join("index");
    for damage in ["gone", "garbage"] {
        std::fs::remove_dir_all(&index).expect("removed");
        if damage == "garbage" {
            std::fs::create_dir(&index).expect("made");
            std::fs::write(index.join("version"), "not an index").expect("written");
        }
        let log = Log::open(folder.path(), config()).unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        assert_eq!(block_on(log.collect(Read::all())).expect("readable").len(), 50, "{damage}");
        log.close().expect("a clean end");
        let report = ensue_log::verify(folder.path()).expect("a store");
        assert!(report.findings.is_empty() && report.indexed.0 == 50, "{damage}: {report:?}");
    }
}
