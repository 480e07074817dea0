//! The history checker: content with a store that is right, and not to be fooled by a log that is not.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    Append, AppendCondition, Code, Commit, CommitError, ContentType, Entropy, Envelope, Error, EventId,
    EventType, Expected, Position, Query, Read, Recorded, Source, Store, StoreExt, StreamName, Timestamp,
    Version,
};
use ensue_test::checker::{History, Summary};
use ensue_test::{MemoryStore, SeededEntropy, Verdict, host};

fn stream(key: &str) -> StreamName {
    StreamName::new("Case", key).expect("a valid key")
}

fn event(id: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("a valid id"),
        source: Source::new("histories").expect("a valid source"),
        event_type: EventType::new("Happened").expect("a valid type"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: Bytes::from_static(b"{}"),
    }
}

fn append(key: &str, expected: Expected, ids: &[&str]) -> Commit {
    let events = ids.iter().map(|id| event(id)).collect();
    Commit { appends: vec![Append { stream: stream(key), expected, events }], ..Commit::default() }
}

fn exact(version: u64) -> Expected {
    Expected::Exact(Version(version))
}

async fn log(store: &MemoryStore) -> Vec<Recorded> {
    store.collect(Read::all()).await.expect("memory can be read")
}

/// Ten clients that append to four streams at the version they read last, and repeat what got no answer.
async fn race(store: &Arc<MemoryStore>) -> Arc<History> {
    let history = Arc::new(History::new());
    let clients = (0..10u64).map(|client| {
        let (store, history) = (Arc::clone(store), Arc::clone(&history));
        tokio::spawn(async move {
            let dice = SeededEntropy::new(client);
            for number in 0..100 {
                let key = &format!("s{}", dice.below(4));
                let last =
                    store.collect(Read::stream(stream(key)).backward().limit(1)).await.expect("readable");
                let version = last.first().map(|event| event.version).unwrap_or_default();
                tokio::task::yield_now().await;
                let (one, two) = (format!("c{client}-{number}-1"), format!("c{client}-{number}-2"));
                let commit = append(key, Expected::Exact(version), &[&one, &two]);
                let outcome = history.commit(&*store, commit.clone()).await;
                if matches!(&outcome, Err(CommitError::Other(error)) if error.code() == Code::OUTCOME_UNKNOWN)
                    && dice.below(2) == 0
                {
                    drop(history.commit(&*store, commit).await);
                }
            }
        })
    });
    for client in futures_util::future::join_all(clients).await {
        client.expect("no client panics");
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_clients_with_lost_replies_leave_a_history_that_holds() {
    let store = Arc::new(MemoryStore::new(host(3).0));
    let dice = SeededEntropy::new(3);
    store.set_hook(Arc::new(move |number: u64, _: &Commit| {
        let mut byte = [0u8];
        dice.fill(&mut byte);
        match byte {
            [0..30] => {
                Verdict::LoseReply(Error::new(Code::OUTCOME_UNKNOWN, format!("reply {number} is lost")))
            }
            [30..50] => Verdict::Refuse(Error::new(Code::BUSY, format!("commit {number} is refused"))),
            [_] => Verdict::Proceed,
        }
    }));
    let history = race(&store).await;
    let summary = history.check(&log(&store).await).expect("the model keeps its promises");
    // The faults took place, or this test would show little.
    assert!(summary.unknown > 20 && summary.unknown_but_stored > 5 && summary.repeated > 5, "{summary:?}");
    assert!(summary.refused > 20 && summary.acknowledged > 200, "{summary:?}");
}

/// A small history that holds: `a` gets a1 a2, then a3; a stale append is refused; b1 gets no answer but is stored.
async fn small() -> (History, Vec<Recorded>) {
    let store = MemoryStore::new(host(1).0);
    let history = History::new();
    store.lose_reply(4);
    for commit in [
        append("a", Expected::NoStream, &["a1", "a2"]),
        append("a", exact(2), &["a3"]),
        append("a", exact(2), &["stale"]),
        append("b", Expected::Any, &["b1", "b2"]),
    ] {
        drop(history.commit(&store, commit).await);
    }
    let log = log(&store).await;
    (history, log)
}

/// Breaks the log of the small history and gives what the checker says of it.
async fn broken(breaking: impl FnOnce(&mut Vec<Recorded>)) -> String {
    let (history, mut log) = small().await;
    breaking(&mut log);
    history.check(&log).expect_err("the log was broken").to_string()
}

/// Numbers the events anew, so that only what a test means to break is broken.
fn renumber(log: &mut [Recorded]) {
    for place in 0..log.len() {
        let (before, rest) = log.split_at_mut(place);
        let event = rest.first_mut().expect("the place is inside");
        let version = before.iter().filter(|earlier| earlier.stream == event.stream).count() as u64 + 1;
        (event.position, event.version) = (Position(place as u64 + 1), Version(version));
    }
}

#[tokio::test]
async fn a_history_that_holds_is_summed_up() {
    let (history, log) = small().await;
    let summary = history.check(&log).expect("nothing is broken");
    let expected =
        Summary { acknowledged: 2, repeated: 0, refused: 1, unknown: 1, unknown_but_stored: 1, events: 5 };
    assert_eq!(summary, expected);
    // Whether an unknown commit is stored is open: its absence holds as well.
    let without: Vec<Recorded> = log.into_iter().filter(|event| event.stream == stream("a")).collect();
    assert_eq!(history.check(&without).map(|summary| summary.unknown_but_stored), Ok(0));
}

#[tokio::test]
async fn gaps_are_found() {
    let said = broken(|log| log.iter_mut().skip(3).for_each(|event| event.position.0 += 1)).await;
    assert!(said.contains("position 5 where 4 was due"), "{said}");
    let said = broken(|log| log.iter_mut().skip(2).take(1).for_each(|event| event.version.0 += 1)).await;
    assert!(said.contains("Case/a has version 4 after 2"), "{said}");
}

#[tokio::test]
async fn a_lost_acknowledged_commit_is_found() {
    let said = broken(|log| drop(log.remove(2))).await;
    assert!(said.contains("commit a3 was acknowledged, but it is lost"), "{said}");
}

#[tokio::test]
async fn half_a_commit_is_found() {
    let said = broken(|log| drop(log.pop())).await;
    assert!(said.contains("commit b1: 1 events stand, 1 are missing"), "{said}");
}

#[tokio::test]
async fn an_event_that_stands_twice_or_was_never_sent_is_found() {
    let said = broken(|log| log.extend(log.first().cloned())).await;
    assert!(said.contains("event a1 stands 2 times"), "{said}");
    let said = broken(|log| {
        log.push(Recorded { envelope: event("ghost"), ..log.last().expect("five events").clone() });
        renumber(log);
    })
    .await;
    assert!(said.contains("event ghost is in the log, but nobody sent it"), "{said}");
}

#[tokio::test]
async fn a_refused_commit_that_is_stored_is_found() {
    let said = broken(|log| {
        log.push(Recorded {
            stream: stream("a"),
            envelope: event("stale"),
            ..log.last().expect("five").clone()
        });
        renumber(log);
    })
    .await;
    assert!(said.contains("commit stale was refused, but it is stored"), "{said}");
    assert!(said.contains("commit stale expected version 2 of Case/a, but was taken at version 3"), "{said}");
}

#[tokio::test]
async fn another_order_than_that_of_the_clients_is_found() {
    let said = broken(|log| {
        log.rotate_right(2);
        renumber(log);
    })
    .await;
    assert!(
        said.contains("commit a3 stands at 5 to 5 (versions 3 to 3), but the answer was 3 to 3"),
        "{said}"
    );
    assert!(said.contains("commit b1 stands at 1, but began after 5 was acknowledged"), "{said}");
}

#[tokio::test]
async fn a_changed_body_is_found() {
    let said = broken(|log| {
        log.iter_mut().skip(1).take(1).for_each(|event| event.envelope.data = Bytes::from_static(b"[]"));
    })
    .await;
    assert!(said.contains("event a2 of Case/a stands elsewhere or changed"), "{said}");
}

#[tokio::test]
async fn a_refusal_without_a_reason_is_found() {
    let (history, log) = small().await;
    for (actual, is_justified) in [(0, false), (1, false), (2, false), (3, true), (4, false)] {
        let history = history_with_refusal(&log, Version(actual)).await;
        assert_eq!(history.check(&log).is_ok(), is_justified, "version {actual}");
    }
    assert!(history.check(&log).is_ok());
}

/// The calls that made this log, and one that is refused for a version of `a`.
async fn history_with_refusal(log: &[Recorded], actual: Version) -> History {
    let store = MemoryStore::new(host(1).0);
    let history = History::new();
    for commit in [
        append("a", Expected::NoStream, &["a1", "a2"]),
        append("a", exact(2), &["a3"]),
        append("b", Expected::Any, &["b1", "b2"]),
    ] {
        history.commit(&store, commit).await.expect("nothing stands in the way");
    }
    assert_eq!(store.head().await.expect("memory can be read").0, log.len() as u64);
    let expected = exact(9);
    let call = history.invoke(&append("a", expected, &["refused"]));
    call.answer(&Err(CommitError::Conflict { stream: stream("a"), expected, actual }));
    history
}

#[tokio::test]
async fn a_condition_that_did_not_hold_is_found() {
    let store = MemoryStore::new(host(1).0);
    let history = History::new();
    history.commit(&store, append("a", Expected::Any, &["a1"])).await.expect("taken");
    let commit = Commit {
        condition: Some(AppendCondition { fail_if_match: Query::all(), after: Position::ZERO }),
        ..append("b", Expected::Any, &["b1"])
    };
    let call = history.invoke(&commit);
    // A store that forgets the condition.
    let outcome = store.commit(Commit { condition: None, ..commit.clone() }).await;
    call.answer(&outcome);
    let said = history.check(&log(&store).await).expect_err("the condition was broken").to_string();
    assert!(said.contains("commit b1 was taken, but its condition fails at position 1"), "{said}");
}
