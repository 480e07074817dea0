//! Each event is in the tables once, whatever is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ensue_core::{Commit, RecordScan, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::TableProjectionExt;
use ensue_runtime::projection::Load;

use super::words::{Totals, expected, place, rows, start, tables_in};
use crate::given::Database;

/// Ends the connections of a database, all at once, again and again until it is told to end. Says how many it has ended.
fn cut_off(database: &Database, ends: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (url, ends) = (database.url(), Arc::clone(ends));
    tokio::spawn(async move {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("the server runs");
        tokio::spawn(connection);
        let cut = AtomicU64::new(0);
        while !ends.load(Ordering::Relaxed) {
            let sql = "SELECT count(pg_terminate_backend(pid)), pg_sleep(0.15) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            let row = client.query_one(sql, &[]).await.expect("nobody ends this one");
            cut.fetch_add(row.get::<_, i64>(0).unsigned_abs(), Ordering::Relaxed);
        }
        cut.load(Ordering::Relaxed)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn connections_that_are_cut_again_and_again_lose_and_double_nothing() {
    let database = Database::new().await;
    let running = start(database.open().await, |app| app.project_tables(Totals.page(8))).await;
    let ends = Arc::new(AtomicBool::new(false));
    let cutter = cut_off(&database, &ends);
    place(&running, 1..=150).await;
    ends.store(true, Ordering::Relaxed);
    assert!(cutter.await.expect("it has not failed") > 0, "no connection was cut");
    let last = place(&running, 151..=160).await;
    running.wait(last).await.expect("it goes on");
    assert_eq!(rows(&database.session().await).await, expected(1, 1..=160));
    assert!(running.projections().verify("totals").await.expect("it is compared").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn tables_in_another_database_take_what_is_delivered_twice_once() {
    let (log, tables) = (Database::new().await, Database::new().await);
    let target = Arc::new(tables.open().await);
    let mounted = || Totals.page(8).on(Arc::clone(&target));
    let running = start(log.open().await, |app| app.project_tables(mounted())).await;
    let ends = Arc::new(AtomicBool::new(false));
    let cutter = cut_off(&tables, &ends);
    let last = place(&running, 1..=100).await;
    ends.store(true, Ordering::Relaxed);
    assert!(cutter.await.expect("it has not failed") > 0, "no connection was cut");
    running.wait(last).await.expect("it goes on");
    running.stop(Duration::from_secs(5)).await.expect("it stops");
    let store = log.open().await;
    let space = Space::new("checkpoint").expect("a valid space");
    let marks = store.records(RecordScan::prefix(space.clone(), "view.totals")).await.expect("read");
    assert!(!marks.is_empty(), "there was a checkpoint");
    let records = marks.into_iter().map(|mark| RecordWrite::delete(space.clone(), mark.key)).collect();
    store.commit(Commit { records, ..Commit::default() }).await.expect("taken");
    let running = start(store, |app| app.project_tables(mounted())).await;
    let last = place(&running, 101..=110).await;
    running.wait(last).await.expect("it goes on");
    let client = tables.session().await;
    assert_eq!(rows(&client).await, expected(1, 1..=110));
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert_eq!(rows(&client).await, expected(1, 1..=110));
    assert_eq!(tables_in(&client).await, ["orders", "totals"]);
}
