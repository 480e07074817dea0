//! Stores of before, which are brought forward while others use them.

use std::time::Duration;

use ensue_core::{Read, StoreExt};
use tokio_postgres::Client;

use crate::given::Database;
use crate::server::Server;

/// Applies the migrations up to the tenth, as an older version did.
async fn migrate_to_the_tenth(client: &Client) {
    let mut files: Vec<_> =
        std::fs::read_dir("migrations").expect("they are beside the tests").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::path);
    let table = "CREATE SCHEMA ensue; CREATE TABLE ensue.migrations (number bigint PRIMARY KEY, name text NOT NULL, \
        checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
    client.batch_execute(table).await.expect("valid SQL");
    for (number, file) in (1_i64..=10).zip(files) {
        let text = std::fs::read_to_string(file.path()).expect("text");
        client.batch_execute(&text).await.expect("valid SQL");
        let stem = file.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let name = stem.split_once('_').expect("a number and a name").1.to_owned();
        let applied =
            "INSERT INTO ensue.migrations VALUES ($1, $2, encode(sha256(convert_to($3, 'UTF8')), 'hex'))";
        client.execute(applied, &[&number, &name, &text]).await.expect("valid SQL");
    }
}

/// What SQL reads of a log of fewer than a hundred events.
async fn positions(client: &Client) -> Vec<i64> {
    let rows = client.query("SELECT position FROM ensue.read(0, 100)", &[]).await.expect("readable");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_store_of_before_keeps_its_events_its_rights_and_its_guard() {
    let database = Database::new().await;
    let client = database.session().await;
    migrate_to_the_tenth(&client).await;
    let name =
        client.query_one("SELECT current_database()", &[]).await.expect("readable").get::<_, String>(0);
    let role = format!("app_of_{name}");
    let before = format!(
        "SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{{}}') FROM generate_series(1, 30); \
        CREATE ROLE {role}; GRANT USAGE ON SCHEMA ensue TO {role}; \
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ensue TO {role}; \
        GRANT USAGE, SELECT ON SEQUENCE ensue.ticket TO {role}; SELECT ensue.number()"
    );
    client.batch_execute(&before).await.expect("valid SQL");
    let store = database.open().await;
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 30);
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("it exists");
    client
        .batch_execute(
            "SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}', 30); SELECT ensue.number()",
        )
        .await
        .expect("it may still append and give positions");
    assert_eq!(positions(&client).await, (1..=31).collect::<Vec<i64>>());
    for table in ["ensue.events", "ensue.events_kept"] {
        let error = client.batch_execute(&format!("DELETE FROM {table}")).await.expect_err("events never go");
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("EN004"), "{table}");
    }
    client
        .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .expect("it is ours");
    store
        .retain(&"orders".parse().expect("a topic"), Some(Duration::from_hours(24)))
        .await
        .expect("it is ours");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_migration_waits_for_who_has_written_and_nobody_who_reads_waits_for_it() {
    let database = Database::new().await;
    let (writer, reader) = (database.session().await, database.session().await);
    migrate_to_the_tenth(&writer).await;
    writer
        .batch_execute("BEGIN; SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}')")
        .await
        .expect("valid SQL");
    let config = database.config();
    let migrating = tokio::spawn(async move { config.open().await });
    let tries = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for _ in 0..3 {
        while reader.query_one(tries, &[]).await.expect("valid SQL").get::<_, i64>(0) == 0 {}
        // Neither a reader nor the writer, who would then wait for the migration that waits for him.
        for client in [&reader, &writer] {
            let read = "SET lock_timeout = '50ms'; SELECT count(*) FROM ensue.events";
            client.batch_execute(read).await.expect("the events are not taken before what is written to");
        }
        while reader.query_one(tries, &[]).await.expect("valid SQL").get::<_, i64>(0) > 0 {}
    }
    assert!(!migrating.is_finished(), "the writer is still at it");
    writer.batch_execute("COMMIT").await.expect("it is over");
    let store = migrating.await.expect("it ends").expect("the writer is done");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 1);
}

/// A server whose upkeep of tables begins soon, takes for ever, and gives way to who waits for two seconds.
const SLOW_UPKEEP: &str = "deadlock_timeout = '2s'\nautovacuum_naptime = 1\nautovacuum_vacuum_insert_threshold = 0\nautovacuum_vacuum_insert_scale_factor = 0\n\
    autovacuum_vacuum_cost_limit = 1\nautovacuum_vacuum_cost_delay = '100ms'\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_migration_has_upkeep_of_the_server_give_way_and_holds_up_nobody_meanwhile() {
    let server = Server::new(SLOW_UPKEEP);
    let (client, other) = (server.session().await, server.session().await);
    migrate_to_the_tenth(&client).await;
    let events = "SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}') FROM generate_series(1, 5000); SELECT ensue.number()";
    client.batch_execute(events).await.expect("valid SQL");
    let upkeep = "SELECT count(*) FROM pg_locks WHERE relation = 'ensue.events'::regclass AND mode = 'ShareUpdateExclusiveLock' AND ";
    let count = async |whose: &str| {
        client.query_one(&format!("{upkeep}{whose}"), &[]).await.expect("readable").get::<_, i64>(0)
    };
    while count("granted").await == 0 {}
    let config = server.config();
    let migrating = tokio::spawn(async move { config.open().await });
    while count("NOT granted").await == 0 {}
    let use_it = "SET lock_timeout = '50ms'; SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}'); \
        SELECT count(*) FROM ensue.events";
    other.batch_execute(use_it).await.expect("nobody waits for who waits for upkeep");
    let store = migrating.await.expect("it ends").expect("upkeep gives way");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 5_001);
}
