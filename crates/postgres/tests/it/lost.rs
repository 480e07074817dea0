//! A database that comes back without its end: restored, or taken over by a standby that had not received everything.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use ensue_core::{Code, Error, Expected, Position, Read, Store, StoreExt, Version};
use ensue_macros::Event;
use ensue_runtime::{App, Running, State};
use serde::{Deserialize, Serialize};

use crate::given::{append, log};
use crate::server::Server;

/// Which numbers were handled.
type Seen = Arc<Mutex<Vec<u32>>>;

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Number", key = key)]
struct Numbered {
    key: String,
    number: u32,
}

async fn note(State(seen): State<Seen>, event: Numbered) {
    seen.lock().expect("nobody has panicked").push(event.number);
}

fn app(store: &Arc<dyn Store>, seen: &Seen) -> App {
    App::new("test")
        .store(Arc::clone(store))
        .state(Arc::clone(seen))
        .external::<Numbered>()
        .react("note", note)
}

fn numbered(number: u32) -> Numbered {
    Numbered { key: format!("k{}", number % 7), number }
}

/// Publishes these, and waits until they are handled.
async fn handled(running: &Running, numbers: RangeInclusive<u32>) {
    let mut last = Position::ZERO;
    for number in numbers {
        last = running.publish(numbered(number)).await.expect("it is taken").position;
    }
    running.settled(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_has_seen_what_the_database_lost_does_nothing_more() {
    let server = Server::new("");
    let store = server.open().await;
    for version in 0..3 {
        store
            .commit(append("a", Expected::Exact(Version(version)), &[&format!("a{version}")]))
            .await
            .expect("it runs");
    }
    let copy = server.copied();
    store.commit(append("a", Expected::Exact(Version(3)), &["lost"])).await.expect("it runs");
    server.come_back_as(&copy);

    let error = store.collect(Read::all()).await.expect_err("it has seen more");
    assert_eq!((error.code(), error.is_retryable()), (Code::LOST_TAIL, false), "{error:?}");
    assert!(error.message().contains("position 3") && error.message().contains("at 4"), "{error}");
    let refused = |error: Error| assert_eq!(error.code(), Code::LOST_TAIL, "{error:?}");
    refused(store.advanced(Position(2)).await.expect_err("not even what it knows"));
    refused(store.commit(append("a", Expected::Any, &["more"])).await.expect_err("nor a commit").into());
    let again = server.open().await;
    again
        .commit(append("a", Expected::Exact(Version(3)), &["sent again"]))
        .await
        .expect("it knows nothing else");
    assert_eq!(log(&again).await, ["a 1 a0", "a 2 a1", "a 3 a2", "a 4 sent again"]);
    refused(store.head().await.expect_err("also where the log has come as far again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_that_comes_first_finds_that_the_end_is_lost_and_writes_nothing() {
    let server = Server::new("");
    let store = server.open().await;
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("it runs");
    let copy = server.copied();
    store.commit(append("b", Expected::NoStream, &["lost"])).await.expect("it runs");
    server.come_back_as(&copy);
    let error = loop {
        let error = Error::from(
            store.commit(append("c", Expected::Any, &["c1"])).await.expect_err("it has seen more"),
        );
        // Connections of before break at the first use.
        if !error.is_retryable() {
            break error;
        }
    };
    assert_eq!(error.code(), Code::LOST_TAIL, "{error:?}");
    assert_eq!(log(&server.open().await).await, ["a 1 a1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn no_event_behind_a_lost_end_is_passed_over() {
    let server = Server::new("");
    let (store, seen): (Arc<dyn Store>, Seen) = (Arc::new(server.open().await), Seen::default());
    let running = app(&store, &seen).start().await.expect("it holds together");
    handled(&running, 1..=10).await;
    let copy = server.copied();
    handled(&running, 11..=30).await;
    server.come_back_as(&copy);
    while running.halted().is_empty() {
        tokio::task::yield_now().await;
    }
    let (_, error) = running.halted().swap_remove(0);
    assert_eq!(error.code(), Code::LOST_TAIL, "{error:?}");
    drop(running);

    seen.lock().expect("nobody has panicked").clear();
    let again: Arc<dyn Store> = Arc::new(server.open().await);
    let running = app(&again, &seen).start().await.expect("it holds together");
    handled(&running, 101..=125).await;
    let mut seen = seen.lock().expect("nobody has panicked").clone();
    seen.sort_unstable();
    assert_eq!(seen, (101..=125).collect::<Vec<_>>());
}
