//! Connections that break, at any moment and at the worst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensue_core::{Code, Error, Expected, Kind, Position, Store, Version};
use ensue_postgres::{Config, Session};

use crate::given::{Database, append, log};
use crate::wire::{Cut, Line};

/// Ends every other session of the database, again and again; answers with how many there were.
async fn cut_connections(database: Arc<Database>, is_over: Arc<AtomicBool>) -> i64 {
    let client = database.session().await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let mut total = 0;
    while !is_over.load(Ordering::Relaxed) {
        total += client.query_one(cut, &[]).await.expect("this session is spared").get::<_, i64>(0);
        // Between two cuts the store gets a moment: as long as the server needs to count a little.
        client.batch_execute("SELECT count(*) FROM generate_series(1, 100000)").await.expect("valid SQL");
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn connections_cut_at_any_moment_lose_nothing_and_double_nothing() {
    const WRITERS: usize = 4;
    const COMMITS: u64 = 60;
    let database = Arc::new(Database::new().await);
    let store: Arc<dyn Store> = Arc::new(database.open().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let cutting = tokio::spawn(cut_connections(Arc::clone(&database), Arc::clone(&is_over)));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer, COMMITS))).collect();
    let mut unknown = 0;
    for writer in writers {
        unknown += writer.await.expect("the writer has not failed");
    }
    is_over.store(true, Ordering::Relaxed);
    let cut = cutting.await.expect("the cutter has not failed");
    assert!(cut > 10, "only {cut} connections were cut");
    let log = log(&*store).await;
    for writer in 0..WRITERS {
        let expected: Vec<String> =
            (0..COMMITS).map(|number| format!("w{writer} {} {writer}-{number}", number + 1)).collect();
        let stored: Vec<&String> =
            log.iter().filter(|line| line.starts_with(&format!("w{writer} "))).collect();
        assert_eq!(stored, expected.iter().collect::<Vec<_>>(), "{cut} cut, {unknown} outcomes unknown");
    }
}

/// Appends one event after the other, and repeats what it cannot know; answers with how often that was.
async fn write(store: Arc<dyn Store>, writer: usize, commits: u64) -> u64 {
    let mut unknown = 0;
    for number in 0..commits {
        let id = format!("{writer}-{number}");
        let commit = append(&format!("w{writer}"), Expected::Exact(Version(number)), &[&id]);
        while let Err(error) = store.commit(commit.clone()).await {
            let error = Error::from(error);
            assert!(matches!(error.kind(), Kind::Timeout | Kind::Unavailable), "{error:?}");
            unknown += u64::from(error.code() == Code::OUTCOME_UNKNOWN);
        }
    }
    unknown
}

/// A way to the database that breaks when it is told to.
async fn line_to(database: &Database) -> (Line, Config) {
    let line = Line::to(database.port()).await;
    let config = Config::new(&database.url_at(line.port())).expect("a valid address");
    (line, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_whose_line_is_cut_is_unknown_and_its_repetition_knows() {
    let database = Database::new().await;
    let (line, config) = line_to(&database).await;
    let store = config.open().await.expect("an empty database");
    for (version, cut, was_stored) in
        [(0, Cut::Commit, false), (1, Cut::Answer, true), (2, Cut::Commit, false), (3, Cut::Pooler, true)]
    {
        line.cut(&[cut]);
        let commit = append("a", Expected::Exact(Version(version)), &[&format!("a{}", version + 1)]);
        let error = Error::from(store.commit(commit.clone()).await.expect_err("no answer can come"));
        assert_eq!((error.code(), error.is_retryable()), (Code::OUTCOME_UNKNOWN, true), "{cut:?}: {error:?}");
        assert_eq!(line.happened().last(), Some(&cut));
        let committed = store.commit(commit).await.expect("the line is whole again");
        assert_eq!(committed.repeated, was_stored, "{cut:?}");
        assert_eq!(committed.position(), Position(version + 1));
    }
    // What a pooler says to the write says nothing of the commit: the store does not try again by itself what expects no version.
    line.cut(&[Cut::Pooler]);
    let error =
        Error::from(store.commit(append("b", Expected::Any, &["b1"])).await.expect_err("nobody knows"));
    assert_eq!(error.code(), Code::OUTCOME_UNKNOWN, "{error:?}");
    line.cut(&[Cut::Decision]);
    let commit = append("a", Expected::Exact(Version(4)), &["a5"]);
    let committed = store.commit(commit).await.expect("nothing was under way, so it is tried again");
    assert!(!committed.repeated);
    assert_eq!(line.happened().len(), 6);
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2", "a 3 a3", "a 4 a4", "b 1 b1", "a 5 a5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn rows_of_a_handler_are_there_once_although_the_line_is_cut_in_their_commit() {
    let database = Database::new().await;
    let (line, config) = line_to(&database).await;
    let store = config.open().await.expect("an empty database");
    let client = database.session().await;
    client.batch_execute("CREATE TABLE shipped (id text)").await.expect("valid SQL");
    let attempt = async |commit| {
        let transaction = store.begin().await.expect("the server runs");
        let session = transaction.session().downcast::<Session>().expect("it is PostgreSQL");
        let insert = "INSERT INTO shipped VALUES ('one')";
        session.client().expect("it is open").batch_execute(insert).await.expect("valid SQL");
        transaction.commit(commit).await.map_err(Error::from)
    };
    for (version, cut) in [(0, Cut::Commit), (1, Cut::Answer)] {
        line.cut(&[cut]);
        let commit = append("a", Expected::Exact(Version(version)), &[&format!("a{version}")]);
        let error = attempt(commit.clone()).await.expect_err("no answer can come");
        assert_eq!(error.code(), Code::OUTCOME_UNKNOWN, "{error:?}");
        attempt(commit).await.expect("the line is whole again");
        let rows = client.query_one("SELECT count(*) FROM shipped", &[]).await.expect("valid SQL");
        assert_eq!(rows.get::<_, i64>(0), i64::try_from(version + 1).expect("small"), "{cut:?}");
    }
    assert_eq!(line.happened(), [Cut::Commit, Cut::Answer]);
    assert_eq!(log(&store).await, ["a 1 a0", "a 2 a1"]);
}
