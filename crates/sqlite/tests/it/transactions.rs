//! One transaction of the application and the store: the outbox, and the session of a handler.

use std::time::Duration;

use ensue_core::{Code, Error, Expected, Position, Store, StoreExt, Transaction, Version};
use ensue_sqlite::rusqlite::{self, Connection, TransactionBehavior};
use ensue_sqlite::{Session, SqliteStore, commit_in};

use crate::given::{Folder, append, ids, refuse, take};

/// A connection of the application, which has a table of its own.
fn application(folder: &Folder) -> Connection {
    let connection = Connection::open(folder.file()).expect("the file is a database");
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS orders (number TEXT PRIMARY KEY)")
        .expect("a table is made");
    connection
}

fn insert(connection: &Connection, number: &str) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO orders VALUES (?1)", [number])
}

fn orders(folder: &Folder) -> Vec<String> {
    let connection = application(folder);
    let mut statement =
        connection.prepare("SELECT number FROM orders ORDER BY number").expect("the table is there");
    let rows = statement.query_map((), |row| row.get(0)).expect("it can be read");
    rows.collect::<rusqlite::Result<_>>().expect("texts")
}

fn immediate(connection: &mut Connection) -> rusqlite::Transaction<'_> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("nobody else writes")
}

#[tokio::test]
async fn an_event_and_a_row_of_the_application_are_one() {
    let folder = Folder::new();
    let store = folder.open().await;
    let mut connection = application(&folder);

    let transaction = immediate(&mut connection);
    insert(&transaction, "taken-back").expect("it is inserted");
    commit_in(&transaction, &append("a", Expected::NoStream, &["taken-back"])).expect("it is taken");
    transaction.rollback().expect("it is taken back");
    assert_eq!((orders(&folder), ids(&store).await), (vec![], vec![]));

    let wait = store.advanced(Position::ZERO);
    let transaction = immediate(&mut connection);
    insert(&transaction, "ORD-1").expect("it is inserted");
    let committed =
        commit_in(&transaction, &append("a", Expected::NoStream, &["a1", "a2"])).expect("it is taken");
    assert_eq!(committed.position(), Position(2), "the positions begin where nothing was left");
    assert_eq!(ids(&store).await, [""; 0], "nobody sees it before the transaction commits");
    transaction.commit().expect("it is committed");
    assert_eq!(wait.await.expect("whoever waits is told"), Position(2));
    assert_eq!(orders(&folder), ["ORD-1"]);
    assert_eq!(ids(&store).await, ["a1", "a2"]);
    take(&store, append("a", Expected::Exact(Version(2)), &["a3"])).await;
}

#[tokio::test]
async fn a_commit_that_is_refused_leaves_the_transaction_as_it_was() {
    let folder = Folder::new();
    let store = folder.open().await;
    take(&store, append("a", Expected::NoStream, &["a1"])).await;
    let mut connection = application(&folder);
    let transaction = immediate(&mut connection);
    insert(&transaction, "ORD-1").expect("it is inserted");
    let stale =
        commit_in(&transaction, &append("a", Expected::NoStream, &["never"])).expect_err("it is stale");
    assert_eq!(Error::from(stale).code(), Code::STALE_VERSION);
    commit_in(&transaction, &append("a", Expected::Exact(Version(1)), &["a2"])).expect("it is taken");
    transaction.commit().expect("it is committed");
    assert_eq!(
        (orders(&folder), ids(&store).await),
        (vec!["ORD-1".to_owned()], vec!["a1".to_owned(), "a2".to_owned()])
    );
}

#[tokio::test]
async fn a_transaction_that_has_read_what_changed_is_told_so() {
    let folder = Folder::new();
    let store = folder.open().await;
    let mut connection = application(&folder);
    let transaction = connection.transaction().expect("it begins");
    transaction.query_row("SELECT count(*) FROM orders", (), |_| Ok(())).expect("it reads");
    take(&store, append("a", Expected::NoStream, &["a1"])).await;
    let refused =
        commit_in(&transaction, &append("b", Expected::NoStream, &["never"])).expect_err("it is too late");
    assert_eq!(Error::from(refused).code(), Code::DATABASE_LOCKED);
    drop(transaction);
    assert_eq!(ids(&store).await, ["a1"]);
}

#[tokio::test]
async fn a_file_without_tables_says_how_they_are_made() {
    let folder = Folder::new();
    let mut connection = application(&folder);
    let transaction = immediate(&mut connection);
    let refused =
        commit_in(&transaction, &append("a", Expected::Any, &["never"])).expect_err("there is no log");
    let error = Error::from(refused);
    assert_eq!(error.code(), Code::NOT_A_STORE, "{error}");
    assert!(error.fix().contains("ensue_sqlite::open"), "{}", error.fix());
}

async fn begin(store: &SqliteStore) -> (Box<dyn Transaction>, Session) {
    let transaction = store.begin().await.expect("it begins");
    let session = transaction.session().downcast::<Session>().expect("it is ours");
    (transaction, *session)
}

#[tokio::test]
async fn what_a_session_changes_is_there_with_the_commit_or_not_at_all() {
    let folder = Folder::new();
    let store = folder.open().await;
    drop(application(&folder));

    let (transaction, session) = begin(&store).await;
    session.run(|connection| insert(connection, "taken-back")).await.expect("it is inserted");
    drop(transaction);
    // The turn comes round once it is rolled back.
    let (transaction, session) = begin(&store).await;
    session.run(|connection| insert(connection, "refused")).await.expect("it is inserted");
    let stale = append("a", Expected::Exists, &["never"]);
    assert_eq!(Error::from(transaction.commit(stale).await.expect_err("stale")).code(), Code::STALE_VERSION);
    assert_eq!((orders(&folder), ids(&store).await), (vec![], vec![]));

    let (transaction, session) = begin(&store).await;
    session.run(|connection| insert(connection, "ORD-1")).await.expect("it is inserted");
    let failed = session
        .run(|connection| insert(connection, "ORD-2").and_then(|_| insert(connection, "ORD-1")))
        .await
        .expect_err("ORD-1 is there already");
    assert_eq!(failed.code(), Code::DATABASE_REFUSED, "{failed}");
    let committed = transaction.commit(append("a", Expected::NoStream, &["a1"])).await.expect("it is taken");
    assert_eq!(committed.position(), Position(1));
    assert_eq!((orders(&folder), ids(&store).await), (vec!["ORD-1".to_owned()], vec!["a1".to_owned()]));
    let late = session.run(|connection| insert(connection, "late")).await.expect_err("it has ended");
    assert!(late.message().contains("has ended"), "{late}");
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_does_not_begin() {
    let folder = Folder::new();
    let store = folder.config().patience(Duration::from_millis(50)).open().await.expect("it opens");
    drop(application(&folder));
    let (transaction, session) = begin(&store).await;
    session.run(|connection| insert(connection, "never")).await.expect("it is inserted");
    let commit = transaction.commit(append("a", Expected::NoStream, &["never"]));
    let waiting = store.begin().await.err().expect("the transaction is open for as long as nobody polls");
    assert_eq!(waiting.code(), Code::DATABASE_LOCKED);
    drop(commit);
    take(&store, append("b", Expected::NoStream, &["b1"])).await;
    assert_eq!((orders(&folder), ids(&store).await), (vec![], vec!["b1".to_owned()]));
}

#[tokio::test]
async fn a_transaction_that_the_application_ends_itself_is_found_out() {
    let folder = Folder::new();
    let store = folder.open().await;
    drop(application(&folder));
    let (transaction, session) = begin(&store).await;
    let ended = session.run(|connection| connection.execute_batch("COMMIT")).await;
    assert!(ended.is_err(), "the savepoint around the work is gone");
    let refused =
        transaction.commit(append("a", Expected::NoStream, &["never"])).await.expect_err("it has ended");
    assert!(Error::from(refused).message().contains("ended before the commit"));
    assert_eq!(ids(&store).await, [""; 0]);
    take(&store, append("a", Expected::NoStream, &["a1"])).await;
}

#[tokio::test]
async fn commits_wait_for_an_open_transaction_and_no_longer_than_patience() {
    let folder = Folder::new();
    let patience = std::time::Duration::from_millis(50);
    let store = folder.config().patience(patience).open().await.expect("it opens");
    let (transaction, _session) = begin(&store).await;
    let error = refuse(&store, append("a", Expected::Any, &["never"])).await;
    assert_eq!(error.code(), Code::DATABASE_LOCKED);
    assert!(error.message().contains("a transaction of this process"), "{error}");
    transaction.commit(append("a", Expected::NoStream, &["a1"])).await.expect("it is taken");
    take(&store, append("b", Expected::NoStream, &["b1"])).await;
    assert_eq!(store.head().await.expect("the head"), Position(2));
}
