//! Tables that are built anew while events come and readers read, by one process or by two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::StoreExt;
use ensue_runtime::projection::Load;
use ensue_runtime::{Sharing, TableProjectionExt};
use ensue_sqlite::rusqlite::Connection;

use super::words::{Doubled, Rows, Totals, expected, place, read, rows, start, tables_in};
use crate::given::Folder;

/// Reads the tables again and again, as another program does, until it is told to end. Each look must be whole: as many orders
/// as the totals say. Says what it has seen.
fn watch(folder: &Folder, ends: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Rows>> {
    let (file, ends) = (folder.file(), Arc::clone(ends));
    std::thread::spawn(move || {
        let mut connection = Connection::open(file).expect("the file is a database");
        connection.busy_timeout(Duration::from_secs(5)).expect("it can be set");
        let mut looks = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            looks.push(read(&mut connection).expect("the tables are there at every moment"));
        }
        looks
    })
}

fn check_looks(looks: &[Rows]) {
    for rows in looks {
        let (orders, cents) = rows.totals.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert_eq!(orders, i64::try_from(rows.orders.len()).expect("a count"), "a look at half a page");
        assert_eq!(cents, rows.orders.values().sum::<i64>());
    }
    let counts: Vec<usize> = looks.iter().map(|rows| rows.orders.len()).collect();
    assert!(counts.is_sorted(), "readers have seen an older state again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuild_under_load_shows_readers_no_gap_and_nothing_older() {
    let folder = Folder::new();
    let running = start(folder.open().await, |app| app.project_tables(Totals::default().page(16))).await;
    let last = place(&running, 1..=60).await;
    running.wait(last).await.expect("it goes on");
    let ends = Arc::new(AtomicBool::new(false));
    let reader = watch(&folder, &ends);
    let (placed, rebuilt) = tokio::join!(place(&running, 61..=200), async {
        let mut generations = Vec::new();
        for _ in 0..3 {
            let rebuilt = running.projections().rebuild("totals", Load::Full).await.expect("it is built");
            generations.push(rebuilt.generation.number);
        }
        generations
    });
    running.wait(placed).await.expect("it goes on");
    ends.store(true, Ordering::Relaxed);
    let looks = reader.join().expect("the reader has not failed");
    check_looks(&looks);
    assert!(looks.len() > 3, "{} looks", looks.len());
    assert_eq!(rebuilt, [1, 2, 3]);
    assert_eq!(rows(&folder.file()), expected(1, 1..=200));
    assert_eq!(tables_in(&folder.file()), ["orders", "totals"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_raised_version_is_built_once_by_two_processes_that_share_the_file() {
    let folder = Folder::new();
    let sharing = Sharing {
        heartbeat: Duration::from_millis(50),
        lease: Duration::from_millis(500),
        look: Duration::from_millis(10),
    };
    let one = start(folder.open().await, |app| app.share(sharing).project_tables(Totals::default())).await;
    let last = place(&one, 1..=50).await;
    one.wait(last).await.expect("it goes on");
    assert_eq!(rows(&folder.file()), expected(1, 1..=50));
    one.stop(Duration::from_secs(5)).await.expect("it stops");
    let mounted = || Doubled.page(8).build_load(Load::Full);
    let (one, two) = tokio::join!(
        start(folder.open().await, |app| app.share(sharing).project_tables(mounted())),
        start(folder.open().await, |app| app.share(sharing).project_tables(mounted())),
    );
    let last = place(&two, 51..=80).await;
    one.wait(last).await.expect("the one has not stopped");
    two.wait(last).await.expect("the other has not stopped");
    assert_eq!(rows(&folder.file()), expected(2, 1..=80));
    assert_eq!(one.store().head().await.expect("it can be read"), last);
    let status = one.projections().list().await.expect("it can be read");
    assert_eq!((status[0].live.version, status[0].behind), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_comparison_while_events_go_on_finds_nothing_but_what_is_wrong() {
    let folder = Folder::new();
    let running = start(folder.open().await, |app| app.project_tables(Totals::default().page(16))).await;
    place(&running, 1..=40).await;
    let projections = running.projections();
    let (placed, found) = tokio::join!(place(&running, 41..=120), projections.verify("totals"));
    let found = found.expect("it is compared");
    assert!(found.is_none() && found.events > 0, "{found:?}");
    running.wait(placed).await.expect("it goes on");
    let connection = Connection::open(folder.file()).expect("the file is a database");
    connection
        .execute_batch(
            "UPDATE orders SET cents = 7777 WHERE number = 'ORD-0007';
             DELETE FROM orders WHERE number = 'ORD-0008';
             INSERT INTO totals VALUES ('CUST-X', 1, 1)",
        )
        .expect("the statements are taken");
    let found = running.projections().verify("totals").await.expect("it is compared");
    assert_eq!(
        found.added,
        ["totals: 'CUST-X', 1, 1", "orders: 'ORD-0007', 'CUST-1', 7777"],
        "rows that the log does not give"
    );
    assert_eq!(found.missing, ["orders: 'ORD-0007', 'CUST-1', 7", "orders: 'ORD-0008', 'CUST-2', 8"]);
    assert_eq!((found.events, found.documents), (120, 4 + 119));
    assert_eq!(tables_in(&folder.file()), ["orders", "totals"]);
    let status = running.projections().list().await.expect("it can be read").remove(0);
    assert!(status.alarm.is_some(), "the alarm is raised");
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert!(running.projections().verify("totals").await.expect("it is compared").is_none());
    assert_eq!(rows(&folder.file()), expected(1, 1..=120));
    let refused = running.projections().audit("totals").await.expect_err("it is refused");
    assert_eq!(refused.code(), ensue_core::Code::UNSUPPORTED);
}
