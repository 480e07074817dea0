//! Tables of the application and one commit, in one transaction.

use bytes::Bytes;
use ensue_core::{
    Code, Commit, CommitError, Expected, RecordScan, RecordWrite, Revision, Space, Store, Transaction,
};
use ensue_postgres::Session;

use crate::given::{Database, append, log};

fn session(transaction: &dyn Transaction) -> Session {
    *transaction.session().downcast::<Session>().expect("the session of this adapter")
}

async fn orders(database: &Database) -> Vec<String> {
    let rows =
        database.session().await.query("SELECT id FROM orders ORDER BY id", &[]).await.expect("valid SQL");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn rows_of_the_application_and_a_commit_are_taken_together_or_not_at_all() {
    let database = Database::new().await;
    let store = database.open().await;
    database.session().await.batch_execute("CREATE TABLE orders (id text)").await.expect("valid SQL");
    let attempt = async |row: &str, commit| {
        let transaction = store.begin().await.expect("a transaction begins");
        let session = session(&*transaction);
        let client = session.client().expect("it is open");
        client.execute("INSERT INTO orders VALUES ($1)", &[&row]).await.expect("valid SQL");
        let outcome = transaction.commit(commit).await;
        assert_eq!(session.client().expect_err("it is over").code(), Code::CLOSED);
        outcome
    };
    let first = append("a", Expected::NoStream, &["a1"]);
    let taken = attempt("one", first.clone()).await.expect("an empty store");
    assert_eq!(taken.position().0, 1);
    let refused = attempt("two", append("a", Expected::NoStream, &["other"])).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    let again = attempt("one again", first).await.expect("it is a repetition");
    assert!(again.repeated && again.appended == taken.appended, "{again:?}");
    assert_eq!(
        (orders(&database).await, log(&store).await),
        (vec!["one".to_owned()], vec!["a 1 a1".to_owned()])
    );
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_transaction_that_is_dropped_leaves_nothing_and_gives_its_connection_back() {
    let database = Database::new().await;
    let store = database.config().connections_max(2).open().await.expect("an empty database");
    database.session().await.batch_execute("CREATE TABLE orders (id text)").await.expect("valid SQL");
    for _ in 0..5 {
        let transaction = store.begin().await.expect("a connection is free");
        let session = session(&*transaction);
        session
            .client()
            .expect("it is open")
            .batch_execute("INSERT INTO orders VALUES ('x')")
            .await
            .expect("valid SQL");
        drop(transaction);
        assert_eq!(session.client().expect_err("it is over").code(), Code::CLOSED);
    }
    assert_eq!(orders(&database).await, [""; 0]);
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("a connection is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_record_that_was_not_there_is_put_and_deleted_whichever_way_its_commit_goes() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let space = || Space::new("shop.seen").expect("a space");
    let of = |write: RecordWrite| Commit { records: vec![write], ..Commit::default() };
    let records = async || store.scan(RecordScan::all(space())).await.expect("readable").records;
    for way in ["alone", "joined", "behind a held stream"] {
        let commit = async |commit: Commit| match way {
            "alone" => store.commit(commit).await,
            "joined" => store.begin().await.expect("a connection is free").commit(commit).await,
            // Whoever waits for somebody is decided alone, once that one is gone.
            _ => {
                client
                    .batch_execute("BEGIN; SELECT ensue.append('Test', 'held', 'Happened', '{}')")
                    .await
                    .expect("valid SQL");
                let commit = Commit { appends: append("held", Expected::Any, &["behind"]).appends, ..commit };
                let (outcome, ()) = tokio::join!(store.commit(commit), async {
                    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)";
                    while !client.query_one(waits, &[]).await.expect("valid SQL").get::<_, bool>(0) {}
                    client.batch_execute("COMMIT").await.expect("it is over");
                });
                outcome
            }
        };
        let delete = || RecordWrite::delete(space(), Bytes::from("a"));
        commit(of(delete())).await.expect(way);
        assert_eq!(records().await, [], "{way}: what was not there is not there");
        commit(of(RecordWrite::put(space(), "a", "first").expect(Revision::ZERO))).await.expect(way);
        let there = records().await;
        assert!(matches!(there.as_slice(), [record] if record.value == "first"), "{way}: {there:?}");
        commit(of(delete().expect(there[0].revision))).await.expect(way);
        assert_eq!(records().await, [], "{way}");
    }
}
