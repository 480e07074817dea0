//! Who may do what.

use super::history::{DAY, History, assert_left, imported, ticks};
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

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_owns_the_tables_calls_no_function_of_somebody_else() {
    let database = Database::new().await;
    let client = database.session().await;
    // Fit better than those that the server comes with, so they are taken wherever both are looked for.
    let traps = "CREATE FUNCTION public.format(text, integer) RETURNS text LANGUAGE plpgsql AS \
            $$ BEGIN RAISE EXCEPTION 'a function of somebody else was called'; END $$; \
        CREATE FUNCTION public.format(text, regclass, regrole) RETURNS text LANGUAGE plpgsql AS \
            $$ BEGIN RAISE EXCEPTION 'a function of somebody else was called'; END $$; \
        CREATE FUNCTION public.format(text, text, integer) RETURNS text LANGUAGE plpgsql AS \
            $$ BEGIN RAISE EXCEPTION 'a function of somebody else was called'; END $$";
    client.batch_execute(traps).await.expect("valid SQL");
    client.query_one("SELECT format('%s', 1)", &[]).await.expect_err("the trap is set");
    let store = database.open().await;
    let mut history = History::default();
    imported(&store, history.more(30, 48)).await;
    client.batch_execute("SELECT ensue.retain('ticks', '1 day')").await.expect("no trap is in its way");
    let trim = "SELECT events FROM ensue.trim(10000)";
    assert_eq!(client.query_one(trim, &[]).await.expect("nor in its way").get::<_, i64>(0), 20);
    imported(&store, history.more(30, 48)).await;
    assert_eq!(client.query_one(trim, &[]).await.expect("it opens a partition").get::<_, i64>(0), 0);
    imported(&store, history.more(30, 1)).await;
    assert_eq!(client.query_one(trim, &[]).await.expect("it drops one").get::<_, i64>(0), 20);
}
