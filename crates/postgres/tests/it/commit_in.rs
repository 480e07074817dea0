//! A commit in a transaction of the application's own, by every driver that there is.

use ensue_core::{
    AppendCondition, Code, Commit, CommitError, Error, Expected, Position, Query, Read, RecordScan,
    RecordWrite, Revision, Space, Store, StoreExt, StreamName, Tag, Version,
};
use ensue_postgres::{InTransaction, Staged, commit_in};
use futures_util::future::{join, join_all};

use crate::given::{Database, append, log};

async fn orders(database: &Database) -> Vec<String> {
    let rows =
        database.session().await.query("SELECT id FROM orders ORDER BY id", &[]).await.expect("valid SQL");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn database() -> Database {
    let database = Database::new().await;
    database.open().await;
    database.session().await.batch_execute("CREATE TABLE orders (id text)").await.expect("valid SQL");
    database
}

async fn take(transaction: &mut (impl InTransaction + ?Sized), commit: &Commit) -> Staged {
    commit_in(transaction, commit).await.expect("it fits")
}

/// The commit alone, in a transaction of its own.
async fn alone(database: &Database, commit: &Commit) -> Result<Staged, CommitError> {
    let mut client = database.session().await;
    let mut transaction = client.transaction().await.expect("it begins");
    let outcome = commit_in(&mut transaction, commit).await;
    if outcome.is_ok() {
        transaction.commit().await.expect("it commits");
    }
    outcome
}

trait Writing {
    fn writing(self, write: RecordWrite) -> Self;
}

impl Writing for Commit {
    fn writing(mut self, write: RecordWrite) -> Self {
        self.records.push(write);
        self
    }
}

fn space() -> Space {
    Space::new("test").expect("a valid space")
}

/// In two transactions of this driver, of which the second commits.
macro_rules! by_sqlx {
    ($sqlx:ident, $database:expr, $key:expr) => {{
        use $sqlx::Connection as _;
        let mut connection =
            $sqlx::PgConnection::connect(&$database.as_url()).await.expect("the server runs");
        for is_kept in [false, true] {
            let mut transaction = connection.begin().await.expect("it begins");
            let insert = $sqlx::query("INSERT INTO orders VALUES ($1)").bind($key);
            insert.execute(&mut *transaction).await.expect("valid SQL");
            let staged = take(&mut transaction, &append($key, Expected::NoStream, &[$key, "e2"])).await;
            assert_eq!(staged.versions, [(Version(1), Version(2))]);
            if is_kept {
                transaction.commit().await.expect("it commits");
            }
        }
        let refused = commit_in(&mut connection, &append($key, Expected::NoStream, &["other"])).await;
        assert!(matches!(refused, Err(CommitError::Conflict { actual: Version(2), .. })), "{refused:?}");
    }};
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn rows_and_events_are_there_together_or_not_at_all_by_every_driver() {
    let database = database().await;
    let mut client = database.session().await;
    for is_kept in [false, true] {
        let mut transaction = client.transaction().await.expect("it begins");
        transaction.execute("INSERT INTO orders VALUES ('a')", &[]).await.expect("valid SQL");
        take(&mut transaction, &append("a", Expected::NoStream, &["a", "e2"])).await;
        if is_kept {
            transaction.commit().await.expect("it commits");
        }
    }
    by_sqlx!(sqlx_0_8, database, "b");
    by_sqlx!(sqlx_0_9, database, "c");
    assert_eq!(orders(&database).await, ["a", "b", "c"]);
    let events = log(&database.open().await).await;
    assert_eq!(events, ["a 1 a", "a 2 e2", "b 1 b", "b 2 e2", "c 1 c", "c 2 e2"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_that_is_repeated_is_known_by_its_ids() {
    let database = database().await;
    let store = database.open().await;
    let mut commit = append("b", Expected::NoStream, &["b1", "b2"]);
    commit.appends.extend(append("a", Expected::NoStream, &["a1"]).appends);
    commit.appends.extend(append("b", Expected::Exact(Version(2)), &["b3"]).appends);
    let commit = commit.writing(RecordWrite::put(space(), "key", "value").expect(Revision::ZERO));
    let first = alone(&database, &commit).await.expect("it fits");
    assert_eq!(
        first.versions,
        [(Version(1), Version(2)), (Version(1), Version(1)), (Version(3), Version(3))]
    );
    let again = Staged { repeated: true, ..first.clone() };
    assert_eq!(alone(&database, &commit).await.expect("it is known while it is staged"), again);
    assert_eq!(log(&store).await, ["b 1 b1", "b 2 b2", "a 1 a1", "b 3 b3"]);
    assert_eq!(alone(&database, &commit).await.expect("it is known by its positions"), again);
    let by_the_port = store.commit(commit).await.expect("the port knows it, too");
    assert!(by_the_port.repeated && by_the_port.revision == first.revision, "{by_the_port:?}");
    assert_eq!(log(&store).await.len(), 4);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_refusal_says_what_the_port_would_say_and_fails_the_transaction() {
    let database = database().await;
    let write = |revision| RecordWrite::put(space(), "key", "value").expect(revision);
    alone(&database, &append("a", Expected::Any, &["a1"]).writing(write(Revision::ZERO)))
        .await
        .expect("it fits");

    for (expected, key, found) in
        [(Expected::NoStream, "a", 1), (Expected::Exact(Version(7)), "a", 1), (Expected::Exists, "b", 0)]
    {
        let mut commit = append("other", Expected::Any, &["o1"]);
        commit.appends.extend(append(key, expected, &["x"]).appends);
        match alone(&database, &commit).await {
            Err(CommitError::Conflict { stream, expected: asked, actual }) => {
                assert_eq!((stream.key.as_str(), asked, actual), (key, expected, Version(found)));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    match alone(&database, &append("a", Expected::Any, &["a2"]).writing(write(Revision(99)))).await {
        Err(CommitError::RecordConflict { write, actual }) => {
            assert_eq!((write.expected, write.key.as_ref()), (Some(Revision(99)), b"key".as_slice()));
            assert!(actual > Revision::ZERO);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(log(&database.open().await).await, ["a 1 a1"]);

    let mut client = database.session().await;
    let mut transaction = client.transaction().await.expect("it begins");
    transaction.execute("INSERT INTO orders VALUES ('a')", &[]).await.expect("valid SQL");
    commit_in(&mut transaction, &append("a", Expected::NoStream, &["x"])).await.expect_err("it is stale");
    let after = transaction.execute("INSERT INTO orders VALUES ('b')", &[]).await.expect_err("it has failed");
    assert_eq!(after.code().map(tokio_postgres::error::SqlState::code), Some("25P02"));
    transaction.commit().await.expect("it rolls back");
    assert!(orders(&database).await.is_empty());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_cannot_be_taken_is_refused_with_its_code() {
    let database = database().await;
    let code = async |commit: &Commit| {
        Error::from(alone(&database, commit).await.expect_err("it cannot be taken")).code()
    };
    let mut conditional = append("a", Expected::Any, &["a1"]);
    let fail_if_match = Query::tags([Tag::new("c", "1").expect("a valid tag")]);
    conditional.condition = Some(AppendCondition { fail_if_match, after: Position::ZERO });
    assert_eq!(code(&conditional).await, Code::UNSUPPORTED);
    assert_eq!(code(&append("a", Expected::Any, &[])).await, Code::INVALID_COMMIT);
    let plain = append("a", Expected::Any, &["a1"]);
    let client = database.session().await;
    for drop in ["DROP FUNCTION ensue.take", "DROP SCHEMA ensue CASCADE"] {
        client.batch_execute(drop).await.expect("valid SQL");
        assert_eq!(code(&plain).await, Code::NOT_A_STORE, "{drop}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_event_comes_back_as_it_was_given_byte_by_byte() {
    let database = database().await;
    let mut commit = append("a", Expected::Any, &["a1", "a2"]);
    let events = &mut commit.appends[0].events;
    events[0].data = vec![0, 1, 255, 0].into();
    events[0].content_type = ensue_core::ContentType::new("application/x").expect("a valid type");
    events[1].data = "{ \"b\": 1.00,  \"a\": \"\\u0000\" }".into();
    events[1].tags = vec![Tag::new("c", "1, 2%").expect("a valid tag")];
    events[1].extensions = vec![("tenant".into(), "\"x\"".into())];
    alone(&database, &commit).await.expect("it fits");
    let read = database.open().await.collect(Read::all()).await.expect("the log can be read");
    let read: Vec<_> = read.into_iter().map(|event| event.envelope).collect();
    assert_eq!(read, commit.appends[0].events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn of_racing_transactions_and_commits_one_wins() {
    let database = database().await;
    let store = database.open().await;
    for round in 0..10 {
        let key = format!("r{round}");
        let inside = (0..4).map(|racer| {
            let (database, commit) = (&database, append(&key, Expected::NoStream, &[&format!("in{racer}")]));
            async move { alone(database, &commit).await.is_ok() }
        });
        let by_the_port = (0..4).map(|racer| {
            let commit = append(&key, Expected::NoStream, &[&format!("port{racer}")]);
            let store = &store;
            async move { store.commit(commit).await.is_ok() }
        });
        let (inside, by_the_port) = join(join_all(inside), join_all(by_the_port)).await;
        assert_eq!(inside.into_iter().chain(by_the_port).filter(|won| *won).count(), 1, "{key}");
    }
    assert_eq!(log(&store).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn commits_that_name_streams_and_records_in_any_order_do_not_lock_each_other_out() {
    let database = database().await;
    let write = |key: &'static str| RecordWrite::put(space(), key, "value");
    let turns = async |names: [&'static str; 2]| {
        for _ in 0..50 {
            let mut commit = append(names[0], Expected::Any, &["x"]);
            commit.appends.extend(append(names[1], Expected::Any, &["y"]).appends);
            let commit = commit.writing(write(names[0])).writing(write(names[1]));
            alone(&database, &commit).await.expect("nobody is chosen as a victim");
        }
    };
    join(join(turns(["a", "b"]), turns(["b", "a"])), join(turns(["b", "a"]), turns(["a", "b"]))).await;
    assert_eq!(log(&database.open().await).await.len(), 400);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_open_transaction_delays_who_writes_to_the_same_and_nobody_else() {
    let database = database().await;
    let store = database.open().await;
    let write = || RecordWrite::put(space(), "new", "theirs").expect(Revision::ZERO);
    let mut client = database.session().await;
    let mut open = client.transaction().await.expect("it begins");
    take(&mut open, &append("a", Expected::NoStream, &["a1"]).writing(write())).await;

    let waiting = append("b", Expected::Any, &["b1"]).writing(write());
    let others = async {
        for number in 0..20 {
            let commit = append(&format!("c{number}"), Expected::NoStream, &["c"]);
            store.commit(commit).await.expect("nothing is in its way");
        }
        let seen = log(&store).await;
        open.commit().await.expect("it commits");
        seen
    };
    let (refused, seen) = join(store.commit(waiting), others).await;
    assert_eq!(seen.len(), 20, "the open one and who waits for it are not there yet: {seen:?}");
    assert!(matches!(refused, Err(CommitError::RecordConflict { .. })), "{refused:?}");
    assert_eq!(log(&store).await.len(), 21);
    let page = store.scan(RecordScan::all(space())).await.expect("records can be read");
    let values: Vec<_> = page.records.iter().map(|record| record.value.as_ref()).collect();
    assert_eq!(values, [b"theirs"]);
    let stream = StreamName::new("Test", "b").expect("a valid name");
    assert!(store.collect(Read::stream(stream)).await.expect("it can be read").is_empty());
}
