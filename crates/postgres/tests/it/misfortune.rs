//! Connections that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensue_core::{Code, Error, Expected, Kind, Store, Version};

use crate::given::{Database, append, log};

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
