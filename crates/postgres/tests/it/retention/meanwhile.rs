//! While others read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::{
    Append, Code, Commit, Error, EventId, Expected, Position, Read, Store, StoreExt, StreamName,
};
use ensue_postgres::PostgresStore;
use futures_util::StreamExt;

use super::history::{
    DAY, EVERYTHING, History, assert_left, envelope, imported, of_two_days_ago, ticks, trimmed,
};
use crate::given::Database;

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_partition_that_is_dropped_while_it_is_read_is_no_gap_and_one_that_is_gone_by_hand_is_named() {
    let database = Database::new().await;
    let (store, client) = (Arc::new(database.open().await), database.session().await);
    let mut history = of_two_days_ago(&store, 30).await;
    imported(&store, history.more(30, 36)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 20);
    imported(&store, history.more(30, 1)).await;
    // The reader has its rows, among them those of the second partition, and waits to be told which positions between them were dropped.
    client.batch_execute("BEGIN; LOCK TABLE ensue.dropped").await.expect("it is ours");
    let reading = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.collect(Read::all()).await })
    };
    let is_waiting =
        "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'ensue.dropped'::regclass AND NOT granted)";
    while !client.query_one(is_waiting, &[]).await.expect("readable").get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    let dropped =
        client.query_one("SELECT events FROM ensue.trim(10000)", &[]).await.expect("nobody reads it");
    assert_eq!(dropped.get::<_, i64>(0), 20);
    client.batch_execute("COMMIT").await.expect("it is ours");
    let read = reading.await.expect("it does not panic").expect("nothing is missing");
    assert_eq!(read, history.without_ticks(30));
    assert_left(&store, &client, &history.without_ticks(60)).await;

    client.batch_execute("DROP TABLE ensue.events_3").await.expect("it is ours");
    let error = store.collect(Read::all()).await.expect_err("a table is missing");
    assert!(error.code() == Code::CORRUPT && error.message().contains("events_3"), "{error}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_stream_that_loses_events_between_two_pages_says_so() {
    let database = Database::new().await;
    let store = database.open().await;
    let mut history = of_two_days_ago(&store, 600).await;
    imported(&store, history.more(600, 1)).await;
    let mut events = store.read(Read::stream("ticks/a".parse().expect("a stream")));
    let first = events.next().await.expect("there are some").expect("readable");
    assert_eq!(first.version.0, 1);
    assert_eq!(trimmed(&store, EVERYTHING).await, 400);
    let mut last = first.version;
    let error = loop {
        match events.next().await.expect("it breaks before it ends") {
            Ok(event) => last = event.version,
            Err(error) => break error,
        }
    };
    assert!(error.code() == Code::EVENTS_DROPPED && error.message().contains("version 64"), "{error}");
    assert_eq!(last.0, 64);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn whoever_reads_in_a_long_transaction_is_told_of_partitions_that_were_opened_since() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = History::default();
    imported(&store, history.more(3, 48)).await;
    client.batch_execute("BEGIN").await.expect("valid SQL");
    // Often enough for the server to keep its plans.
    for _ in 0..10 {
        assert_eq!(client.query("SELECT * FROM ensue.read(0, 10)", &[]).await.expect("readable").len(), 3);
    }
    store.retain(&ticks(), Some(DAY)).await.expect("nobody writes");
    imported(&store, history.more(3, 1)).await;
    assert_eq!(client.query("SELECT * FROM ensue.read(0, 10)", &[]).await.expect("readable").len(), 6);
}

/// Appends ticks and orders in turn until it is told to stop; the ids of the orders.
async fn write(store: Arc<PostgresStore>, name: &str, is_over: Arc<AtomicBool>) -> Vec<EventId> {
    let mut orders = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        for (topic, event_type) in [("ticks", "Ticked"), ("orders", "OrderPlaced")] {
            let event = envelope(&format!("{topic}-{name}-{number}"), event_type);
            if topic == "orders" {
                orders.push(event.id.clone());
            }
            let stream = StreamName::new(topic, name).expect("a stream");
            let append = Append { stream, expected: Expected::Any, events: vec![event] };
            store.commit(Commit { appends: vec![append], ..Commit::default() }).await.expect("it is taken");
        }
    }
    orders
}

/// Follows the log until it is told to stop; the ids of the orders. Whatever it comes to, it misses nothing but ticks.
async fn follow(store: Arc<PostgresStore>, is_over: Arc<AtomicBool>) -> Result<Vec<EventId>, Error> {
    let (mut after, mut orders) = (Position::ZERO, Vec::new());
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        let mut events = store.read(Read::all().after(after));
        while let Some(event) = events.next().await.transpose()? {
            after = event.position;
            if event.stream.topic.as_str() == "orders" {
                orders.push(event.envelope.id);
            }
        }
        if is_last {
            return Ok(orders);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn writers_and_readers_go_on_while_partitions_are_opened_and_dropped() {
    let database = Database::new().await;
    let store = Arc::new(database.open().await);
    store.retain(&ticks(), Some(Duration::from_millis(400))).await.expect("it is ours");
    let (writing, reading) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let other = Arc::new(database.open().await);
    let writers = [
        tokio::spawn(write(Arc::clone(&store), "a", Arc::clone(&writing))),
        tokio::spawn(write(Arc::clone(&other), "b", Arc::clone(&writing))),
    ];
    let readers = [&store, &other].map(|store| tokio::spawn(follow(Arc::clone(store), Arc::clone(&reading))));
    let (mut dropped, mut times) = (0, 0);
    while times < 20 {
        let mut trimmed = Vec::new();
        let step = store.trim(EVERYTHING, &mut trimmed).await;
        // Who reads or writes at each of its tries may be in the way; the next call goes on.
        let is_in_the_way = |error: &Error| [Code::DATABASE_TIMEOUT, Code::BUSY].contains(&error.code());
        assert!(step.as_ref().err().is_none_or(is_in_the_way), "{step:?}");
        let step: u64 = trimmed.iter().map(|trimmed| trimmed.events).sum();
        times += u32::from(step > 0);
        dropped += step;
        store.collect(Read::all()).await.expect("nothing is missing");
    }
    writing.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.expect("it does not panic"));
    }
    reading.store(true, Ordering::Relaxed);
    for reader in readers {
        let mut read = reader.await.expect("it does not panic").expect("nothing is missing");
        read.sort();
        written.sort();
        assert_eq!(read, written);
    }
    let left = store.collect(Read::all()).await.expect("nothing is missing");
    let orders = left.iter().filter(|event| event.stream.topic.as_str() == "orders").count();
    assert_eq!(orders, written.len());
    let head = store.head().await.expect("readable");
    assert_eq!(left.len() as u64 + dropped, head.0, "each position is there or was dropped");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn whoever_reads_in_a_long_transaction_is_waited_for_and_nothing_is_dropped_by_half() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = of_two_days_ago(&store, 300).await;
    imported(&store, history.more(30, 1)).await;
    client.batch_execute("BEGIN; SELECT count(*) FROM ensue.events").await.expect("it reads");
    let error = store.trim(EVERYTHING, &mut Vec::new()).await.expect_err("somebody reads");
    assert_eq!(error.code(), Code::DATABASE_TIMEOUT, "{error}");
    let readers = store.reading().await.expect("readable");
    assert!(matches!(readers.as_slice(), [reader] if reader.statement.contains("count(*)")), "{readers:?}");
    client.batch_execute("COMMIT").await.expect("it is over");
    assert_left(&store, &client, &history.events).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 200);
    assert_left(&store, &client, &history.without_ticks(300)).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn upkeep_of_the_server_holds_up_no_opening_of_partitions() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    // As long as it is at a table, VACUUM holds the lock that this is called after.
    let upkeep = "BEGIN; LOCK TABLE ONLY ensue.events_kept IN SHARE UPDATE EXCLUSIVE MODE";
    client.batch_execute(upkeep).await.expect("it is ours");
    let mut history = of_two_days_ago(&store, 30).await;
    imported(&store, history.more(30, 1)).await;
    assert_eq!(store.retention().await.expect("readable").first().map(|kept| kept.partitions), Some(2));
    client.batch_execute("COMMIT").await.expect("it is over");
    assert_eq!(trimmed(&store, EVERYTHING).await, 20);
}

/// Both topics keep their events for a day, and have had some two days ago.
async fn of_both_topics(store: &PostgresStore) -> History {
    let mut history = History::default();
    for topic in ["orders", "ticks"] {
        store.retain(&topic.parse().expect("a topic"), Some(DAY)).await.expect("it is ours");
    }
    imported(store, history.more(30, 48)).await;
    assert_eq!(trimmed(store, EVERYTHING).await, 0);
    history
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn whoever_reads_holds_up_no_opening_of_partitions_of_whatever_topic() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = of_both_topics(&store).await;
    imported(&store, history.more(30, 36)).await;
    client.batch_execute("BEGIN; SELECT count(*) FROM ensue.events").await.expect("it reads");
    let error = store.trim(EVERYTHING, &mut Vec::new()).await.expect_err("somebody reads");
    assert_eq!(error.code(), Code::DATABASE_TIMEOUT, "{error}");
    let partitions = store.retention().await.expect("readable").into_iter().map(|kept| kept.partitions);
    assert_eq!(
        partitions.collect::<Vec<_>>(),
        [3, 3],
        "both have one that takes new events, and two that do not"
    );
    client.batch_execute("COMMIT").await.expect("it is over");
    assert_eq!(trimmed(&store, EVERYTHING).await, 30);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_was_dropped_is_said_also_where_it_broke_off() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = of_both_topics(&store).await;
    imported(&store, history.more(30, 1)).await;
    // The first partition of ticks, and nothing of the table that it belongs to.
    client.batch_execute("BEGIN; SELECT count(*) FROM ensue.events_2").await.expect("it reads");
    let mut gone = Vec::new();
    let error = store.trim(EVERYTHING, &mut gone).await.expect_err("somebody reads");
    assert_eq!(error.code(), Code::DATABASE_TIMEOUT, "{error}");
    let gone: Vec<_> = gone.iter().map(|gone| (gone.topic.as_str(), gone.events)).collect();
    assert_eq!(gone, [("orders", 10)]);
    client.batch_execute("COMMIT").await.expect("it is over");
    assert_eq!(trimmed(&store, EVERYTHING).await, 20);
}
