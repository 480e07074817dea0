//! Stores of before, which are brought forward while others use them.

use std::time::Duration;

use ensue_core::{Read, StoreExt};
use tokio::task::JoinHandle;
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

/// Waits until it is so, which the migration makes true.
async fn until<T>(client: &Client, sql: &str, migrating: &JoinHandle<T>) {
    while !client.query_one(sql, &[]).await.expect("valid SQL").get::<_, bool>(0) {
        assert!(!migrating.is_finished(), "it ends before {sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_migration_waits_for_who_stays_at_the_tables_and_nobody_waits_for_it() {
    // Who has written, and who reads: what is read last and what is written to first.
    for held in ["SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}')", "SELECT FROM ensue.events"] {
        let database = Database::new().await;
        let (holder, other) = (database.session().await, database.session().await);
        migrate_to_the_tenth(&holder).await;
        holder.batch_execute(&format!("BEGIN; {held}")).await.expect("valid SQL");
        let config = database.config();
        let migrating = tokio::spawn(async move { config.open().await });
        for _ in 0..3 {
            // It looks who is there, and gives up; again and again.
            let looks = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
            until(&other, looks, &migrating).await;
            let use_it = "SET lock_timeout = '20ms'; SELECT ensue.append('orders', 'ORD-2', 'OrderPlaced', '{}'); \
                SELECT * FROM ensue.read(0, 10)";
            other.batch_execute(use_it).await.expect("it writes and reads while the migration looks");
            holder.batch_execute("SELECT FROM ensue.events").await.expect("so does who is in its way");
            until(&other, &format!("SELECT NOT ({looks})"), &migrating).await;
        }
        holder.batch_execute("COMMIT").await.expect("it is over");
        let store = migrating.await.expect("it ends").expect("nobody is in its way");
        let events = store.collect(Read::all()).await.expect("nothing is missing").len();
        assert_eq!(events, 3 + usize::from(held.contains("append")));
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_is_not_of_the_store_and_what_its_owner_gave_up_hold_up_no_migration() {
    let database = Database::new().await;
    let (client, other) = (database.session().await, database.session().await);
    migrate_to_the_tenth(&client).await;
    let beside = "CREATE TABLE ensue.a_backup AS SELECT * FROM ensue.heads; \
        REVOKE UPDATE, DELETE, TRUNCATE ON ensue.events FROM CURRENT_USER";
    client.batch_execute(beside).await.expect("valid SQL");
    other.batch_execute("BEGIN; SELECT FROM ensue.a_backup").await.expect("valid SQL");
    database.open().await;
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
    let upkeep = "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND granted \
        AND relation = 'ensue.events'::regclass)";
    while !client.query_one(upkeep, &[]).await.expect("valid SQL").get::<_, bool>(0) {}
    let config = server.config();
    let migrating = tokio::spawn(async move { config.open().await });
    until(
        &client,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND NOT granted)",
        &migrating,
    )
    .await;
    let use_it = "SET lock_timeout = '50ms'; SELECT ensue.append('orders', 'ORD-1', 'OrderPlaced', '{}'); \
        SELECT count(*) FROM ensue.events";
    other.batch_execute(use_it).await.expect("nobody waits for who waits for upkeep");
    let store = migrating.await.expect("it ends").expect("upkeep gives way");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 5_001);
}
