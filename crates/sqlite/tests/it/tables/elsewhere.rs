//! Tables in another database than that of the log: how far they are stands beside them.

use std::sync::atomic::Ordering;

use ensue_core::{Code, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::dead::Which;
use ensue_runtime::projection::Load;
use ensue_runtime::{OnFailure, Running, TableProjectionExt};

use super::words::{Placed, Totals, expected, order, place, rows, start};
use crate::given::Folder;

/// Forgets how far the log knows the tables to be, so that everything is delivered again.
async fn forget_checkpoints(folder: &Folder) {
    let store = folder.open().await;
    let space = Space::new("checkpoint").expect("a valid space");
    let records =
        store.records(ensue_core::RecordScan::prefix(space.clone(), "view.totals")).await.expect("read");
    assert!(!records.is_empty(), "there was a checkpoint");
    let records = records.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)).collect();
    store.commit(ensue_core::Commit { records, ..ensue_core::Commit::default() }).await.expect("taken");
}

/// The read model fed by this log, in these tables.
async fn start_on(log: &Folder, tables: &Folder) -> Running {
    let target = tables.open().await;
    start(log.open().await, |app| app.project_tables(Totals::default().on(target))).await
}

async fn stopped(running: Running) {
    running.stop(std::time::Duration::from_secs(5)).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_twice_changes_the_tables_once() {
    let (log, tables) = (Folder::new(), Folder::new());
    let totals = Totals::default();
    let target = tables.open().await;
    let running =
        start(log.open().await, |app| app.project_tables(totals.clone().page(4).on(target.clone()))).await;
    let last = place(&running, 1..=10).await;
    running.wait(last).await.expect("it goes on");
    stopped(running).await;
    forget_checkpoints(&log).await;
    let before = totals.events.load(Ordering::Relaxed);
    let running =
        start(log.open().await, |app| app.project_tables(totals.clone().page(4).on(target.clone()))).await;
    let last = place(&running, 11..=12).await;
    running.wait(last).await.expect("it goes on");
    assert_eq!(rows(&tables.file()), expected(1, 1..=12));
    assert_eq!(totals.events.load(Ordering::Relaxed) - before, 2, "what was there was not even handed in");
}

/// Places an order that the tables refuse, between others of the same and of other customers.
async fn with_a_refused_one(running: &Running) {
    place(running, 1..=4).await;
    running.publish(Placed { cents: -5, ..order(5) }).await.expect("it is taken");
    place(running, 6..=9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_is_taken_once_when_it_is_redriven_and_never_again_after_a_rebuild() {
    let (log, tables) = (Folder::new(), Folder::new());
    let totals = Totals::default();
    let mounted = totals.clone().on_failure(OnFailure::Park).retry(1).on(tables.open().await);
    let running = start(log.open().await, |app| app.project_tables(mounted)).await;
    with_a_refused_one(&running).await;
    let head = running.store().head().await.expect("it can be read");
    running.wait(head).await.expect("it goes on");
    // Of the customer of order 5 what comes later waits behind it: order 8.
    assert_eq!(rows(&tables.file()), expected(1, [1, 2, 3, 4, 6, 7, 9]));
    totals.is_lenient.store(true, Ordering::Relaxed);
    let asked = running.dead().redrive(&Which::key("view.totals", "CUST-2")).await.expect("it is parked");
    assert_eq!(asked.letters, 2);
    while !running.dead().list().await.expect("it can be read").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rows(&tables.file()), expected(1, 1..=9));
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert_eq!(rows(&tables.file()), expected(1, 1..=9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_ahead_of_the_log_are_refused_until_they_are_built_anew() {
    let (log, tables, restored) = (Folder::new(), Folder::new(), Folder::new());
    let running = start_on(&log, &tables).await;
    let last = place(&running, 1..=10).await;
    running.wait(last).await.expect("it goes on");
    stopped(running).await;
    // A log that was restored from an old backup, or another one: it has fewer events, and later others.
    let running = start_on(&restored, &tables).await;
    let last = place(&running, 1..=3).await;
    let refused = running.wait(last).await.expect_err("it stops");
    assert_eq!(refused.code(), Code::TABLES_APART, "{refused}");
    assert_eq!(rows(&tables.file()), expected(1, 1..=10), "nothing was touched");
    place(&running, 4..=20).await;
    stopped(running).await;
    let running = start_on(&restored, &tables).await;
    let last = place(&running, 21..=22).await;
    let refused = running.wait(last).await.expect_err("it stops");
    assert_eq!(refused.code(), Code::TABLES_APART, "the log is long enough now, but it is another one");
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    let last = place(&running, 23..=24).await;
    running.wait(last).await.expect("it goes on");
    assert_eq!(rows(&tables.file()), expected(1, 1..=24));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_behind_the_log_are_refused_too() {
    let (log, tables, backup) = (Folder::new(), Folder::new(), Folder::new());
    let running = start_on(&log, &tables).await;
    let last = place(&running, 1..=5).await;
    running.wait(last).await.expect("it goes on");
    stopped(running).await;
    let copied = ensue_sqlite::rusqlite::Connection::open(tables.file()).expect("the file is a database");
    copied.execute("VACUUM INTO ?1", [backup.file().to_str().expect("a plain path")]).expect("it is copied");
    let running = start_on(&log, &tables).await;
    let last = place(&running, 6..=9).await;
    running.wait(last).await.expect("it goes on");
    stopped(running).await;
    let running = start_on(&log, &backup).await;
    let last = place(&running, 10..=10).await;
    let refused = running.wait(last).await.expect_err("it stops");
    assert_eq!(refused.code(), Code::TABLES_APART, "{refused}");
    assert!(refused.message().contains("4 events"), "{refused}");
}
