//! New tables in the place of old ones: what readers see, and what moves over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::Code;
use ensue_runtime::projection::Load;
use ensue_runtime::{Sharing, TableProjectionExt};

use super::words::{Doubled, Totals, expected, place, rows, start, tables_in};
use crate::given::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_rebuild_under_load_shows_readers_no_gap_and_nothing_older() {
    let database = Database::new().await;
    let running = start(database.open().await, |app| app.project_tables(Totals.page(16))).await;
    let last = place(&running, 1..=60).await;
    running.wait(last).await.expect("it goes on");
    let ends = Arc::new(AtomicBool::new(false));
    let (client, told) = (database.session().await, Arc::clone(&ends));
    let reader = tokio::spawn(async move {
        let mut counts = Vec::new();
        while !told.load(Ordering::Relaxed) {
            let rows = rows(&client).await;
            let orders: i64 = rows.totals.values().map(|(orders, _)| orders).sum();
            assert_eq!(orders, i64::try_from(rows.orders.len()).expect("a count"), "a look at half a page");
            counts.push(orders);
        }
        counts
    });
    let (placed, ()) = tokio::join!(place(&running, 61..=200), async {
        for number in 1..=3 {
            let rebuilt = running.projections().rebuild("totals", Load::Full).await.expect("it is built");
            assert_eq!(rebuilt.generation.number, number);
        }
    });
    running.wait(placed).await.expect("it goes on");
    ends.store(true, Ordering::Relaxed);
    let counts = reader.await.expect("the reader has not failed");
    assert!(counts.is_sorted() && counts.len() > 3, "readers have seen an older state again: {counts:?}");
    let client = database.session().await;
    assert_eq!(rows(&client).await, expected(1, 1..=200));
    assert_eq!(tables_in(&client).await, ["orders", "totals"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_raised_version_is_built_once_by_two_processes_that_share_the_database() {
    let database = Database::new().await;
    let sharing = Sharing {
        heartbeat: Duration::from_millis(50),
        lease: Duration::from_millis(500),
        look: Duration::from_millis(10),
    };
    let one = start(database.open().await, |app| app.share(sharing).project_tables(Totals)).await;
    let last = place(&one, 1..=50).await;
    one.wait(last).await.expect("it goes on");
    one.stop(Duration::from_secs(5)).await.expect("it stops");
    let (first, second) = (database.open().await, database.open().await);
    let mounted = || Doubled.page(8).build_load(Load::Full);
    let (one, two) = tokio::join!(
        start(first, |app| app.share(sharing).project_tables(mounted())),
        start(second, |app| app.share(sharing).project_tables(mounted())),
    );
    let last = place(&two, 51..=80).await;
    one.wait(last).await.expect("the one has not stopped");
    two.wait(last).await.expect("the other has not stopped");
    let client = database.session().await;
    assert_eq!(rows(&client).await, expected(2, 1..=80));
    let status = one.projections().list().await.expect("it can be read");
    assert_eq!((status[0].live.version, status[0].behind), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_may_read_the_old_tables_may_read_the_new_ones_and_nobody_else() {
    let database = Database::new().await;
    let client = database.session().await;
    let roles = ["reader", "writer"].map(|role| format!("{role}_{}", std::process::id()));
    for role in &roles {
        client.batch_execute(&format!("CREATE ROLE {role}")).await.expect("valid SQL");
    }
    let running = start(database.open().await, |app| app.project_tables(Totals)).await;
    let last = place(&running, 1..=9).await;
    running.wait(last).await.expect("it goes on");
    let [reader, writer] = &roles;
    client
        .batch_execute(&format!(
            "GRANT SELECT ON totals, orders TO {reader} WITH GRANT OPTION; GRANT INSERT, UPDATE ON orders TO {writer};
             ALTER DEFAULT PRIVILEGES GRANT DELETE ON TABLES TO {writer}"
        ))
        .await
        .expect("valid SQL");
    let rights = async || {
        let sql = "SELECT table_name::text, grantee::text, privilege_type::text, is_grantable::text
                   FROM information_schema.role_table_grants
                   WHERE grantee LIKE 'reader\\_%' OR grantee LIKE 'writer\\_%' ORDER BY 1, 2, 3";
        let rows = client.query(sql, &[]).await.expect("valid SQL");
        rows.iter().map(|row| [0, 1, 2, 3].map(|column| row.get::<_, String>(column))).collect::<Vec<_>>()
    };
    let before = rights().await;
    assert_eq!(before.len(), 4);
    running.projections().rebuild("totals", Load::Full).await.expect("it is built");
    assert_eq!(rights().await, before);
    drop(running);
    let owned = format!("DROP OWNED BY {reader}, {writer}; DROP ROLE {reader}, {writer}");
    client.batch_execute(&owned).await.expect("valid SQL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_rebuild_that_would_lose_what_hangs_on_the_tables_is_refused_before_the_work() {
    let database = Database::new().await;
    let running = start(database.open().await, |app| app.project_tables(Totals)).await;
    let last = place(&running, 1..=9).await;
    running.wait(last).await.expect("it goes on");
    let client = database.session().await;
    client
        .batch_execute(
            "CREATE VIEW large AS SELECT customer FROM totals WHERE cents > 12;
             CREATE TABLE notes (customer text REFERENCES totals);
             CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER audited AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION nothing();
             CREATE PUBLICATION changes FOR TABLE orders;
             ALTER TABLE totals ENABLE ROW LEVEL SECURITY;
             GRANT SELECT (number) ON orders TO PUBLIC",
        )
        .await
        .expect("valid SQL");
    let refused = running.projections().rebuild("totals", Load::Full).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::TABLES_HELD);
    for what in [
        "view large",
        "a foreign key of table notes",
        "trigger audited of orders",
        "publication changes",
        "row security of totals",
        "rights on single columns of orders",
    ] {
        assert!(refused.message().contains(what), "{what}: {refused}");
    }
    client
        .batch_execute(
            "DROP VIEW large; DROP TABLE notes; DROP TRIGGER audited ON orders; DROP PUBLICATION changes;
             ALTER TABLE totals DISABLE ROW LEVEL SECURITY; REVOKE SELECT (number) ON orders FROM PUBLIC",
        )
        .await
        .expect("valid SQL");
    running.projections().rebuild("totals", Load::Full).await.expect("nothing is in the way");
    assert_eq!(rows(&client).await, expected(1, 1..=9));
}

/// What PostgreSQL does with a snapshot that is older than a table: the guide says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_switch_waits_for_who_reads_and_an_old_snapshot_that_comes_later_reads_the_new_tables() {
    let database = Database::new().await;
    let running = start(database.open().await, |app| app.project_tables(Totals)).await;
    let last = place(&running, 1..=9).await;
    running.wait(last).await.expect("it goes on");
    // One that has read the tables keeps them, and the switch waits.
    let reading = database.session().await;
    reading.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("valid SQL");
    assert_eq!(rows(&reading).await, expected(1, 1..=9));
    // Another one has its snapshot, and has not come to the tables.
    let late = database.session().await;
    late.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.expect("valid SQL");
    let waiting = database.session().await;
    let projections = running.projections();
    let (rebuilt, ()) = tokio::join!(projections.rebuild("totals", Load::Full), async {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                   AND relation IN ('totals'::regclass, 'orders'::regclass)";
        while waiting.query_one(sql, &[]).await.expect("valid SQL").get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rows(&reading).await, expected(1, 1..=9), "the old ones, as long as it likes");
        reading.batch_execute("COMMIT").await.expect("valid SQL");
    });
    rebuilt.expect("it is built once nobody reads");
    assert_eq!(rows(&waiting).await, expected(1, 1..=9));
    // The new tables were filled after the snapshot was taken, so they are empty to it.
    assert_eq!(rows(&late).await, expected(1, []));
}
