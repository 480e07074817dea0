//! Who may do what, and that it stays so when a store gets what it needs for a retention.

use ensue_core::{Read, StoreExt};
use tokio_postgres::Client;

use super::history::{DAY, History, assert_left, imported, read_in_sql, ticks};
use crate::given::Database;

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn only_who_owns_the_tables_drops_and_who_could_read_before_still_can() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = History::default();
    let role = format!(
        "reader_of_{}",
        client.query_one("SELECT current_database()", &[]).await.expect("readable").get::<_, String>(0)
    );
    let grants = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA ensue TO {role}; \
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ensue TO {role}; \
        GRANT USAGE, SELECT ON SEQUENCE ensue.ticket TO {role}"
    );
    client.batch_execute(&grants).await.expect("valid SQL");
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more(300, 48)).await;
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("it exists");
    let refused = async |sql: &str| {
        let error = client.batch_execute(sql).await.expect_err(sql);
        error.code().map(|state| state.code().to_owned()).unwrap_or_default()
    };
    for sql in [
        "SELECT ensue.retain('ticks', NULL)",
        "SELECT ensue.retain('ticks', '1 s')",
        "SELECT ensue.retain('orders', '1 s')",
        "SELECT ensue.trim(0)",
        "SELECT ensue.trim(1000000)",
        "UPDATE ensue.retention SET keep = '1 s'",
        "DELETE FROM ensue.retention",
        "UPDATE ensue.partitions SET topic = 'orders'",
        "INSERT INTO ensue.dropped VALUES (0, '{[1,2)}')",
    ] {
        assert_eq!(refused(sql).await, "42501", "{sql}");
    }
    let around = "BEGIN; SET LOCAL ensue.is_trimming = 'yes'; DELETE FROM ensue.events_kept";
    assert_eq!(refused(around).await, "EN004");
    client.batch_execute("ROLLBACK").await.expect("it was refused");
    // A table of one's own may be called as what the checks look into.
    let disguise = format!(
        "CREATE TEMP TABLE pg_class AS SELECT oid, '{role}'::regrole::oid AS relowner FROM pg_catalog.pg_class; \
        SET search_path = pg_temp, pg_catalog"
    );
    client.batch_execute(&disguise).await.expect("everybody may");
    assert_eq!(refused("UPDATE ensue.retention SET keep = '1 s'").await, "42501");
    assert_eq!(refused(around).await, "EN004");
    let undisguised = "ROLLBACK; DROP TABLE pg_temp.pg_class; RESET search_path";
    client.batch_execute(undisguised).await.expect("it is his");
    // The partition that takes new events was made after the rights were given.
    assert_eq!(client.query("SELECT FROM ensue.events_1", &[]).await.expect("it may read").len(), 200);
    client
        .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .expect("it is ours");
    assert_left(&store, &client, &history.events).await;
    for (sql, words) in [
        ("SELECT ensue.retain('saga.order', '1 day')", "reserved"),
        ("SELECT ensue.retain('a b', '1 day')", "is not a topic"),
        ("SELECT ensue.retain('ticks', '0 s')", "some time"),
        ("SELECT ensue.retain('ticks', '-1 day')", "some time"),
        ("SELECT ensue.retain('ticks', '100000 years')", "thousand years"),
        ("SELECT ensue.retain('ticks', '1 month -29 days')", "some time"),
        ("SELECT ensue.retain('ticks', '1 day -1 second')", "some time"),
        ("SELECT ensue.trim(NULL)", "position"),
        ("DELETE FROM ensue.events_1", "never go"),
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let refusal = error.as_db_error().expect("the server refuses it");
        assert!(refusal.code().code() == "EN004" && refusal.message().contains(words), "{sql}: {refusal}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_partition_belongs_to_who_owns_the_tables_whoever_opens_it() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let name =
        client.query_one("SELECT current_database()", &[]).await.expect("readable").get::<_, String>(0);
    let role = format!("owner_of_{name}");
    let hand_over = format!(
        "CREATE ROLE {role}; ALTER SCHEMA ensue OWNER TO {role}; DO $$ DECLARE one text; BEGIN FOR one IN \
            SELECT oid::regclass FROM pg_class WHERE relnamespace = 'ensue'::regnamespace AND relkind IN ('r', 'p') \
        LOOP EXECUTE format('ALTER TABLE %s OWNER TO {role}', one); END LOOP; END $$; \
        GRANT ALL ON ALL SEQUENCES IN SCHEMA ensue TO {role}"
    );
    client.batch_execute(&hand_over).await.expect("valid SQL");
    let mut history = History::default();
    store.retain(&ticks(), Some(DAY)).await.expect("a superuser may do everything");
    imported(&store, history.more(30, 48)).await;
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("it exists");
    let trim = "SELECT events FROM ensue.trim(10000)";
    client.query_one(trim, &[]).await.expect("it owns the partition");
    imported(&store, history.more(30, 1)).await;
    assert_eq!(client.query_one(trim, &[]).await.expect("it owns the partition").get::<_, i64>(0), 20);
    client
        .batch_execute(&format!(
            "RESET ROLE; REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .await
        .expect("it is ours");
    assert_left(&store, &client, &history.without_ticks(30)).await;
}

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
    assert_eq!(read_in_sql(&client, 10).await, (1..=31).collect::<Vec<i64>>());
    for table in ["ensue.events", "ensue.events_kept"] {
        let error = client.batch_execute(&format!("DELETE FROM {table}")).await.expect_err("events never go");
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("EN004"), "{table}");
    }
    client
        .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .expect("it is ours");
    store.retain(&"orders".parse().expect("a topic"), Some(DAY)).await.expect("it is ours");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_migration_waits_for_who_has_written_and_readers_do_not_wait_for_it() {
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
    for _ in 0..2 {
        while reader.query_one(tries, &[]).await.expect("valid SQL").get::<_, i64>(0) == 0 {}
        let read = "SET statement_timeout = '5s'; SELECT count(*) FROM ensue.events";
        reader.batch_execute(read).await.expect("it does not wait for the writer");
    }
    assert!(!migrating.is_finished(), "the writer is still at it");
    writer.batch_execute("COMMIT").await.expect("it is over");
    let store = migrating.await.expect("it ends").expect("the writer is done");
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 1);
}
