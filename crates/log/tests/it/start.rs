//! What a start costs: it reads what is not in the index yet, which is bounded, and not the store.

use std::sync::Arc;

use ensue_core::{Expected, Store, StoreExt};
use ensue_log::{Config, Log};

use crate::given::{block_on, commit, config};
use crate::sim::{Fault, SimDisk};

const WINDOW: u64 = 16 << 10;

fn small() -> Config {
    Config { window_bytes: usize::try_from(WINDOW).expect("a small window"), ..config() }
}

/// Bytes of the journal that a start reads after so many commits, each in a block of its own, and a loss of power.
fn read_at_start_after(commits: u64) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let index = folder.path().join("index");
    let disk = SimDisk::new(Fault::None);
    let log = Log::open_on(Arc::new(disk.clone()), &index, &small()).expect("a new store");
    for number in 0..commits {
        let id = format!("evt-{number}");
        block_on(log.commit(commit("Order/1", Expected::Any, &[&id]))).expect("taken");
    }
    drop(log);
    assert!(disk.blocks() as u64 >= commits);
    let disk = disk.after_power_loss();
    let log = Log::open_on(Arc::new(disk.clone()), &index, &small()).expect("it recovers");
    let read = disk.bytes_read();
    assert_eq!(block_on(log.head()).expect("readable").0, commits);
    read
}

#[test]
fn a_start_reads_no_more_of_the_journal_where_the_store_is_ten_times_as_large() {
    let (small, large) = (read_at_start_after(300), read_at_start_after(3_000));
    assert!(large < small * 2 && large < 3_000 * 4096 / 4, "{small} bytes, and {large} of ten times as many");
}
