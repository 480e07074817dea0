//! Servers that answer and do not take what they are given: read-only, full, too slow, closed to this user.

use std::time::Duration;

use ensue_core::{Code, Error, Expected, Kind, Store, StoreExt, Version};
use ensue_postgres::{Config, PostgresStore, connect};

use crate::given::{Database, append, log};
use crate::server::Server;

async fn refused(store: &PostgresStore, id: &str) -> Error {
    store.commit(append("a", Expected::Any, &[id])).await.expect_err("it takes nothing").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_standby_is_read_and_takes_commits_once_it_is_promoted() {
    let primary = Server::new("");
    let store = primary.open().await;
    for number in 0..3 {
        store
            .commit(append("a", Expected::Exact(Version(number)), &[&format!("a{number}")]))
            .await
            .expect("it runs");
    }
    let staged = "SELECT ensue.append('Test', 'staged', 'Happened', '{}', NULL, '{\"id\": \"s\"}')";
    primary.session().await.batch_execute(staged).await.expect("valid SQL");
    let standby = primary.standby();
    let witness = standby.session().await;
    let follows: bool = witness.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("valid SQL").get(0);
    assert!(follows, "it is a standby");

    let error = standby.config().open().await.expect_err("an application could settle nothing there");
    assert_eq!((error.code(), error.kind()), (Code::DATABASE_READ_ONLY, Kind::Denied), "{error:?}");
    let copy = standby.config().to_read().open().await.expect("it can be read");
    assert_eq!(
        log(&copy).await,
        ["a 1 a0", "a 2 a1", "a 3 a2"],
        "what has no position waits for the primary"
    );
    assert_eq!(refused(&copy, "never").await.code(), Code::DATABASE_READ_ONLY);
    let transaction = copy.begin().await.expect("tables of the application can be read");
    let error =
        transaction.commit(append("a", Expected::Any, &["never"])).await.expect_err("it takes nothing");
    assert_eq!(Error::from(error).code(), Code::DATABASE_READ_ONLY);

    primary.stop_immediately();
    assert_eq!(log(&copy).await.len(), 3, "the primary is not needed to read");
    witness.batch_execute("SELECT pg_promote()").await.expect("it is promoted");
    let commit = append("a", Expected::Exact(Version(3)), &["a3"]);
    copy.commit(commit).await.expect("it takes commits now");
    assert_eq!(log(&copy).await, ["a 1 a0", "a 2 a1", "a 3 a2", "staged 1 s", "a 4 a3"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_database_that_is_closed_to_writes_meanwhile_is_read_and_goes_on_later() {
    let database = Database::new().await;
    let store = database.open().await;
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("an empty store");
    let client = database.session().await;
    let set = |value: &str| {
        format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {value}', current_database()); \
             END $$; SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    };
    client.batch_execute(&set("on")).await.expect("valid SQL");
    let error = refused(&store, "never").await;
    assert_eq!((error.code(), error.kind()), (Code::DATABASE_READ_ONLY, Kind::Denied), "{error:?}");
    assert_eq!(log(&store).await, ["a 1 a1"]);
    let mut client = client;
    let transaction = client.transaction().await.expect("a session");
    transaction.batch_execute("SET TRANSACTION READ WRITE").await.expect("valid SQL");
    transaction.batch_execute(&set("off")).await.expect("valid SQL");
    transaction.commit().await.expect("valid SQL");
    store.commit(append("a", Expected::Exact(Version(1)), &["a2"])).await.expect("it takes writes again");
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_full_disk_refuses_commits_whole_and_takes_them_again_later() {
    let server = Server::new("");
    let disk = server.small_disk(24 << 20);
    let store = server.open().await;
    let client = server.session().await;
    let place = format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display());
    client.batch_execute(&place).await.expect("an empty folder");
    client.batch_execute("ALTER TABLE ensue.events_kept SET TABLESPACE small").await.expect("valid SQL");
    // Nothing that could be compressed, so that the disk fills.
    let fill = "CREATE TABLE stuffing (bytes bytea) TABLESPACE small; \
        ALTER TABLE stuffing ALTER COLUMN bytes SET STORAGE EXTERNAL";
    client.batch_execute(fill).await.expect("valid SQL");
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("there is room");
    let stuff = "INSERT INTO stuffing SELECT decode(repeat('00', 100000), 'hex') FROM generate_series(1, 10)";
    let mut stuffed = 0;
    while client.batch_execute(stuff).await.is_ok() {
        stuffed += 1;
    }
    assert!(stuffed > 3, "the disk was full after {stuffed} MB");
    let mut taken = 1;
    let error = loop {
        // The room that is left in its last pages is taken first.
        match store.commit(append("a", Expected::Exact(Version(taken)), &[&format!("a{}", taken + 1)])).await
        {
            Ok(_) => taken += 1,
            Err(error) => break Error::from(error),
        }
    };
    assert_eq!((error.code(), error.kind()), (Code::FULL, Kind::Full), "{error:?}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(store.head().await.expect("it can be read").0, taken, "nothing of the commit is there");
    assert_eq!(log(&store).await.len() as u64, taken);

    disk.grow(64 << 20);
    let commit = append("a", Expected::Exact(Version(taken)), &[&format!("a{}", taken + 1)]);
    let committed = store.commit(commit).await.expect("there is room again");
    assert!(!committed.repeated && committed.position().0 == taken + 1, "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_statement_that_takes_too_long_is_a_timeout_and_leaves_nothing() {
    let database = Database::new().await;
    let (quick, short) = (Duration::from_secs(3), Duration::from_millis(200));
    let config = database.config().statement_timeout(quick).patience(short);
    let store = config.open().await.expect("an empty database");
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("an empty store");
    let holder = database.session().await;

    // The server gives up waiting for a lock: `lock_timeout`.
    holder.batch_execute("BEGIN; LOCK TABLE ensue.heads IN ACCESS EXCLUSIVE MODE").await.expect("valid SQL");
    let error = refused(&store, "never").await;
    assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_TIMEOUT, true), "{error:?}");
    assert!(error.message().contains("lock timeout"), "{error}");
    holder.batch_execute("ROLLBACK").await.expect("it was open");

    // It ends a statement that goes on for too long: `statement_timeout`.
    let slow = "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'; \
        CREATE TRIGGER dawdle BEFORE INSERT ON ensue.events FOR EACH ROW EXECUTE FUNCTION dawdle()";
    holder.batch_execute(slow).await.expect("valid SQL");
    let error = refused(&store, "never").await;
    assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_TIMEOUT, true), "{error:?}");
    assert!(error.message().contains("statement timeout"), "{error}");
    holder.batch_execute("DROP TRIGGER dawdle ON ensue.events").await.expect("valid SQL");

    // A read is given up by us, and ended on the server.
    holder.batch_execute("BEGIN; LOCK TABLE ensue.events IN ACCESS EXCLUSIVE MODE").await.expect("valid SQL");
    let error = store.collect(ensue_core::Read::all()).await.expect_err("the table is locked");
    assert_eq!(error.code(), Code::DATABASE_TIMEOUT, "{error:?}");
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ensue.events'::regclass";
    let mut left = 1_i64;
    while left > 0 {
        left = holder.query_one(waiting, &[]).await.expect("valid SQL").get(0);
    }
    holder.batch_execute("ROLLBACK").await.expect("it was open");

    store.commit(append("a", Expected::Exact(Version(1)), &["a2"])).await.expect("nobody holds it up");
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_may_not_come_in_or_may_not_write_is_told_so_and_no_password_is_shown() {
    let server = Server::new("");
    let owner = server.open().await;
    owner.commit(append("a", Expected::NoStream, &["a1"])).await.expect("an empty store");
    let roles = "SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'right'; \
        CREATE ROLE locked LOGIN PASSWORD 'right'";
    let client = server.session().await;
    client.batch_execute(roles).await.expect("valid SQL");
    client.batch_execute("CREATE DATABASE other").await.expect("valid SQL");
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all locked 127.0.0.1/32 reject\n\
        host all all 127.0.0.1/32 scram-sha-256\n";
    drop((client, owner));
    server.admit(rules);
    let owner = server.open().await;
    let with = |user: &str, password: &str| format!("{} password='{password}'", server.url(user));
    for (address, said) in [
        (with("app", "wrong-secret"), "password authentication failed"),
        (with("nobody", "wrong-secret"), "password authentication failed"),
        (with("locked", "right"), "rejects connection"),
        (server.url("app"), "password"),
        (with("app", "right"), "permission denied"),
    ] {
        let error = connect(&address).await.expect_err(&address);
        assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_DENIED, false), "{error:?}");
        assert!(format!("{error:?}").contains(said), "{said}: {error:?}");
        let shown = format!("{error:?} {:?}", Config::new(&address).expect("a valid address"));
        assert!(!shown.contains("wrong-secret"), "{shown}");
    }
    let elsewhere = with("app", "right").replace("dbname=postgres", "dbname=other");
    let error = connect(&elsewhere).await.expect_err("it may make no schema there");
    assert_eq!(error.code(), Code::DATABASE_DENIED, "{error:?}");

    // A right is taken away while the store is open, and given back.
    let to_read = "GRANT USAGE ON SCHEMA ensue TO app; GRANT SELECT ON ALL TABLES IN SCHEMA ensue TO app; \
        GRANT USAGE, SELECT ON SEQUENCE ensue.ticket TO app";
    server.session().await.batch_execute(to_read).await.expect("valid SQL");
    let config = Config::new(&with("app", "right")).expect("a valid address");
    let store = config.open().await.expect("it may look");
    let staged = "SELECT ensue.append('Test', 'b', 'Happened', '{}', NULL, '{\"id\": \"b1\"}')";
    server.session().await.batch_execute(staged).await.expect("valid SQL");
    assert_eq!(log(&store).await, ["a 1 a1"], "it may give no positions, and sees what has one");
    let error = refused(&store, "never").await;
    assert_eq!((error.code(), error.kind()), (Code::DATABASE_DENIED, Kind::Denied), "{error:?}");
    let to_write = "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ensue TO app";
    server.session().await.batch_execute(to_write).await.expect("valid SQL");
    store.commit(append("a", Expected::Exact(Version(1)), &["a2"])).await.expect("it may write");
    assert_eq!(log(&owner).await, ["a 1 a1", "b 1 b1", "a 2 a2"]);
}
