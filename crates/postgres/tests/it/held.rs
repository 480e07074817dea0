//! Transactions that stay open: they hold back what they have written, and nobody else.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::{Code, Error, Expected, Position, Read, Recorded, Store, Version};
use ensue_postgres::{Config, Hold, PostgresStore};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use crate::given::{Database, append, log};

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_session_that_is_idle_in_its_transaction_holds_back_only_its_own_events() {
    let database = Database::new().await;
    let store = database.open().await;
    let (idle, other) = (database.session().await, database.session().await);
    let add = |key: &str| {
        format!("SELECT ensue.append('Test', '{key}', 'Happened', '{{}}', NULL, '{{\"id\": \"{key}\"}}')")
    };
    idle.batch_execute(&format!("BEGIN; {}", add("idle"))).await.expect("valid SQL");
    let states = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    let open: i64 = other.query_one(states, &[]).await.expect("valid SQL").get(0);
    assert_eq!(open, 1, "the session is idle in its transaction");

    other.batch_execute(&add("other")).await.expect("valid SQL");
    assert_eq!(store.advanced(Position::ZERO).await.expect("the head advances"), Position(1));
    store.commit(append("mine", Expected::NoStream, &["mine"])).await.expect("nobody holds this stream");
    assert_eq!(log(&store).await, ["other 1 other", "mine 1 mine"]);

    idle.batch_execute("COMMIT").await.expect("it was open");
    assert_eq!(store.advanced(Position(2)).await.expect("the head advances"), Position(3));
    assert_eq!(log(&store).await, ["other 1 other", "mine 1 mine", "idle 1 idle"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_holds_events_back_is_named_until_the_transaction_ends() {
    let database = Database::new().await;
    let store = database.open().await;
    let (holder, bystander) = (database.session().await, database.session().await);
    let append = "SELECT ensue.append('Test', 'held', 'Happened', '{}')";
    holder.batch_execute("SET application_name = 'nightly-batch'; BEGIN").await.expect("valid SQL");
    bystander.batch_execute("BEGIN; CREATE TABLE of_its_own (id integer)").await.expect("valid SQL");
    assert_eq!(store.holds().await.expect("readable"), [], "a transaction that is only open holds nothing");
    holder.batch_execute(append).await.expect("valid SQL");
    let holds = store.holds().await.expect("readable");
    assert_eq!(holds.len(), 1, "{holds:?}");
    let hold = &holds[0];
    let named = (hold.application.as_str(), hold.state.as_str(), hold.waiting, hold.statement.as_str());
    assert_eq!(named, ("nightly-batch", "idle in transaction", 0, append));
    bystander.batch_execute(&format!("ROLLBACK; {}", hold.end)).await.expect("the statement that ends it");
    holder.batch_execute("SELECT 1").await.expect_err("its session was ended");
    assert_eq!(store.holds().await.expect("readable"), []);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn who_may_not_see_other_users_sessions_is_told_that_there_is_one() {
    let database = Database::new().await;
    let store = database.open().await;
    let (holder, role) = (database.session().await, format!("onlooker_{}", std::process::id()));
    let made = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA ensue TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA ensue TO {role}"
    );
    holder.batch_execute(&made).await.expect("valid SQL");
    holder
        .batch_execute("BEGIN; SELECT ensue.append('Test', 'held', 'Happened', '{}')")
        .await
        .expect("valid SQL");
    let url = format!("{} options='-c role={role}'", database.url());
    let theirs = Config::new(&url).expect("a valid address").to_read().open().await.expect("it may read");
    let [hold] = &theirs.holds().await.expect("readable")[..] else { panic!("one holds something back") };
    assert_eq!(
        (hold.since, hold.end.as_str()),
        (None, store.holds().await.expect("readable")[0].end.as_str())
    );
    drop(theirs);
    holder
        .batch_execute(&format!("ROLLBACK; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .expect("it is ours");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_lock_that_was_taken_by_hand_is_named() {
    let database = Database::new().await;
    let store = database.open().await;
    store.commit(append("a", Expected::NoStream, &["a1"])).await.expect("nobody holds this stream");
    let session = database.session().await;
    let by_hand = [
        "LOCK TABLE ensue.staged IN SHARE MODE",
        "LOCK TABLE ensue.log IN ACCESS EXCLUSIVE MODE",
        "SELECT FROM ensue.heads WHERE key = 'a' FOR UPDATE",
    ];
    for lock in by_hand {
        session.batch_execute(&format!("BEGIN; {lock}")).await.expect("valid SQL");
        let holds = store.holds().await.expect("readable");
        let named: Vec<(&str, &str)> =
            holds.iter().map(|hold| (hold.state.as_str(), hold.statement.as_str())).collect();
        assert_eq!(named, [("idle in transaction", format!("BEGIN; {lock}").as_str())]);
        session.batch_execute("ROLLBACK").await.expect("it was open");
    }
    session.batch_execute("BEGIN; SELECT FROM ensue.heads; SELECT FROM ensue.log").await.expect("valid SQL");
    assert_eq!(store.holds().await.expect("readable"), [], "who has only read holds nothing");
}

/// A prepared transaction outlives everything but this: left open, it keeps the whole server from cleaning up.
struct LeftOver<'a> {
    database: &'a Database,
    id: &'a str,
}

impl Drop for LeftOver<'_> {
    fn drop(&mut self) {
        let program = std::env::var("ENSUE_TEST_PSQL").expect("ENSUE_TEST_PSQL names the program");
        let end = format!("ROLLBACK PREPARED '{}'", self.id);
        // That it is over already is an error of no interest.
        let _ended = Command::new(program).args(["-qc", &end, &self.database.as_url()]).output().is_ok();
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_old_transaction_that_holds_nothing_of_ours_is_named_because_it_keeps_the_server_from_cleaning_up()
{
    let database = Database::new().await;
    let store = database.open().await;
    let (session, idle, other) =
        (database.session().await, database.session().await, database.session().await);
    let id = format!("lingers in {}", database.as_url());
    let prepare = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{id}'");
    session.batch_execute(&prepare).await.expect("the server allows it");
    let _left = LeftOver { database: &database, id: &id };
    idle.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("valid SQL");
    let ours = async |store: &PostgresStore| {
        let lingering = store.lingering().await.expect("readable");
        let of_this_test =
            |hold: &Hold| hold.statement.contains("pg_current_xact_id") || hold.end.contains(&id);
        let mut states: Vec<String> =
            lingering.into_iter().filter(of_this_test).map(|hold| hold.state).collect();
        states.sort();
        states
    };
    assert_eq!(ours(&store).await, Vec::<String>::new(), "they are young");
    let burn = "DO $$ BEGIN FOR i IN 1..1100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    other.batch_execute(burn).await.expect("valid SQL");
    let named = ours(&store).await;
    assert!(
        ["idle in transaction", "prepared"].iter().all(|state| named.iter().any(|named| named == state)),
        "{named:?}"
    );
    assert_eq!(store.holds().await.expect("readable"), [], "nobody waits for them");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_prepared_transaction_is_named_with_what_ends_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let (session, other) = (database.session().await, database.session().await);
    let id = format!("left over in {}", database.as_url());
    let append = "SELECT ensue.append('Test', 'held', 'Happened', '{}', 0)";
    session
        .batch_execute(&format!("BEGIN; {append}; PREPARE TRANSACTION '{id}'"))
        .await
        .expect("the server allows it");
    drop(session);
    let _left = LeftOver { database: &database, id: &id };

    let waiting = async { other.batch_execute(append).await };
    let mut waiting = std::pin::pin!(waiting);
    let hold = loop {
        assert!((&mut waiting).now_or_never().is_none(), "who writes to the same stream waits");
        let holds = store.holds().await.expect("readable");
        let hold = holds.into_iter().find(|hold| hold.process.is_none()).expect("it is named");
        if hold.waiting > 0 {
            break hold;
        }
    };
    assert_eq!((hold.state.as_str(), hold.end.as_str()), ("prepared", &*format!("ROLLBACK PREPARED '{id}'")));
    database.session().await.batch_execute(&hold.end).await.expect("the statement that ends it");
    waiting.await.expect("nobody holds the stream any more");
    assert_eq!(store.holds().await.expect("readable"), []);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_stream_that_is_held_delays_its_own_commits_and_no_others() {
    let database = Database::new().await;
    // Nothing gives up by itself while the test runs, so whoever waits for the wrong thing waits for ever.
    let hour = Duration::from_hours(1);
    let store =
        database.config().patience(hour).statement_timeout(hour).open().await.expect("an empty database");
    store.commit(append("old", Expected::NoStream, &["o1"])).await.expect("an empty store");
    let holder = database.session().await;
    let hold = "BEGIN; SELECT ensue.append('Test', 'old', 'Happened', '{}', 1, '{\"id\": \"o2\"}'), \
        ensue.append('Test', 'new', 'Happened', '{}', 0, '{\"id\": \"n1\"}')";
    holder.batch_execute(hold).await.expect("valid SQL");

    let mut old = store.commit(append("old", Expected::Exact(Version(2)), &["o3"]));
    let mut new = store.commit(append("new", Expected::Any, &["n2"]));
    assert!((&mut old).now_or_never().is_none() && (&mut new).now_or_never().is_none());
    let free = async {
        for number in 0..20 {
            let key = format!("free{number}");
            store.commit(append(&key, Expected::NoStream, &[&key])).await.expect("nobody holds this stream");
        }
    };
    let limit = Duration::from_mins(1);
    tokio::time::timeout(limit, free).await.expect("commits to free streams hang behind those to held ones");
    assert!(
        (&mut old).now_or_never().is_none() && (&mut new).now_or_never().is_none(),
        "both streams are held"
    );
    holder.batch_execute("COMMIT").await.expect("it was open");
    old.await.expect("version 2 is there now");
    new.await.expect("any version will do");
    let log = log(&store).await;
    let of = |key: &str| log.iter().filter(|line| line.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of("old"), ["old 1 o1", "old 2 o2", "old 3 o3"]);
    assert_eq!(of("new"), ["new 1 n1", "new 2 n2"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn patience_with_a_held_stream_ends_with_a_clear_error() {
    let database = Database::new().await;
    let store =
        database.config().patience(Duration::from_millis(200)).open().await.expect("an empty database");
    let holder = database.session().await;
    let hold = "BEGIN; SELECT ensue.append('Test', 'a', 'Happened', '{}', 0, '{\"id\": \"a1\"}')";
    holder.batch_execute(hold).await.expect("valid SQL");
    let refused = store.commit(append("a", Expected::Any, &["never"])).await.expect_err("the stream is held");
    assert_eq!(Error::from(refused).code(), Code::DATABASE_TIMEOUT);
    holder.batch_execute("COMMIT").await.expect("it was open");
    store.commit(append("a", Expected::Exact(Version(1)), &["a2"])).await.expect("nobody holds it any more");
    assert_eq!(log(&store).await, ["a 1 a1", "a 2 a2"]);
}

/// Sessions that append to their own stream and to one that all share, each transaction open while others come and go, and
/// every third rolled back.
async fn write_slowly(database: Arc<Database>, writer: usize) {
    let client = database.session().await;
    for number in 0..40 {
        let id = format!("{writer}-{number}");
        let first = format!(
            "BEGIN; SELECT ensue.append('Test', 'own{writer}', 'Happened', '{{}}', NULL, '{{\"id\": \"own{id}\"}}')"
        );
        client.batch_execute(&first).await.expect("valid SQL");
        // The server's own work is the pause: a scan of its catalogue, longer for some than for others.
        let pause = format!(
            "SELECT count(*) FROM pg_class, generate_series(1, {})",
            (writer * 7 + number * 13) % 40 + 1
        );
        client.batch_execute(&pause).await.expect("valid SQL");
        let end = if number % 3 == 2 { "ROLLBACK" } else { "COMMIT" };
        let second = format!(
            "SELECT ensue.append('Test', 'shared', 'Happened', '{{}}', NULL, '{{\"id\": \"shared{id}\"}}'); {end}"
        );
        client.batch_execute(&second).await.expect("valid SQL");
    }
}

async fn tail(store: Arc<dyn Store>, is_over: Arc<AtomicBool>) -> Vec<Recorded> {
    let mut seen: Vec<Recorded> = Vec::new();
    loop {
        let was_over = is_over.load(Ordering::SeqCst);
        let last = seen.last().map(|event| event.position).unwrap_or_default();
        let new: Vec<Recorded> =
            store.read(Read::all().after(last)).try_collect().await.expect("the tail can be read");
        for event in new {
            let last = seen.last().map(|event| event.position).unwrap_or_default();
            assert_eq!(event.position, last.next());
            seen.push(event);
        }
        if was_over {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn tailing_readers_see_no_gap_no_skip_no_reorder_among_slow_commits_and_roll_backs() {
    const WRITERS: usize = 8;
    let database = Arc::new(Database::new().await);
    let stores: Vec<Arc<dyn Store>> = vec![Arc::new(database.open().await), Arc::new(database.open().await)];
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = stores
        .iter()
        .cycle()
        .take(4)
        .map(|store| tokio::spawn(tail(Arc::clone(store), Arc::clone(&is_over))))
        .collect();
    let own = Arc::clone(&stores[0]);
    let commits = tokio::spawn(async move {
        for number in 0..60 {
            let id = format!("c{number}");
            own.commit(append("shared", Expected::Any, &[&id])).await.expect("the stream is free soon");
        }
    });
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write_slowly(Arc::clone(&database), writer))).collect();
    for writer in writers {
        writer.await.expect("the writer has not failed");
    }
    commits.await.expect("the commits were taken");
    is_over.store(true, Ordering::SeqCst);

    let stored: Vec<Recorded> =
        stores[0].read(Read::all()).map(|event| event.expect("readable")).collect().await;
    assert_eq!(stored.len(), WRITERS * 27 * 2 + 60, "what was rolled back is not there, all else is");
    assert!(stored.is_sorted_by_key(|event| event.recorded_at));
    for key in ["own0", "own7", "shared"] {
        let versions: Vec<u64> = stored
            .iter()
            .filter(|event| event.stream.key.as_str() == key)
            .map(|event| event.version.0)
            .collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "{key}");
    }
    for reader in readers {
        assert_eq!(reader.await.expect("the reader has not failed"), stored);
    }
}

/// As a subscription does whose lanes are full: it begins to read, and is looked at again only when a commit is through.
#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn readers_that_are_set_aside_keep_no_connection_from_a_commit() {
    let database = Database::new().await;
    let store = database.config().connections_max(2).open().await.expect("an empty database becomes a store");
    store.commit(append("first", Expected::NoStream, &["f"])).await.expect("an empty store");
    let mut readers: Vec<_> = (0..8).map(|_| store.read(Read::all())).collect();
    for reader in &mut readers {
        assert!(reader.next().now_or_never().is_none(), "it waits for the database");
    }
    let commit = store.commit(append("second", Expected::NoStream, &["s"]));
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, commit).await.expect("nobody stands in its way").expect("the stream is new");
    for reader in readers {
        assert!(!reader.try_collect::<Vec<_>>().await.expect("readable").is_empty());
    }
}
