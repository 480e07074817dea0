//! `ensue store copy` into a store that is not empty: an interrupted copy goes on, and everything else stays as it is.

use std::path::PathBuf;

use ensue::core::{Commit, Record, RecordWrite, Space};
use ensue::{Store, StoreExt};
use ensue_sqlite::rusqlite::Connection;
use tokio::runtime::Runtime;

use crate::{Answer, Ensue, ORDER};

/// Lets no record in, but that which says that a copy is under way.
const FAULT: &str = "CREATE TRIGGER fault BEFORE INSERT ON ensue_records WHEN NEW.space <> 'ensue.copy'
    BEGIN SELECT RAISE(ABORT, 'the fault of the test'); END";

/// A shop in a folder, and a database file beside it.
struct Move {
    ensue: Ensue,
    file: PathBuf,
}

impl Move {
    /// With a demonstration in the folder, which has events as well as records.
    fn of_a_shop() -> Self {
        let this = Self::of_nothing();
        this.ensue.run(&["demo", "--orders", "5", "-q"]).ok();
        this
    }

    fn of_an_empty_store() -> Self {
        let this = Self::of_nothing();
        let folder = this.source();
        this.ensue.run(&["store", "migrate", "--store", &folder]).ok();
        this
    }

    fn of_nothing() -> Self {
        let ensue = Ensue::new();
        let file = ensue.around.path().join("copy.db");
        Self { ensue, file }
    }

    fn source(&self) -> String {
        format!("file:{}", self.ensue.data().display())
    }

    fn target(&self) -> String {
        format!("sqlite:{}", self.file.display())
    }

    fn copy(&self) -> Answer {
        self.ensue.run(&["store", "copy", &self.source(), &self.target(), "-o", "json"])
    }

    fn tail(&self, store: &str) -> String {
        self.ensue.run(&["tail", "-e", "-o", "jsonl", "--store", store]).ok().out
    }

    /// Puts a record into the target, as an application would.
    fn put(&self, space: &str, key: &str, value: &str) {
        self.in_target(async |store| {
            let record =
                RecordWrite::put(Space::new(space).expect("a space"), key.to_owned(), value.to_owned());
            let commit = Commit { records: vec![record], ..Commit::default() };
            store.commit(commit).await.expect("it takes records");
        });
    }

    fn record(&self, space: &str, key: &str) -> Option<Record> {
        self.in_target(async |store| {
            let space = Space::new(space).expect("a space");
            store.record(space, key.to_owned()).await.expect("it can be read")
        })
    }

    fn value(&self, space: &str, key: &str) -> Option<String> {
        let record = self.record(space, key)?;
        Some(String::from_utf8(record.value.to_vec()).expect("text"))
    }

    fn in_target<T>(&self, what: impl AsyncFnOnce(&dyn Store) -> T) -> T {
        Runtime::new().expect("threads can be started").block_on(async {
            let store = ensue_sqlite::open(&self.file).await.expect("a database file");
            what(&store).await
        })
    }

    /// Runs statements of SQL on the target.
    fn sql(&self, statements: &str) {
        let connection = Connection::open(&self.file).expect("the file of the target");
        connection.execute_batch(statements).expect(statements);
    }

    /// Begins a copy that is interrupted when it has all events and none of the records.
    fn interrupted(&self) {
        self.in_target(async |_made| ());
        self.sql(FAULT);
        self.copy().refused(1, "E0426").says("the fault of the test");
        self.sql("DROP TRIGGER fault");
        assert_eq!(self.tail(&self.target()), self.tail(&self.source()), "the events are there");
        let marker = self.record("ensue.copy", "from").expect("it is marked as a copy that is not finished");
        assert!(!marker.value.is_empty());
    }
}

#[test]
fn a_target_with_a_record_alone_is_refused_and_keeps_it() {
    for source in [Move::of_an_empty_store as fn() -> Move, Move::of_a_shop] {
        let this = source();
        this.put("payments", "k1", "paid");
        this.copy().refused(6, "E0416").says("payments/k1");
        assert_eq!(this.value("payments", "k1").as_deref(), Some("paid"));
        assert_eq!(this.tail(&this.target()), "", "no event was taken over");
        assert_eq!(this.record("ensue.copy", "from"), None);
    }
}

#[test]
fn a_finished_copy_on_which_an_application_has_run_is_refused_and_stays_as_it_is() {
    let this = Move::of_a_shop();
    this.copy().ok();
    assert_eq!(this.record("ensue.copy", "from"), None, "a finished copy is a store like any other");
    let again = this.copy().ok().object();
    assert_eq!(
        (&again["events"], &again["records"]),
        (&0.into(), &0.into()),
        "it is a copy, and nothing is written"
    );
    this.put("demo", "plan", "another");
    this.put("checkpoint", "new", "7");
    this.copy().refused(6, "E0416");
    assert_eq!(this.value("demo", "plan").as_deref(), Some("another"), "not reset to what it was");
    assert_eq!(this.value("checkpoint", "new").as_deref(), Some("7"), "not removed");
}

#[test]
fn a_finished_copy_is_not_brought_up_to_what_its_source_has_become() {
    let this = Move::of_a_shop();
    this.copy().ok();
    let before = this.tail(&this.target());
    this.ensue.emit(&[], ORDER).ok();
    this.copy().refused(6, "E0416").says("stands at position");
    assert_eq!(this.tail(&this.target()), before);
}

#[test]
fn an_interrupted_copy_goes_on_where_it_stopped() {
    let this = Move::of_a_shop();
    this.interrupted();
    this.ensue.emit(&[], ORDER).ok();
    let copied = this.copy().ok().object();
    assert_eq!(copied["events"], 1, "the others were there: {copied}");
    assert!(copied["compared"]["records"].as_u64() > Some(10), "{copied}");
    assert_eq!(copied["records"], copied["compared"]["records"]);
    assert_eq!(this.tail(&this.target()), this.tail(&this.source()));
    assert_eq!(this.record("ensue.copy", "from"), None, "the mark is gone with the last act");
}

#[test]
fn an_interrupted_copy_goes_on_from_its_own_source_alone_and_is_no_source() {
    let this = Move::of_a_shop();
    this.interrupted();
    let other = format!("sqlite:{}", this.ensue.around.path().join("other.db").display());
    this.ensue.run(&["store", "migrate", "--store", &other]).ok();
    let copy = |from: &str, to: &str| this.ensue.run(&["store", "copy", from, to]);
    let refused = copy(&other, &this.target()).refused(6, "E0416");
    refused.says("unfinished copy of file:");
    copy(&this.target(), &other).refused(6, "E0416").says("unfinished copy of file:");
    assert_eq!(this.tail(&other), "");
    copy(&this.source(), &this.target()).ok();
    copy(&this.target(), &other).ok();
}

#[test]
fn a_store_is_not_its_own_copy_under_another_name() {
    let this = Move::of_a_shop();
    this.copy().ok();
    let around = this.ensue.around.path().display();
    let roundabout = format!("sqlite:{around}/data/../copy.db");
    this.ensue.run(&["store", "copy", &this.target(), &roundabout]).refused(2, "E0701").says("into itself");
}
