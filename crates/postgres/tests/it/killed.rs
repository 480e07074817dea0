//! Servers that are killed, and what becomes of it: nothing that was acknowledged is lost, nothing is there twice, and no process of
//! the application is started anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ensue_core::{Code, Error, Expected, Kind, Position, Read, Store, Version};
use futures_util::TryStreamExt;
use tokio::task::JoinSet;

use crate::given::{append, log};
use crate::server::Server;

/// Appends one event after the other and repeats what failed, with the same ids; answers with how many outcomes were unknown, and how
/// many of those had been stored.
async fn write(store: Arc<dyn Store>, writer: usize, commits: u64, acknowledged: Arc<AtomicU64>) -> [u64; 2] {
    let [mut unknown, mut stored] = [0; 2];
    for number in 0..commits {
        let id = format!("{writer}-{number}");
        let commit = append(&format!("w{writer}"), Expected::Exact(Version(number)), &[&id]);
        loop {
            match store.commit(commit.clone()).await {
                Ok(committed) => {
                    stored += u64::from(committed.repeated);
                    break;
                }
                Err(error) => {
                    let error = Error::from(error);
                    assert!(matches!(error.kind(), Kind::Timeout | Kind::Unavailable), "{error:?}");
                    unknown += u64::from(error.code() == Code::OUTCOME_UNKNOWN);
                }
            }
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    [unknown, stored]
}

/// Follows the log up to a position, whatever fails on the way; answers with the ids that it saw.
async fn tail(store: Arc<dyn Store>, until: Position) -> Vec<String> {
    let (mut seen, mut last) = (Vec::new(), Position::ZERO);
    while last < until {
        let advanced = store.advanced(last).await;
        let mut events = store.read(Read::all().after(last));
        let read = async {
            advanced?;
            while let Some(event) = events.try_next().await? {
                assert_eq!(event.position, last.next(), "after {last}");
                last = event.position;
                seen.push(event.envelope.id.to_string());
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = read.await {
            assert!(error.is_retryable(), "{error:?}");
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_server_killed_twice_in_mid_load_loses_nothing_and_doubles_nothing() {
    const WRITERS: usize = 8;
    const COMMITS: u64 = 400;
    const TOTAL: u64 = WRITERS as u64 * COMMITS;
    let server = Server::new("");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let talkative = server.config().on_outage(move |outage| {
        tell.lock().unwrap_or_else(PoisonError::into_inner).push(outage.to_string());
    });
    let talkative = talkative.open().await.expect("an empty database");
    let stores: Vec<Arc<dyn Store>> = vec![Arc::new(talkative), Arc::new(server.open().await)];
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for (writer, store) in stores.iter().cycle().take(WRITERS).enumerate() {
        writers.spawn(write(Arc::clone(store), writer, COMMITS, Arc::clone(&acknowledged)));
    }
    let reader = tokio::spawn(tail(Arc::clone(&stores[1]), Position(TOTAL)));

    for part in [1, 2] {
        let witness = server.session().await;
        while acknowledged.load(Ordering::SeqCst) < part * TOTAL / 4 {
            tokio::task::yield_now().await;
        }
        if part == 1 {
            server.kill();
        } else {
            server.stop_immediately();
        }
        let at_kill = acknowledged.load(Ordering::SeqCst);
        assert!(at_kill < TOTAL, "it was killed too late to be in mid-load");
        assert!(witness.batch_execute("SELECT").await.is_err(), "a session has survived");
        server.start();
    }
    let of_writers = writers.join_all().await;
    let [unknown, stored] = [0, 1].map(|place| of_writers.iter().map(|counts| counts[place]).sum::<u64>());
    eprintln!("{unknown} outcomes were unknown, {stored} of them had been stored");
    assert!(stored <= unknown, "only what was unknown may have been stored without our knowing");

    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_away = |line: &String| line.starts_with("E0421: cannot connect to the database at ");
    let is_back = |line: &String| line.starts_with("the database is reached again, after ");
    // One that comes back may go away once more before it stays.
    assert!(
        told.len() >= 4 && told.len().is_multiple_of(2),
        "each outage is told when it begins and when it ends: {told:?}"
    );
    assert!(told.chunks(2).all(|two| is_away(&two[0]) && is_back(&two[1])), "{told:?}");

    let log = log(&*stores[0]).await;
    for writer in 0..WRITERS {
        let expected: Vec<String> =
            (0..COMMITS).map(|number| format!("w{writer} {} {writer}-{number}", number + 1)).collect();
        let name = format!("w{writer} ");
        let there: Vec<&String> = log.iter().filter(|line| line.starts_with(&name)).collect();
        assert_eq!(there, expected.iter().collect::<Vec<_>>());
    }
    let seen = reader.await.expect("the reader goes on by itself");
    let ids: Vec<&str> = log.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(seen, ids, "the reader saw the log as it is, also across the kills");
}
