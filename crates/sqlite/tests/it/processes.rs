//! Several handles and several processes on one file.

use std::collections::BTreeMap;
use std::sync::Arc;

use ensue_core::{CommitError, Expected, Read, Store, StoreExt, Version};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::child::{Process, WRITERS, numbered};
use crate::given::{Folder, append, ids, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_racers_on_two_handles_one_wins() {
    let folder = Folder::new();
    let handles = [folder.open().await, folder.open().await];
    for round in 0..20u64 {
        let start = Arc::new(Barrier::new(8));
        let race = (0..8).map(|racer| {
            let (store, start) = (handles[racer % 2].clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                store
                    .commit(append(
                        "contested",
                        Expected::Exact(Version(round)),
                        &[&format!("{round}-{racer}")],
                    ))
                    .await
            })
        });
        let outcomes = join_all(race).await.into_iter().map(|racer| racer.expect("no racer panics"));
        let losers: Vec<CommitError> = outcomes.filter_map(Result::err).collect();
        assert_eq!(losers.len(), 7, "{losers:?}");
        let is_told = |loser: &CommitError| matches!(loser, CommitError::Conflict { actual, .. } if *actual == Version(round + 1));
        assert!(losers.iter().all(is_told), "{losers:?}");
    }
    assert_eq!(ids(&handles[0]).await.len(), 20);
}

/// A process is killed while it commits, and another one goes on by repeating what was not answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_in_mid_commit_loses_doubles_and_skips_nothing() {
    const ROUNDS: usize = 4;
    const WORDS: usize = 300;
    let folder = Folder::new();
    let store = folder.open().await;
    let mut answered = [0u64; WRITERS];
    let mut own = 0;
    for _ in 0..ROUNDS {
        let mut process = Process::writing(&folder.file(), &answered.map(|version| version + 1));
        let mut heard = Vec::new();
        while heard.len() < WORDS {
            heard.push(process.hear().expect("it writes until it is killed"));
            // This process writes to the same file meanwhile.
            own += 1;
            store
                .commit(append("own", Expected::Exact(Version(own - 1)), &[&format!("own-{own}")]))
                .await
                .expect("taken");
        }
        heard.extend(process.kill());
        let asked = heard.iter().filter(|words| words.starts_with("asks")).count();
        let told = heard.iter().filter_map(|words| words.strip_prefix("answer ")).collect::<Vec<_>>();
        assert!(asked > told.len(), "no commit was under way when the process was killed");
        for answer in told {
            let (writer, version) = answer.split_once(' ').expect("writer and version");
            let writer: usize = writer.parse().expect("a number");
            answered[writer] = answered[writer].max(version.parse().expect("a number"));
        }
    }
    // What was under way when it was killed is there or not; repeating it tells which, and stores it once.
    let mut repeated = 0;
    for (writer, version) in answered.iter_mut().enumerate() {
        *version += 1;
        let committed = store.commit(numbered(writer, *version)).await.expect("it is taken, or was");
        repeated += usize::from(committed.repeated);
    }
    let all = ids(&store).await;
    let mut seen = BTreeMap::<&str, usize>::new();
    all.iter().for_each(|id| *seen.entry(id).or_default() += 1);
    assert!(seen.values().all(|count| *count == 1), "an event is there twice");
    for (writer, version) in answered.iter().enumerate() {
        for side in ["l", "r"] {
            let name = if side == "l" { "left" } else { "right" };
            let events =
                store.collect(Read::stream(stream(&format!("{name}-{writer}")))).await.expect("read");
            let there: Vec<_> = events.iter().map(|event| event.envelope.id.to_string()).collect();
            let expected: Vec<_> =
                (1..=*version).map(|version| format!("{side}{writer}-{version}")).collect();
            assert_eq!(there, expected, "{repeated} of the last commits had been stored");
        }
    }
    assert_eq!(all.len() as u64, own + answered.iter().sum::<u64>() * 2);
}
