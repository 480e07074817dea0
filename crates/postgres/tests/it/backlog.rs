//! Positions for what others have appended: in steps that stay, by whoever may, and none is forgotten.

use ensue_core::{Expected, Position, Read, Store, StoreExt, Version};
use tokio_postgres::Client;

use crate::given::{Database, append, log};

/// What is given positions at once.
const STEP: u64 = 10_000;

fn by_sql(key: &str) -> String {
    format!("SELECT ensue.append('Test', '{key}', 'Happened', '{{}}', NULL, '{{\"id\": \"{key}\"}}')")
}

async fn number(client: &Client) -> i64 {
    client.query_one("SELECT ensue.number()", &[]).await.expect("valid SQL").get(0)
}

async fn staged(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM ensue.staged", &[]).await.expect("valid SQL").get(0)
}

/// Appends so many events of many streams, and then a commit of several that must stay together across the end of a step.
async fn pile_up(client: &Client, events: u64) {
    let pile = format!(
        "SELECT ensue.append('Test', 'k' || g % 100, 'Happened', '{{}}') FROM generate_series(1, {events}) AS g"
    );
    client.batch_execute(&pile).await.expect("valid SQL");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn large_events_get_their_positions_in_steps_of_their_bytes() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    // 40 MB.
    let large = "SELECT ensue.append('Test', 'a', 'Happened', to_jsonb(repeat('x', 1000000))) FROM generate_series(1, 40)";
    client.batch_execute(large).await.expect("valid SQL");
    let step = async || {
        let row =
            client.query_one("SELECT head, is_behind FROM ensue.look_up()", &[]).await.expect("readable");
        (row.get::<_, i64>(0), row.get::<_, bool>(1))
    };
    assert_eq!(step().await, (16, true));
    assert_eq!(step().await, (32, true));
    assert_eq!(step().await, (40, false));
    assert_eq!(store.collect(Read::all()).await.expect("nothing is missing").len(), 40);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_backlog_is_worked_off_in_steps_that_stay_and_in_order() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    pile_up(&client, 2 * STEP + 500).await;
    let step =
        client.query_one("SELECT head, is_behind FROM ensue.catch_up()", &[]).await.expect("valid SQL");
    let (head, is_behind): (i64, bool) = (step.get(0), step.get(1));
    assert!(is_behind && head.unsigned_abs() == STEP, "one step was done: {head}");
    assert_eq!(staged(&client).await.unsigned_abs(), STEP + 500, "and it stays");

    let events = store.collect(Read::all()).await.expect("readable");
    assert_eq!(events.len() as u64, 2 * STEP + 500);
    let mut versions = std::collections::BTreeMap::new();
    for event in &events {
        let version: &mut u64 = versions.entry(event.stream.key.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, Version(*version), "{:?}", event.stream);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_comes_behind_the_backlog_of_its_stream() {
    let database = Database::new().await;
    let store = database.open().await;
    let client = database.session().await;
    pile_up(&client, STEP + 1_000).await;
    client.batch_execute(&by_sql("mine")).await.expect("valid SQL");
    assert_eq!(staged(&client).await.unsigned_abs(), STEP + 1_001, "all of it waits");
    store.commit(append("mine", Expected::Exact(Version(1)), &["m2"])).await.expect("the version fits");
    let stream = "Test/mine".parse().expect("a valid name");
    let mine = store.collect(Read::stream(stream)).await.expect("readable");
    let places: Vec<_> = mine.iter().map(|event| (event.version, event.position)).collect();
    assert_eq!(places, [(Version(1), Position(STEP + 1_001)), (Version(2), Position(STEP + 1_002))]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_commit_that_is_larger_than_a_step_gets_its_positions_as_a_whole() {
    let database = Database::new().await;
    let _store = database.open().await;
    let client = database.session().await;
    // Rows that carry the whole of their append with them would take gigabytes of temporary files here.
    let large = format!(
        "SET temp_file_limit = '64MB'; SELECT ensue.commit(jsonb_build_object('appends', jsonb_build_array(jsonb_build_object( \
         'topic', 'Test', 'key', 'large', 'events', (SELECT jsonb_agg(jsonb_build_object('event_type', 'Happened', 'data', g)) \
         FROM generate_series(1, {}) AS g))))); RESET temp_file_limit; {}",
        STEP + 2_000,
        by_sql("behind"),
    );
    client.batch_execute(&large).await.expect("it is taken");
    assert_eq!(number(&client).await.unsigned_abs(), STEP + 2_000);
    assert_eq!(number(&client).await.unsigned_abs(), STEP + 2_001);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn sql_that_asks_for_more_than_a_step_gets_it() {
    let database = Database::new().await;
    let _store = database.open().await;
    let client = database.session().await;
    pile_up(&client, STEP + 700).await;
    let read = "SELECT count(*) FROM ensue.read(0, 100000)";
    let count: i64 = client.query_one(read, &[]).await.expect("valid SQL").get(0);
    assert_eq!(count.unsigned_abs(), STEP + 700);
}

/// What a forgotten ticket would look like: the mark must not be moved by a transaction that began before it.
#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_transaction_that_numbers_what_it_wrote_forgets_nobody_who_began_before_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let (one, two, other) = (database.session().await, database.session().await, database.session().await);
    let run = async |client: &Client, sql: &str| client.batch_execute(sql).await.expect("valid SQL");
    run(&other, &by_sql("first")).await;
    number(&other).await;
    run(&one, &format!("BEGIN; {}", by_sql("one"))).await;
    run(&two, &format!("BEGIN; {}", by_sql("two"))).await;
    run(&other, &by_sql("second")).await;
    number(&other).await;
    run(&other, &by_sql("third")).await;
    run(&one, "SELECT ensue.number(); COMMIT").await;
    for key in ["fourth", "fifth"] {
        run(&other, &by_sql(key)).await;
        number(&other).await;
    }
    run(&two, "COMMIT").await;
    for _ in 0..3 {
        number(&other).await;
    }
    assert_eq!(staged(&other).await, 0, "nothing waits any more");
    let mut keys: Vec<String> = log(&store)
        .await
        .iter()
        .map(|event| event.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    keys.sort();
    assert_eq!(keys, ["fifth", "first", "fourth", "one", "second", "third", "two"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn whoever_gives_positions_in_a_transaction_may_be_idle_there_for_ten_seconds() {
    let database = Database::new().await;
    let _store = database.open().await;
    let client = database.session().await;
    for setting in ["0", "1h"] {
        client.batch_execute(&by_sql("event")).await.expect("valid SQL");
        let begin = format!("SET idle_in_transaction_session_timeout = '{setting}'; BEGIN");
        client.batch_execute(&begin).await.expect("valid SQL");
        number(&client).await;
        let shown =
            client.query_one("SHOW idle_in_transaction_session_timeout", &[]).await.expect("valid SQL");
        assert_eq!(shown.get::<_, &str>(0), "10s", "it was {setting}");
        client.batch_execute("COMMIT").await.expect("it was open");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_reader_in_a_transaction_of_its_own_holds_nobody_up_while_there_is_something_to_read() {
    let database = Database::new().await;
    let store = database.open().await;
    let (reader, other) = (database.session().await, database.session().await);
    other.batch_execute(&by_sql("read")).await.expect("valid SQL");
    number(&other).await;
    other.batch_execute(&by_sql("staged")).await.expect("valid SQL");
    let count = "SELECT count(*) FROM ensue.read(0, 10)";
    for begin in ["BEGIN", "BEGIN; CREATE TABLE of_its_own (id integer)"] {
        reader.batch_execute(begin).await.expect("valid SQL");
        let seen: i64 = reader.query_one(count, &[]).await.expect("valid SQL").get(0);
        assert_eq!(seen, 1, "what has a position is read");
        other
            .batch_execute("BEGIN; SELECT * FROM ensue.log FOR UPDATE NOWAIT; ROLLBACK")
            .await
            .expect("nobody holds the log");
        reader.batch_execute("ROLLBACK").await.expect("it was open");
    }
    // In a transaction that writes not even where there is nothing else to read.
    reader.batch_execute("BEGIN; CREATE TABLE of_its_own (id integer)").await.expect("valid SQL");
    let read = "SELECT count(*) FROM ensue.read(1, 10)";
    let seen: i64 = reader.query_one(read, &[]).await.expect("valid SQL").get(0);
    assert_eq!(seen, 0);
    other
        .batch_execute("BEGIN; SELECT * FROM ensue.log FOR UPDATE NOWAIT; ROLLBACK")
        .await
        .expect("nobody holds the log");
    reader.batch_execute("ROLLBACK; BEGIN").await.expect("it was open");
    let seen: i64 = reader.query_one(read, &[]).await.expect("valid SQL").get(0);
    assert_eq!(seen, 1, "where nobody else gives positions, a reader that would see nothing does");
    reader.batch_execute("COMMIT").await.expect("it was open");
    assert_eq!(log(&store).await, ["read 1 read", "staged 1 staged"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_waits_for_a_position_is_counted_and_not_moved_by_counting() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = database.session().await;
    session.batch_execute("SELECT ensue.append('Test', 'a', 'Happened', '{}')").await.expect("valid SQL");
    let counted = |stat: &ensue_postgres::Stat| (stat.head, stat.streams, stat.waiting);
    for _ in 0..2 {
        let stat = store.stat().await.expect("readable");
        assert_eq!(counted(&stat), (Position::ZERO, 1, 1), "{stat:?}");
    }
    assert_eq!(store.advanced(Position::ZERO).await.expect("the head advances"), Position(1));
    let stat = store.stat().await.expect("readable");
    assert_eq!(counted(&stat), (Position(1), 1, 0), "{stat:?}");
    assert!(stat.bytes > 0 && stat.migrations > 0 && !stat.server.is_empty(), "{stat:?}");
}
