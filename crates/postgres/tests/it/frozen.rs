//! A server that stands still: its connections stay, and nothing answers. Only we can end the waiting.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensue_core::{Code, Error, Expected, Position, Read, Store, StoreExt, Version};
use ensue_postgres::{Config, Outage, PostgresStore};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::given::{append, log};
use crate::server::Server;

/// What nobody should wait for so long, although nothing here is measured.
const NEVER: Duration = Duration::from_mins(2);

/// How the server is used by somebody who does not wait for long.
fn config(server: &Server, statement_timeout: Duration) -> Config {
    let url = format!("{} connect_timeout=1", server.url("postgres"));
    let config = Config::new(&url).expect("a valid address");
    config.patience(Duration::from_millis(200)).statement_timeout(statement_timeout)
}

async fn ended<T>(what: &str, call: impl Future<Output = T>) -> T {
    timeout(NEVER, call).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_server_that_stands_still_is_an_outage_and_nothing_is_lost() {
    let server = Server::new("");
    let config = config(&server, Duration::from_secs(2));
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let tell = move |outage: &Outage| telling.lock().expect("nobody panics").push(outage.to_string());
    let store = config.clone().on_outage(tell).open().await.expect("an empty database");
    let first = append("a", Expected::Exact(Version(0)), &["a1"]);
    store.commit(first).await.expect("the server runs");
    server.freeze();
    let read = ended("a read", store.collect(Read::all())).await.expect_err("nothing answers");
    let silent = |error: &Error| error.code() == Code::DATABASE_UNREACHABLE && error.is_retryable();
    assert!(silent(&read) && read.message().contains("does not answer"), "{read:?}");
    let began = told.lock().expect("nobody panics").clone();
    assert!(matches!(&*began, [one] if one.contains("does not answer")), "{began:?}");
    let open = ended("to open", config.open()).await.expect_err("nothing answers");
    assert!(silent(&open) && open.message().contains("does not answer"), "{open:?}");
    let second = append("a", Expected::Exact(Version(1)), &["a2"]);
    let commit = ended("a commit", store.commit(second.clone())).await.expect_err("nothing answers");
    assert!(Error::from(commit).is_retryable());
    assert!(ended("to begin", store.begin()).await.is_err(), "nothing answers");
    server.thaw();
    while store.commit(second.clone()).await.is_err() {}
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2"]);
    let told = told.lock().expect("nobody panics").clone();
    assert!(matches!(&*told, [_, ended] if ended.contains("is reached again")), "{told:?}");
}

/// Freezes the server while it stores what was decided.
async fn freeze_in_commit(server: &Server, client: &Client) {
    let sleeps = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while client.query(sleeps, &[]).await.expect("valid SQL").is_empty() {}
    server.freeze();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_in_which_the_server_stands_still_is_unknown_and_stored_once() {
    let server = Server::new("");
    let store = config(&server, Duration::from_secs(3)).open().await.expect("an empty database");
    let client = server.session().await;
    let slowly = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN PERFORM pg_sleep(2.5); RETURN NEW; END'; \
        CREATE TRIGGER slowly BEFORE INSERT ON ensue.events FOR EACH ROW EXECUTE FUNCTION slowly()";
    client.batch_execute(slowly).await.expect("valid SQL");
    let commit = append("a", Expected::Exact(Version(0)), &["a1"]);
    let (outcome, ()) =
        tokio::join!(ended("a commit", store.commit(commit.clone())), freeze_in_commit(&server, &client));
    let error = Error::from(outcome.expect_err("no answer can come"));
    assert_eq!((error.code(), error.is_retryable()), (Code::OUTCOME_UNKNOWN, true), "{error:?}");
    server.thaw();
    client.batch_execute("DROP TRIGGER slowly ON ensue.events").await.expect("valid SQL");
    assert_eq!(repeated(&store, commit).await, Position(1));
    assert_eq!(log(&store).await, ["a 1 a1"]);
}

async fn repeated(store: &PostgresStore, commit: ensue_core::Commit) -> Position {
    loop {
        if let Ok(committed) = store.commit(commit.clone()).await {
            return committed.position();
        }
    }
}
