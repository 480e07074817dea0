//! Rows that were written by hand into the tables of Ensue, and what SQL is given that is no event: refused, found out or harmless.
//! No reader stands still without a word.

use ensue_core::{Code, Error, Expected, Position, Read, Recorded, Store, StoreExt, StreamName, Version};
use ensue_postgres::PostgresStore;
use futures_util::StreamExt;
use tokio_postgres::Client;

use crate::given::{Database, append, log};

/// A store of nine events in one stream.
async fn nine() -> (Database, PostgresStore, Client) {
    let database = Database::new().await;
    let store = database.open().await;
    for number in 0..9 {
        let commit = append("a", Expected::Exact(Version(number)), &[&format!("a{}", number + 1)]);
        store.commit(commit).await.expect("an empty store");
    }
    let client = database.session().await;
    (database, store, client)
}

/// Changes tables as somebody does who gets around what keeps hands off.
async fn by_hand(client: &Client, sql: &str) {
    let around = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
    client.batch_execute(&around).await.expect(sql);
}

/// The events before the error, and the error.
async fn broken(store: &PostgresStore, read: Read) -> (Vec<Recorded>, Error) {
    let mut events = store.read(read);
    let mut before = Vec::new();
    loop {
        match events.next().await.expect("it breaks before it ends") {
            Ok(event) => before.push(event),
            Err(error) => return (before, error),
        }
    }
}

async fn refused(store: &PostgresStore, key: &str) -> Error {
    store.commit(append(key, Expected::Any, &["never"])).await.expect_err("it cannot be taken").into()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn events_never_change_and_never_go_and_what_waits_is_an_event() {
    let (_database, store, client) = nine().await;
    for change in ["DELETE FROM ensue.events", "UPDATE ensue.events SET key = 'b'", "TRUNCATE ensue.events"] {
        let refusal = client.batch_execute(change).await.expect_err("events are for ever");
        assert_eq!(refusal.code().map(|state| state.code().to_owned()).as_deref(), Some("EN004"), "{change}");
    }
    let stray =
        "INSERT INTO ensue.staged VALUES (nextval('ensue.ticket'), 0, 1, 'Test', 'b', 'Happened', '{}', '')";
    let refusal = client.batch_execute(stray).await.expect_err("an event has an id");
    assert_eq!(refusal.code().map(|state| state.code().to_owned()).as_deref(), Some("23514"));
    assert_eq!(log(&store).await.len(), 9);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn rows_that_are_missing_are_found_out_behind_those_that_are_whole() {
    let (_database, store, client) = nine().await;
    by_hand(&client, "DELETE FROM ensue.events WHERE position IN (4, 5)").await;
    let stream = || Read::stream(StreamName::new("Test", "a").expect("a valid key"));
    for (read, whole) in
        [(Read::all(), 3), (Read::all().backward(), 4), (stream(), 3), (stream().backward(), 4)]
    {
        let (before, error) = broken(&store, read.clone()).await;
        assert!(
            error.code() == Code::CORRUPT && error.message().contains("between 3 and 6"),
            "{read:?}: {error}"
        );
        assert_eq!(before.len(), whole, "{read:?}");
    }
    let rest = store.collect(Read::all().after(Position(5))).await.expect("the rest is whole");
    assert_eq!(rest.len(), 4);
    by_hand(&client, "DELETE FROM ensue.events WHERE position = 9").await;
    let (before, error) = broken(&store, Read::all().after(Position(5))).await;
    assert!(error.message().contains("between 8 and 10"), "{error}");
    assert_eq!(before.len(), 3);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_hole_between_two_pages_of_a_stream_is_found_out() {
    let (_database, store, client) = nine().await;
    // The first page of a read has 64 events.
    client
        .batch_execute("SELECT ensue.append('Test', 'a', 'Happened', '{}') FROM generate_series(10, 200)")
        .await
        .expect("valid SQL");
    assert_eq!(log(&store).await.len(), 200);
    by_hand(&client, "DELETE FROM ensue.events WHERE version BETWEEN 65 AND 80").await;
    let stream = Read::stream(StreamName::new("Test", "a").expect("a valid key"));
    let (before, error) = broken(&store, stream).await;
    assert!(error.code() == Code::CORRUPT && error.message().contains("between 64 and 81"), "{error}");
    assert_eq!(before.len(), 64);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_row_that_holds_no_event_is_named_and_hides_no_other() {
    let (_database, store, client) = nine().await;
    for (column, value) in
        [("metadata", "'[]'"), ("event_type", "'no type'"), ("metadata", "'{\"id\": \"x\"}'")]
    {
        let change = format!("UPDATE ensue.events SET {column} = {value} WHERE position = 5");
        by_hand(&client, &change).await;
        let (before, error) = broken(&store, Read::all()).await;
        assert!(error.code() == Code::CORRUPT && error.message().contains("position 5"), "{change}: {error}");
        assert_eq!(before.len(), 4, "{change}");
        let rest = store.collect(Read::all().after(Position(5))).await.expect("the rest is whole");
        assert_eq!(rest.len(), 4, "{change}");
    }
    store.commit(append("b", Expected::NoStream, &["b1"])).await.expect("commits go on");
    let read = Read::stream(StreamName::new("Test", "b").expect("a valid key"));
    assert_eq!(store.collect(read).await.expect("it is whole").len(), 1);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn rows_that_were_added_or_counted_wrong_are_named_until_that_is_taken_back() {
    let (database, store, client) = nine().await;
    let copy = "INSERT INTO ensue.events SELECT 10, 77, recorded_at, topic, key, event_type, flow, metadata, data \
        FROM ensue.events WHERE position = 1";
    let staged = "INSERT INTO ensue.staged SELECT nextval('ensue.ticket'), 0, 1, topic, key, event_type, metadata, data \
        FROM ensue.events WHERE position = 1";
    // What was done, what takes it back, and by which words it is named to whoever commits next.
    for (change, back, named) in [
        (copy, "DELETE FROM ensue.events WHERE position = 10", "(10)"),
        (staged, "DELETE FROM ensue.staged", "(Test, a, 1)"),
        (
            "UPDATE ensue.heads SET version = 5 WHERE key = 'a'",
            "UPDATE ensue.heads SET version = 9 WHERE key = 'a'",
            "(Test, a, 6)",
        ),
    ] {
        by_hand(&client, change).await;
        let error = refused(&store, "a").await;
        assert!(error.code() == Code::CORRUPT && error.message().contains(named), "{change}: {error}");
        assert!(error.fix().contains("by hand"), "{}", error.fix());
        by_hand(&client, back).await;
        assert_eq!(log(&store).await.len(), 9, "{change}: nothing is left of it");
    }
    by_hand(&client, "UPDATE ensue.log SET head = 4").await;
    let error = refused(&store, "a").await;
    assert_eq!(error.code(), Code::LOST_TAIL, "it has seen more: {error}");
    let store = database.open().await;
    let error = refused(&store, "a").await;
    assert!(error.code() == Code::CORRUPT && error.message().contains("(5)"), "{error}");
    by_hand(&client, "UPDATE ensue.log SET head = 12").await;
    let (before, error) = broken(&store, Read::all()).await;
    assert!(error.code() == Code::CORRUPT && error.message().contains("between 9 and 13"), "{error}");
    assert_eq!(before.len(), 9);
    by_hand(&client, "UPDATE ensue.log SET head = 9").await;
    let store = database.open().await;
    store.commit(append("a", Expected::Exact(Version(9)), &["a10"])).await.expect("all was taken back");
    assert_eq!(log(&store).await.len(), 10);
}

/// What `ensue.read` gives, as the positions, or the words of the error with its state.
async fn positions(client: &Client, arguments: &str) -> Result<Vec<i64>, String> {
    let read = client.query(&format!("SELECT position FROM ensue.read({arguments})"), &[]).await;
    match read {
        Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
        Err(error) => {
            let refusal = error.as_db_error().expect("the server refuses it");
            Err(format!("{}: {}", refusal.code().code(), refusal.message()))
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn sql_reads_nothing_beyond_the_head_and_is_told_what_is_missing() {
    let (_database, store, client) = nine().await;
    let stray = "INSERT INTO ensue.events SELECT position + 6, version + 6, recorded_at, topic, key, event_type, flow, metadata, data \
        FROM ensue.events WHERE position IN (4, 5)";
    by_hand(&client, stray).await;
    by_hand(&client, "DELETE FROM ensue.events WHERE position IN (4, 5)").await;
    for begin in ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        for (arguments, given) in [
            ("0, 3", Ok(vec![1, 2, 3])),
            ("0, 4", Err("position 4 is missing")),
            ("4, NULL", Err("position 5 is missing")),
            ("5, 100", Ok(vec![6, 7, 8, 9])),
            ("7, 1", Ok(vec![8])),
            ("9, 100", Ok(Vec::new())),
            ("100, 100", Ok(Vec::new())),
            ("0, 0", Ok(Vec::new())),
        ] {
            client.batch_execute(begin).await.expect("valid SQL");
            let read = positions(&client, arguments).await;
            client.batch_execute("ROLLBACK").await.expect("valid SQL");
            match (given, &read) {
                (Ok(given), Ok(read)) => assert_eq!(*read, given, "{begin}, {arguments}"),
                (Err(named), Err(error)) => {
                    assert!(error.starts_with("XX001") && error.contains(named), "{begin}: {error}");
                }
                (given, _) => panic!("{begin}, {arguments}: {read:?}, not {given:?}"),
            }
        }
    }
    by_hand(&client, "UPDATE ensue.log SET head = 1000000000000").await;
    let error = positions(&client, "9, NULL").await.expect_err("there is none");
    assert!(error.contains("position 12 is missing"), "{error}");
    // As the README says to the owner.
    let taken_back = "BEGIN; ALTER TABLE ensue.events DISABLE TRIGGER events_never_change; \
        DELETE FROM ensue.events WHERE position > 9; DELETE FROM ensue.tags WHERE position > 9; \
        ALTER TABLE ensue.events ENABLE TRIGGER events_never_change; UPDATE ensue.log SET head = 9; COMMIT";
    client.batch_execute(taken_back).await.expect("the owner may");
    store.commit(append("b", Expected::NoStream, &["b1"])).await.expect("nothing is in the way");
    assert_eq!(positions(&client, "8, 5").await, Ok(vec![9, 10]));
    client.batch_execute("DELETE FROM ensue.events").await.expect_err("events are for ever again");
    for arguments in ["-1, 5", "0, -1", "NULL, 5"] {
        let error = positions(&client, arguments).await.expect_err(arguments);
        assert!(error.starts_with("EN004: the "), "{arguments}: {error}");
    }
}

/// Metadata that is odd: some of it is refused, the rest can be read.
const ODD: &[&str] = &[
    r#"{"time": "2024-13-45T99:99:99Z"}"#,
    r#"{"time": "9999-12-31T23:59:59Z"}"#,
    r#"{"time": "2024-01-15T10:30:00.123456789123Z"}"#,
    r#"{"time": "2024-02-30T10:30:00Z"}"#,
    r#"{"time": "2024-01-15T24:00:00Z"}"#,
    r#"{"time": "2024-01-15T23:59:60Z"}"#,
    r#"{"time": "0000-01-15T10:30:00Z"}"#,
    r#"{"time": "0001-01-01T00:00:00+15:59"}"#,
    r#"{"time": "2024-01-15T10:30:00+25:00"}"#,
    r#"{"time": "2024-01-15T10:30:00.5+05:30"}"#,
    r#"{"specversion": "0.3"}"#,
    r#"{"specversion": "1.0"}"#,
    r#"{"datacontenttype": "nonsense"}"#,
    r#"{"datacontenttype": "text/plain; charset=utf-8"}"#,
    r#"{"tags": "a:%zz"}"#,
    r#"{"tags": "a:%"}"#,
    r#"{"tags": "a:%FF"}"#,
    r#"{"tags": ""}"#,
    r#"{"tags": ["a:b,c", "a:50%"]}"#,
    r#"{"tags": [1, null]}"#,
    r#"{"tags": {"a": "b"}}"#,
    r#"{"schemaversion": 999999999}"#,
    r#"{"schemaversion": 1.0}"#,
    r#"{"id": 5}"#,
    r#"{"id": true}"#,
    r#"{"source": "a b"}"#,
    r#"{"source": "\u00e9\u2028"}"#,
    r#"{"traceparent": "nonsense"}"#,
    r#"{"traceparent": ""}"#,
    r#"{"tracestate": "x"}"#,
    r#"{"baggage": ""}"#,
    r#"{"dataschema": ""}"#,
    r#"{"dataschema": "a b"}"#,
    r#"{"extension": ""}"#,
    r#"{"extension": 1e400}"#,
    r#"{"extension": "a\nb"}"#,
    r#"{"traceparent": "a\u0085b"}"#,
    r#"{"tags": "a:%c3%a4"}"#,
    r#"{"tags": "a:50%25,b:1%2c2"}"#,
    r#"{"tags": [null]}"#,
    r#"{"tags": ["a:\u0007"]}"#,
    r#"{"correlationid": "x", "causationid": "y"}"#,
    r#"{"database64": "x"}"#,
    r#"{"recordedtime": "x"}"#,
];

/// Whatever SQL takes, a reader in Rust understands; what he would not is refused where it is given.
#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_sql_takes_can_be_read() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let long = format!(r#"{{"tags": ["a:{}"]}}"#, "x".repeat(513));
    let content = format!(r#"{{"datacontenttype": "{}"}}"#, "x".repeat(256));
    let longest = format!(r#"{{"tags": ["a:{}%,"]}}"#, "x".repeat(510));
    let odd: Vec<&str> = ODD.iter().copied().chain([&*long, &*longest, &*content]).collect();
    let (mut taken, mut unreadable) = (0, Vec::new());
    for metadata in &odd {
        let sql = "SELECT ensue.append('Test', 'odd', 'Happened', '{}', NULL, $1::text::jsonb)";
        let answer = client.query(sql, &[metadata]).await;
        taken += u64::from(answer.is_ok());
        let read = Read::all().after(Position(taken.saturating_sub(1)));
        let read = store.collect(read).await;
        if !read.as_ref().is_ok_and(|events| events.len() <= 1) {
            unreadable.push(format!("{metadata}: {read:?}"));
        }
    }
    assert_eq!(unreadable, Vec::<String>::new());
    let head = store.head().await.expect("it can be read");
    assert!(head.0 == taken && taken > 10 && taken < odd.len() as u64, "{taken} of {} were taken", odd.len());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_record_that_sql_takes_can_be_read() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    for expires_at in
        ["infinity", "-infinity", "now", "tomorrow", "9999-12-31T23:59:59Z", "2024-13-01T00:00:00Z"]
    {
        let record = format!(
            r#"{{"records": [{{"space": "s", "key": "k", "value": "v", "expires_at": "{expires_at}"}}]}}"#
        );
        let answer = client.query("SELECT ensue.commit($1::text::jsonb)", &[&record]).await;
        assert!(answer.is_err(), "{expires_at} was taken");
    }
    let record = r#"{"records": [{"space": "s", "key": "k", "value": "v", "expires_at": "2999-01-01T00:00:00+01:00"}]}"#;
    client.query("SELECT ensue.commit($1::text::jsonb)", &[&record]).await.expect("a time");
    let space = ensue_core::Space::new("s").expect("a valid space");
    let records = store.records(ensue_core::RecordScan::all(space)).await.expect("they can be read");
    assert_eq!(records.len(), 1);
}
