//! What any language does: append and read with SQL, inside a transaction of its own.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    Commit, CommitError, Expected, Read, RecordWrite, Revision, Space, Store, StoreExt, Timestamp, Version,
};
use tokio_postgres::Client;

use crate::given::{Database, append, log};

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.expect("valid SQL");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The SQLSTATE that a statement is refused with.
async fn refusal(client: &Client, sql: &str) -> String {
    let error = client.execute(sql, &[]).await.expect_err("it must be refused");
    error.code().expect("the server refuses it").code().to_owned()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_event_appended_with_sql_is_one_of_the_log() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let version = "SELECT ensue.append('Test', 'a', 'Placed', '{\"total\": 5}', 0, '{\"id\": \"a1\", \"tags\": [\"c:1, 2\"]}')::text";
    assert_eq!(texts(&client, version).await, ["1"]);
    assert_eq!(texts(&client, version).await, ["1"], "a repetition is known by its id");
    store.commit(append("a", Expected::Exact(Version(1)), &["a2"])).await.expect("the version fits");
    assert_eq!(
        texts(
            &client,
            "SELECT ensue.append('Test', 'a', 'Paid', 'null', metadata => '{\"id\": \"a3\"}')::text"
        )
        .await,
        ["3"]
    );

    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2", "a 3 a3"]);
    let read = "SELECT concat_ws(' ', position, topic, key, version, event_type, data, metadata->>'tags') FROM ensue.read(0, 2)";
    let expected = ["1 Test a 1 Placed {\"total\": 5} c:1%2C 2", "2 Test a 2 Happened {}"];
    assert_eq!(texts(&client, read).await, expected);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_event_without_attributes_gets_those_of_its_append_with_its_position() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let began = Timestamp::now();
    client
        .batch_execute(
            "BEGIN; SELECT ensue.append('Test', 'a', 'Placed', '{}'); SELECT ensue.append('Test', 'b', 'Placed', '{}'); COMMIT",
        )
        .await
        .expect("valid SQL");
    let appended = Timestamp::now();
    let events = store.collect(Read::all()).await.expect("they can be read");
    let [one, other] = events.as_slice() else { panic!("two events: {events:?}") };
    assert_ne!(one.envelope.id, other.envelope.id);
    // The clock of the server is that of this machine, to the microsecond.
    let micros = |time: Timestamp| time.as_microsecond();
    assert!(
        micros(began) <= micros(one.envelope.time) && one.envelope.time < other.envelope.time,
        "{events:?}"
    );
    assert!(other.envelope.time <= appended && other.recorded_at >= other.envelope.time, "{events:?}");
    assert_eq!(one.envelope.source.as_str(), "sql");
    let again = store.collect(Read::all()).await.expect("they can be read");
    assert_eq!(again, events, "they are given once");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_sql_may_not_append_is_refused_with_its_state() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    for (arguments, state) in [
        ("'Test', 'a', 'Placed', '{}', 3", "EN001"),
        ("'Te st', 'a', 'Placed', '{}'", "EN004"),
        ("'saga.x', 'a', 'Placed', '{}'", "EN004"),
        ("'Test', 'a/b', 'Placed', '{}'", "EN004"),
        ("'Test', E'a\\u0085', 'Placed', '{}'", "EN004"),
        ("'Test', repeat('a', 513), 'Placed', '{}'", "EN004"),
        ("'Test', '', 'Placed', '{}'", "EN004"),
        ("'Test', NULL, 'Placed', '{}'", "EN004"),
        ("NULL, 'a', 'Placed', '{}'", "EN004"),
        ("repeat('a', 250), 'a', 'Placed', '{}'", "EN004"),
        ("'Test', 'a', repeat('a', 256), '{}'", "EN004"),
        ("'Test', 'a', NULL, '{}'", "EN004"),
        ("'Test', 'a', 'Placed', to_jsonb(repeat('a', 1 << 20))", "EN004"),
        ("'Test', 'a', 'Placed', to_jsonb(repeat('a', (1 << 20) - 2))", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, jsonb_build_object('x', repeat('a', 1 << 20))", "EN004"),
        ("'Test', 'a', 'Pla ced', '{}'", "EN004"),
        ("'Test', 'a', 'Placed', NULL", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '[]'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"id\": \"\"}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"Id\": \"x\"}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"time\": \"yesterday\"}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"tags\": \"none\"}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"tags\": [\"a:b\\u0001:c\"]}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, jsonb_build_object('tags', repeat('a', 250) || ':b')", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '{\"deep\": {}}'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, '5'", "EN004"),
        ("'Test', 'a', 'Placed', '{}', NULL, NULL", "EN004"),
    ] {
        assert_eq!(
            refusal(&client, &format!("SELECT ensue.append({arguments})")).await,
            state,
            "{arguments}"
        );
    }
    assert!(log(&store).await.is_empty());
    client.batch_execute("INSERT INTO ensue.heads VALUES ('saga.x', 'a', 1)").await.expect("it is the owner");
    assert_eq!(refusal(&client, "SELECT ensue.append('saga.x', 'a', 'Placed', '{}')").await, "EN004");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn names_of_the_greatest_length_are_taken_by_sql_and_read_by_the_port() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let append = "SELECT ensue.append(repeat('t', 249), repeat('k', 512), repeat('e', 255), to_jsonb(repeat('a', (1 << 20) - 2000)), \
        metadata => jsonb_build_object('tags', jsonb_build_array(repeat('n', 249) || ':' || repeat('v', 512))))::text";
    assert_eq!(texts(&client, append).await, ["1"]);
    let events = store.collect(Read::all()).await.expect("readable");
    assert_eq!(events.len(), 1);
    let (stream, envelope) = (&events[0].stream, &events[0].envelope);
    assert_eq!((stream.topic.as_str().len(), stream.key.as_str().len()), (249, 512));
    assert_eq!((envelope.event_type.as_str().len(), envelope.data.len()), (255, (1 << 20) - 1998));
    assert!(envelope.size() <= 1 << 20, "every other store takes it as well: {}", envelope.size());
    assert_eq!(envelope.tags[0].name().len() + envelope.tags[0].value().len(), 761);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_in_sql_takes_all_of_it_or_nothing() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let commit = r#"SELECT ensue.commit('{
        "appends": [
            {"topic": "Test", "key": "b", "expected_version": 0, "events": [
                {"event_type": "Placed", "data": {"total": 5}, "metadata": {"id": "b1"}},
                {"event_type": "Drawn", "data_base64": "AAE=", "metadata": {"id": "b2", "datacontenttype": "image/x"}}]},
            {"topic": "Test", "key": "a", "events": [{"event_type": "Placed", "data": null, "metadata": {"id": "a1"}}]}],
        "records": [{"space": "seen", "key": "msg-1", "value": "x", "expected_revision": 0}]
    }')->>'appended'"#;
    let versions = r#"[{"last_version": 2, "first_version": 1}, {"last_version": 1, "first_version": 1}]"#;
    assert_eq!(texts(&client, commit).await, [versions]);
    assert_eq!(log(&store).await, ["b 1 b1", "b 2 b2", "a 1 a1"]);
    assert_eq!(refusal(&client, commit).await, "EN001", "the append to any version is not a repetition");
    let again = r#"SELECT ensue.commit('{"appends": [{"topic": "Test", "key": "c", "events": [{"event_type": "P", "data": 1}]}],
        "records": [{"space": "seen", "key": "msg-1", "delete": true, "expected_revision": 0}]}')"#;
    assert_eq!(refusal(&client, again).await, "EN002");
    assert_eq!(log(&store).await.len(), 3, "the event was not taken without the record");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_a_commit_in_sql_may_not_hold_is_refused() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    let event = |members: &str| {
        format!(r#"{{"appends": [{{"topic": "Test", "key": "a", "events": [{{{members}}}]}}]}}"#)
    };
    let append = |members: &str| {
        format!(r#"{{"appends": [{{"events": [{{"event_type": "P", "data": 1}}], {members}}}]}}"#)
    };
    let record = |members: &str| format!(r#"{{"records": [{{{members}}}]}}"#);
    for commit in [
        "[]".to_owned(),
        r#"{"append": []}"#.to_owned(),
        r#"{"appends": {}}"#.to_owned(),
        r#"{"condition": {}}"#.to_owned(),
        r#"{"appends": [{"topic": "Test", "key": "a", "events": []}]}"#.to_owned(),
        append(r#""topic": "saga.x", "key": "a""#),
        append(r#""topic": "Test", "key": "a/b""#),
        append(r#""topic": "Test", "key": "a", "expected": 1"#),
        append(r#""topic": "Test", "key": "a", "expected_version": -1"#),
        append(r#""topic": "Test", "key": "a", "expected_version": "none""#),
        event(r#""data": 1"#),
        event(r#""event_type": "P""#),
        event(r#""event_type": "P", "data": 1, "data_base64": "AAE=""#),
        event(r#""event_type": "P", "data": 1, "metadata": {"Id": "x"}"#),
        event(&format!(r#""event_type": "P", "data": "{}""#, "x".repeat(1 << 20))),
        record(r#""space": "a b", "key": "k", "value": "v""#),
        record(r#""space": "s", "key": "", "value": "v""#),
        record(r#""space": "s", "value": "v""#),
        record(r#""space": "s", "key": "k""#),
        record(r#""space": "s", "key": "k", "value": "v", "delete": true"#),
        record(r#""space": "s", "key": "k", "value": "v", "expected_revision": "x""#),
        r#"{"records": [{"space": "s", "key": "k", "value": "v"}, {"space": "s", "key_base64": "aw==", "value": "v"}]}"#
            .to_owned(),
    ] {
        let error = client.query("SELECT ensue.commit($1::text::jsonb)", &[&commit]).await.expect_err(&commit);
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("EN004"), "{commit:.200}");
    }
    assert!(log(&store).await.is_empty());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_append_is_taken_with_the_rest_of_its_transaction_or_not_at_all() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    client.batch_execute("CREATE TABLE orders (id text)").await.expect("valid SQL");
    let both = |key: &str, end: &str| {
        format!(
            "BEGIN; INSERT INTO orders VALUES ('{key}'); \
            SELECT ensue.append('Test', '{key}', 'Placed', '{{}}', 0, '{{\"id\": \"{key}\"}}'); {end}"
        )
    };
    for (key, end) in [("a", "COMMIT"), ("b", "ROLLBACK"), ("c", "COMMIT")] {
        client.batch_execute(&both(key, end)).await.expect("valid SQL");
    }
    assert_eq!(texts(&client, "SELECT id FROM orders ORDER BY id").await, ["a", "c"]);
    assert_eq!(log(&store).await, ["a 1 a", "c 1 c"], "a roll-back leaves neither event nor gap");
    client.batch_execute(&both("b", "COMMIT")).await.expect("the stream does not exist");
    assert_eq!(log(&store).await, ["a 1 a", "c 1 c", "b 1 b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_record_that_was_not_there_is_put_once_although_sql_puts_it_at_the_same_moment() {
    let database = Database::new().await;
    let (store, client, witness) =
        (Arc::new(database.open().await), database.session().await, database.session().await);
    let space = || Space::new("shop.seen").expect("a space");
    let put = r#"BEGIN; SELECT ensue.commit('{"records": [{"space": "shop.seen", "key": "message-7", "value": "by SQL", "expected_revision": 0}]}')"#;
    client.batch_execute(put).await.expect("it is the first");
    let committing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let write = RecordWrite::put(space(), "message-7", "by Rust").expect(Revision::ZERO);
            store.commit(Commit { records: vec![write], ..append("a", Expected::Any, &["a1"]) }).await
        }
    });
    // It has found no record, and waits for whoever puts one.
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)";
    while !witness.query_one(waits, &[]).await.expect("valid SQL").get::<_, bool>(0) {
        assert!(!committing.is_finished(), "it cannot know");
    }
    client.batch_execute("COMMIT").await.expect("it is taken");
    let refused = committing.await.expect("it does not panic");
    assert!(matches!(refused, Err(CommitError::RecordConflict { .. })), "{refused:?}");
    let record =
        store.record(space(), Bytes::from("message-7")).await.expect("readable").expect("it is there");
    assert_eq!(record.value, "by SQL");
    assert_eq!(log(&store).await, Vec::<String>::new(), "and nothing else of the commit");
}
