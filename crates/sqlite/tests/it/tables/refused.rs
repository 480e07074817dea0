//! What a read model in tables does not take, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ensue_core::{Code, Error, Store, StoreExt};
use ensue_runtime::projection::{Load, Page, Tables};
use ensue_runtime::{App, OnFailure, Running, TableProjection, TableProjectionExt};
use ensue_sqlite::Session;
use ensue_sqlite::rusqlite::Connection;
use ensue_test::MemoryStore;

use super::words::{Placed, Totals, expected, order, place, rows, start, tables_in};
use crate::given::Folder;

async fn shown(running: &Running) -> Result<(), Error> {
    let head = running.store().head().await.expect("it can be read");
    running.wait(head).await
}

fn sql(folder: &Folder, statements: &str) {
    Connection::open(folder.file())
        .and_then(|connection| connection.execute_batch(statements))
        .expect("the statements are taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_stops_it_after_everything_before_was_taken() {
    let folder = Folder::new();
    let running = start(folder.open().await, |app| app).await;
    place(&running, 1..=20).await;
    running.publish(Placed { cents: -21, ..order(21) }).await.expect("it is taken");
    place(&running, 22..=40).await;
    running.stop(std::time::Duration::from_secs(5)).await.expect("it stops");
    let totals = Totals::default();
    let running = start(folder.open().await, |app| app.project_tables(totals.clone().retry(1))).await;
    let refused = shown(&running).await.expect_err("it stops");
    assert!(refused.message().contains("CHECK"), "{refused}");
    assert_eq!(rows(&folder.file()), expected(1, 1..=20));
    // One page of 40, and then half of what fails, again and again.
    let pages = totals.pages.load(Ordering::Relaxed);
    assert!(pages <= 16, "{pages} pages to find one event among 40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_skipped_is_counted_and_one_that_is_parked_is_taken_when_it_is_redriven() {
    for policy in [OnFailure::Skip, OnFailure::Park] {
        let folder = Folder::new();
        let totals = Totals::default();
        let mounted = totals.clone().retry(1).on_failure(policy);
        let running = start(folder.open().await, |app| app.project_tables(mounted)).await;
        place(&running, 1..=4).await;
        running.publish(Placed { cents: -5, ..order(5) }).await.expect("it is taken");
        place(&running, 6..=9).await;
        shown(&running).await.expect("it goes on");
        let status = running.projections().list().await.expect("it can be read").remove(0);
        if policy == OnFailure::Skip {
            assert_eq!(rows(&folder.file()), expected(1, [1, 2, 3, 4, 6, 7, 8, 9]));
            assert_eq!((status.skipped, status.parked), (1, 0));
            continue;
        }
        assert_eq!(rows(&folder.file()), expected(1, [1, 2, 3, 4, 6, 7, 9]));
        assert_eq!((status.skipped, status.parked), (0, 2));
        totals.is_lenient.store(true, Ordering::Relaxed);
        let which = ensue_runtime::dead::Which::key("view.totals", "CUST-2");
        running.dead().redrive(&which).await.expect("it is parked");
        while !running.dead().list().await.expect("it can be read").is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(rows(&folder.file()), expected(1, 1..=9));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_would_lose_what_hangs_on_the_tables_is_refused_before_the_work() {
    let folder = Folder::new();
    let running = start(folder.open().await, |app| app.project_tables(Totals::default())).await;
    let last = place(&running, 1..=9).await;
    running.wait(last).await.expect("it goes on");
    sql(
        &folder,
        "CREATE TABLE notes (customer TEXT REFERENCES totals);
                  CREATE TRIGGER audited AFTER INSERT ON orders BEGIN SELECT 1; END",
    );
    let refused = running.projections().rebuild("totals", Load::Full).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::TABLES_HELD);
    for what in ["a foreign key of table notes", "trigger audited"] {
        assert!(refused.message().contains(what), "{refused}");
    }
    sql(&folder, "DROP TABLE notes; DROP TRIGGER audited");
    running.projections().rebuild("totals", Load::Full).await.expect("nothing is in the way");
    assert_eq!(rows(&folder.file()), expected(1, 1..=9));
    assert_eq!(tables_in(&folder.file()), ["orders", "totals"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_stays_with_the_name_of_a_table_and_a_foreign_key_with_its_tables() {
    let folder = Folder::new();
    let running = start(folder.open().await, |app| app.project_tables(Totals::default())).await;
    let last = place(&running, 1..=9).await;
    running.wait(last).await.expect("it goes on");
    sql(
        &folder,
        "CREATE VIEW large AS SELECT customer FROM totals WHERE cents > 12;
                  UPDATE totals SET cents = 0",
    );
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    let connection = Connection::open(folder.file()).expect("the file is a database");
    let large: i64 =
        connection.query_row("SELECT count(*) FROM large", (), |row| row.get(0)).expect("the view holds");
    assert_eq!(large, 2, "the view shows the new rows");
    let parent: String = connection
        .query_row("SELECT \"table\" FROM pragma_foreign_key_list('orders')", (), |row| row.get(0))
        .expect("the key is there");
    assert_eq!(parent, "totals");
    let orphan = connection.execute("INSERT INTO orders VALUES ('ORD-X', 'NOBODY', 1)", ());
    assert!(orphan.is_err(), "the foreign key is checked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_else_has_made_is_left_alone() {
    let folder = Folder::new();
    drop(folder.open().await);
    sql(&folder, "CREATE TABLE orders (mine TEXT); INSERT INTO orders VALUES ('kept')");
    let running = start(folder.open().await, |app| app.project_tables(Totals::default())).await;
    let refused = shown(&running).await.map(|()| place(&running, 1..=1));
    let refused = match refused {
        Ok(placing) => running.wait(placing.await).await.expect_err("it stops"),
        Err(refused) => refused,
    };
    assert!(refused.message().contains("orders already exists"), "{refused}");
    assert_eq!(tables_in(&folder.file()), ["orders"], "nothing is half made");
}

/// Works with the session of another adapter.
struct Astray;

impl TableProjection for Astray {
    const NAME: &'static str = "astray";
    type Event = Placed;
    type Session = Session;

    fn tables(&self) -> Tables {
        Tables::new().table("astray", "CREATE TABLE {astray} (n INTEGER)")
    }

    async fn apply(&self, _: Page<Placed>, _: &Session) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_store_without_transactions_and_lanes_elsewhere_are_refused_at_the_start() {
    let app = || App::new("shop").external::<Placed>();
    let memory = Arc::new(MemoryStore::new(ensue_runtime::host::system()));
    let refused = app().store(memory.clone()).project_tables(Astray).check().expect_err("refused");
    assert_eq!(refused.code(), Code::UNSUPPORTED);
    let refused = app().store(memory.clone()).project_tables(Astray.on(memory)).check().expect_err("refused");
    assert_eq!(refused.code(), Code::UNSUPPORTED);
    let folder = Folder::new();
    let store = folder.open().await;
    assert!(store.capabilities().can_transact);
    let many = app().store(store.clone()).project_tables(Astray.on(store.clone()).lanes(2));
    assert_eq!(many.check().expect_err("refused").code(), Code::UNSUPPORTED);
    app().store(store.clone()).project_tables(Astray.on(store)).check().expect("one lane will do");
}
