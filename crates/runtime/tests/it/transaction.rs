//! `Tx`: what a handler changes in tables of its own is there exactly if the delivery is settled.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensue_core::{
    BoxFuture, BoxStream, Code, Commit, CommitError, Committed, Error, EventId, Kind, Position, Read,
    RecordPage, RecordScan, Recorded, Store, StoreCapabilities, Transaction,
};
use ensue_macros::Command;
use ensue_runtime::{App, Running, Tx};
use ensue_test::{Harness, MemoryStore, Verdict};
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Tick, tick};

/// A database with one table beside the log.
#[derive(Clone)]
struct Database {
    log: Arc<MemoryStore>,
    table: Arc<Mutex<Vec<String>>>,
    capabilities: StoreCapabilities,
}

impl Database {
    fn of(harness: &Harness) -> Self {
        let capabilities = StoreCapabilities { can_transact: true, ..harness.store().capabilities().clone() };
        Self { log: Arc::clone(harness.store()), table: Arc::default(), capabilities }
    }

    fn rows(&self) -> Vec<String> {
        let mut rows = self.table.lock().expect("no panic").clone();
        rows.sort();
        rows
    }
}

/// Rows that an open transaction would add.
#[derive(Clone, Default)]
struct Session(Arc<Mutex<Vec<String>>>);

impl Session {
    fn insert(&self, row: String) {
        self.0.lock().expect("no panic").push(row);
    }
}

struct Open {
    database: Database,
    session: Session,
}

impl Transaction for Open {
    fn session(&self) -> Box<dyn Any + Send + Sync> {
        Box::new(self.session.clone())
    }

    fn commit(self: Box<Self>, commit: Commit) -> BoxFuture<'static, Result<Committed, CommitError>> {
        Box::pin(async move {
            let outcome = self.database.log.commit(commit).await;
            // A reply that was lost says nothing about what was stored, to the caller; to the database it does.
            if outcome.is_ok()
                || outcome.as_ref().is_err_and(|error| Error::from(error.clone()).kind() == Kind::Timeout)
            {
                self.database
                    .table
                    .lock()
                    .expect("no panic")
                    .append(&mut self.session.0.lock().expect("no panic"));
            }
            outcome
        })
    }
}

impl Store for Database {
    fn capabilities(&self) -> &StoreCapabilities {
        &self.capabilities
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.log.commit(commit)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        self.log.read(read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        self.log.scan(scan)
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.log.advanced(after)
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.log.dropped(after, until)
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, Error>> {
        let open = Open { database: self.clone(), session: Session::default() };
        Box::pin(async { Ok(Box::new(open) as Box<dyn Transaction>) })
    }
}

async fn write_down(Tx(session): Tx<Session>, tick: Tick) {
    session.insert(format!("{}{}", tick.key, tick.number));
}

static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Writes, and then fails the first time.
async fn write_and_fail(Tx(session): Tx<Session>, tick: Tick) -> Result<(), Broken> {
    session.insert(format!("{}{}", tick.key, tick.number));
    if FAILURES.fetch_add(1, Ordering::Relaxed) == 0 { Err(Broken("the first time")) } else { Ok(()) }
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = key)]
struct Count {
    key: String,
}

async fn count(Tx(session): Tx<Session>, command: Count) -> Result<(), ()> {
    session.insert(command.key);
    Ok(())
}

/// An application on the database, with the time of the harness.
async fn start(harness: &Harness, database: &Database, mount: impl FnOnce(App) -> App) -> Running {
    let app = App::new("test").host(harness.host().clone()).store(database.clone()).external::<Tick>();
    mount(app).start().await.expect("it starts")
}

async fn pass(harness: &Harness) {
    for _ in 0..100 {
        harness.clock().advance(Duration::from_secs(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

async fn publish(running: &Running) {
    for number in 0..5 {
        running.publish(tick("a", number)).await.expect("it is taken");
    }
}

const ALL: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];

#[tokio::test]
async fn rows_are_there_once_each_delivery_is_settled() {
    let harness = Harness::new(|app| app);
    let database = Database::of(&harness);
    let running = start(&harness, &database, |app| app.react("write-down", write_down)).await;
    publish(&running).await;
    pass(&harness).await;
    assert_eq!(database.rows(), ALL);
}

#[tokio::test]
async fn an_attempt_that_fails_leaves_no_row() {
    let harness = Harness::new(|app| app);
    let database = Database::of(&harness);
    let running = start(&harness, &database, |app| app.react("write-and-fail", write_and_fail)).await;
    publish(&running).await;
    pass(&harness).await;
    assert_eq!(database.rows(), ALL);
    assert_eq!(FAILURES.load(Ordering::Relaxed), 6, "one attempt has failed");
}

/// Every commit in turn is refused, or taken without an answer: each row is there once all the same.
#[tokio::test]
async fn a_commit_that_fails_or_whose_outcome_is_unknown_doubles_no_row() {
    for (kind, lose) in [("refused", false), ("unknown", true)] {
        for failing in 1..=5 {
            let harness = Harness::new(|app| app);
            let database = Database::of(&harness);
            let running = start(&harness, &database, |app| app.react("write-down", write_down)).await;
            let (settlements, hit) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
            let seen = Arc::clone(&hit);
            harness.store().set_hook(Arc::new(move |_: u64, commit: &Commit| {
                let settles = commit.records.iter().any(|write| {
                    write.space.as_str() == "checkpoint" && write.key.starts_with(b"write-down")
                });
                if !settles || settlements.fetch_add(1, Ordering::Relaxed) + 1 != failing {
                    return Verdict::Proceed;
                }
                seen.fetch_add(1, Ordering::Relaxed);
                let away = |code| Error::new(code, "the connection is gone");
                if lose {
                    Verdict::LoseReply(away(Code::OUTCOME_UNKNOWN))
                } else {
                    Verdict::Refuse(away(Code::BUSY))
                }
            }));
            publish(&running).await;
            pass(&harness).await;
            assert_eq!(hit.load(Ordering::Relaxed), 1, "{kind} {failing}: it happened");
            assert_eq!(database.rows(), ALL, "{kind} {failing}");
        }
    }
}

#[tokio::test]
async fn a_command_that_is_repeated_writes_its_row_once() {
    let harness = Harness::new(|app| app);
    let database = Database::of(&harness);
    let running = start(&harness, &database, |app| app.handle(count)).await;
    for _ in 0..2 {
        let id = EventId::new("cmd-1").expect("valid");
        running.dispatch(Count { key: "ORD-1".into() }).id(id).await.expect("it is counted");
    }
    running.dispatch(Count { key: "ORD-2".into() }).await.expect("without an id, too");
    assert_eq!(database.rows(), ["ORD-1", "ORD-2"]);
}

#[tokio::test]
async fn a_store_without_transactions_is_refused_at_the_start() {
    let harness = Harness::new(|app| app);
    let app = App::new("test").host(harness.host().clone()).store(Arc::clone(harness.store()));
    let error = app.external::<Tick>().react("write-down", write_down).check().expect_err("it cannot work");
    assert_eq!(error.code(), Code::UNSUPPORTED);
    assert!(error.to_string().contains("write-down takes `Tx`"), "{error}");
}
