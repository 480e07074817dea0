//! The schema, and databases that are not what the store needs.

use ensue_core::{Code, Expected, Kind, Store};
use ensue_postgres::{Config, connect};
use futures_util::future::join_all;

use crate::given::{Database, append, log};
use crate::wire::server_of;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn many_may_migrate_an_empty_database_at_once() {
    let database = Database::new().await;
    let url = database.url();
    let opened = join_all((0..6).map(|_| tokio::spawn(connect_to(url.clone())))).await;
    assert!(opened.into_iter().all(|opened| opened.is_ok_and(|error| error.is_none())));
    let applied = "SELECT count(*) - count(DISTINCT name), count(*) > 0 FROM ensue.migrations";
    let row = database.session().await.query_one(applied, &[]).await.expect("the table is there");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (0, true), "each once");
}

async fn connect_to(url: String) -> Option<ensue_core::Error> {
    connect(&url).await.err()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_schema_that_is_not_known_is_refused_and_left_alone() {
    let database = Database::new().await;
    let error = database.config().without_migration().open().await.expect_err("there is no schema yet");
    assert_eq!(error.code(), Code::NOT_A_STORE);
    let store = database.open().await;
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("an empty store");
    database.config().without_migration().open().await.expect("the schema is up to date");

    let client = database.session().await;
    for (change, back) in [
        (
            "INSERT INTO ensue.migrations VALUES (99, 'future', 'x')",
            "DELETE FROM ensue.migrations WHERE number = 99",
        ),
        (
            "UPDATE ensue.migrations SET checksum = 'x' || checksum",
            "UPDATE ensue.migrations SET checksum = substr(checksum, 2)",
        ),
    ] {
        client.batch_execute(change).await.expect("valid SQL");
        let error = database.config().open().await.expect_err(change);
        assert_eq!((error.code(), error.kind()), (Code::DATABASE_SCHEMA, Kind::Unsupported), "{change}");
        client.batch_execute(back).await.expect("valid SQL");
    }
    assert_eq!(log(&database.open().await).await, ["a 1 a1"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_cannot_be_opened_says_why() {
    let database = Database::new().await;
    let elsewhere = |from: &str, to: &str| {
        let url = database.url().replace(from, to);
        async move { connect(&url).await.expect_err("it cannot be opened").code() }
    };
    assert_eq!(elsewhere("dbname=", "dbname=no_").await, Code::NOT_A_STORE);
    assert_eq!(elsewhere("user=", "user=nobody_").await, Code::DATABASE_DENIED);
    assert_eq!(elsewhere("sslmode", "no_option").await, Code::DATABASE_URL);
    let nowhere = Config::new("host=127.0.0.1 port=1 user=nobody").expect("a valid address");
    let error =
        nowhere.patience(std::time::Duration::from_millis(1)).open().await.expect_err("nobody listens");
    assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_UNREACHABLE, true));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_server_that_is_too_old_is_refused_with_its_version() {
    let port = server_of(140_011).await;
    let url = format!("host=127.0.0.1 port={port} user=postgres sslmode=disable");
    let error = connect(&url).await.expect_err("it is too old");
    assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_TOO_OLD, false), "{error:?}");
    assert!(error.message().contains("14.11"), "{error}");
    let url = url.replace(&port.to_string(), &server_of(150_000).await.to_string());
    let error = connect(&url).await.expect_err("this one says nothing else");
    assert_ne!(error.code(), Code::DATABASE_TOO_OLD, "{error:?}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_database_that_takes_no_writes_is_refused_at_the_start() {
    let database = Database::new().await;
    let store = database.open().await;
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("it takes writes");
    let client = database.session().await;
    let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$";
    client.batch_execute(set).await.expect("valid SQL");
    let error = database.config().open().await.expect_err("it takes no writes");
    assert_eq!((error.code(), error.kind()), (Code::DATABASE_READ_ONLY, Kind::Denied));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_database_whose_transactions_see_nothing_new_is_refused_at_the_start() {
    let database = Database::new().await;
    let client = database.session().await;
    let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', \
        current_database(), 'repeatable read'); END $$";
    client.batch_execute(set).await.expect("valid SQL");
    let error = database.config().open().await.expect_err("it would wait for ever");
    assert_eq!(error.code(), Code::UNSUPPORTED, "{error:?}");
    assert!(error.message().contains("repeatable read"), "{error}");
}

/// Replication by `CREATE SUBSCRIPTION` copies tables and no sequences.
#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_copy_without_its_sequences_goes_on_behind_what_was_given() {
    // What was given is on record, and after some rounds it is forgotten what nobody can hold any more.
    for rounds in [1, 3] {
        goes_on_behind_what_was_given(rounds).await;
    }
}

async fn goes_on_behind_what_was_given(rounds: usize) {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    store
        .retain(&"ticks".parse().expect("a topic"), Some(std::time::Duration::from_mins(1)))
        .await
        .expect("it is ours");
    let appended = |id: &str| {
        format!("SELECT ensue.append('Test', 'a', 'Happened', '{{}}', NULL, '{{\"id\": \"{id}\"}}')")
    };
    for round in ["a1", "a2", "a3"].chunks(3 / rounds) {
        for id in round {
            client.batch_execute(&appended(id)).await.expect("valid SQL");
        }
        log(&store).await;
    }
    drop(store);
    let forget = "SELECT setval('ensue.ticket', 1, false), \
        setval(pg_get_serial_sequence('ensue.partitions', 'partition'), 1, false)";
    client.batch_execute(forget).await.expect("it is ours");
    client.batch_execute(&appended("early")).await.expect("valid SQL");
    let read = "SELECT count(*) FROM ensue.read(0, 10)";
    let seen = async || client.query_one(read, &[]).await.expect("readable").get::<_, i64>(0);
    assert_eq!(seen().await, 3, "its ticket was given before");
    let store = database.open().await;
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2", "a 3 a3", "a 4 early"]);
    store.commit(append("a", Expected::Any, &["a5"])).await.expect("it goes on");
    client.batch_execute(&appended("a6")).await.expect("valid SQL");
    assert_eq!(log(&store).await.len(), 6);
    store
        .retain(&"tocks".parse().expect("a topic"), Some(std::time::Duration::from_mins(1)))
        .await
        .expect("it has a number of its own");
}
