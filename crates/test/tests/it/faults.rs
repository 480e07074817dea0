//! The store in memory beyond the contract: faults on request, time that passes, less capability.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensue_core::{
    Clock, Code, Commit, CommitError, Committed, Error, Kind, RecordWrite, Revision, Space, Store, StoreExt,
};
use ensue_test::{CommitHook, MemoryStore, Verdict, host};

fn put(key: &'static str) -> Commit {
    let space = Space::new("faults").expect("a valid space");
    Commit {
        records: vec![RecordWrite::put(space, key, "value").expect(Revision::ZERO)],
        ..Commit::default()
    }
}

async fn keys(store: &MemoryStore) -> Vec<String> {
    let space = Space::new("faults").expect("a valid space");
    let records = store.records(ensue_core::RecordScan::all(space)).await.expect("memory can be read");
    records.iter().map(|record| String::from_utf8_lossy(&record.key).into_owned()).collect()
}

fn kind(outcome: Result<Committed, CommitError>) -> Result<(), Kind> {
    outcome.map(drop).map_err(|error| Error::from(error).kind())
}

#[tokio::test]
async fn a_failed_commit_leaves_nothing_and_a_lost_reply_leaves_all() {
    let store = MemoryStore::new(host(1).0);
    store.fail_commit(2);
    assert_eq!(kind(store.commit(put("a")).await), Ok(()));
    assert_eq!(kind(store.commit(put("b")).await), Err(Kind::Unavailable));
    assert_eq!(keys(&store).await, ["a"]);
    store.lose_reply(3);
    assert_eq!(kind(store.commit(put("b")).await), Err(Kind::Timeout));
    assert_eq!(keys(&store).await, ["a", "b"]);
    assert_eq!(kind(store.commit(put("b")).await), Err(Kind::Conflict));
    assert_eq!(store.commits_attempted(), 4);
}

/// Loses every reply, and counts what truly became of the commits.
#[derive(Default)]
struct Observer {
    taken: AtomicU64,
    refused: AtomicU64,
}

impl CommitHook for Observer {
    fn decide(&self, _number: u64, _commit: &Commit) -> Verdict {
        Verdict::LoseReply(Error::new(Code::OUTCOME_UNKNOWN, "lost"))
    }

    fn settled(&self, _number: u64, _commit: &Commit, outcome: &Result<Committed, CommitError>) {
        let count = if outcome.is_ok() { &self.taken } else { &self.refused };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_hook_learns_the_outcome_that_the_caller_does_not() {
    let store = MemoryStore::new(host(1).0);
    let observer = Arc::new(Observer::default());
    store.set_hook(observer.clone());
    for key in ["a", "b", "a"] {
        assert_eq!(kind(store.commit(put(key)).await), Err(Kind::Timeout));
    }
    assert_eq!((observer.taken.load(Ordering::SeqCst), observer.refused.load(Ordering::SeqCst)), (2, 1));
    store.clear_hook();
    assert_eq!(kind(store.commit(put("c")).await), Ok(()));
}

#[tokio::test]
async fn a_record_lapses_when_its_time_comes_and_not_before() {
    let (host, clock) = host(1);
    let store = MemoryStore::new(host);
    let mut commit = put("a");
    let in_ten_seconds = clock.now().checked_add(Duration::from_secs(10)).expect("a valid time");
    commit.records = commit.records.into_iter().map(|write| write.expires_at(in_ten_seconds)).collect();
    store.commit(commit.clone()).await.expect("nothing is there yet");
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(keys(&store).await, ["a"]);
    assert_eq!(kind(store.commit(commit.clone()).await), Err(Kind::Conflict));
    clock.advance(Duration::from_millis(1));
    assert_eq!(keys(&store).await, [""; 0]);
    // Absent also for whoever expects that.
    assert_eq!(kind(store.commit(commit).await), Ok(()));
}
