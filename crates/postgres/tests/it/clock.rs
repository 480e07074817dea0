//! A clock of the server that jumps. What SQL asks for the time is put in front of what the server has of its own.

use std::time::Duration;

use ensue_core::{
    Commit, Expected, Read, RecordScan, RecordWrite, Revision, Space, Store, StoreExt, Timestamp, Version,
};
use tokio_postgres::Client;

use crate::given::{Database, append, log};

async fn shift(client: &Client, by: &str) {
    client.batch_execute(&format!("UPDATE fake.shift SET by = '{by}'")).await.expect("valid SQL");
}

fn space() -> Space {
    Space::new("leases").expect("a valid space")
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_clock_that_jumps_changes_no_order_and_no_revision_twice() {
    let database = Database::new().await;
    let client = database.session().await;
    let fake = "CREATE SCHEMA fake; CREATE TABLE fake.shift (by interval NOT NULL); INSERT INTO fake.shift VALUES ('0'); \
        CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
        'SELECT pg_catalog.clock_timestamp() + by FROM fake.shift'; \
        CREATE FUNCTION fake.statement_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
        'SELECT pg_catalog.statement_timestamp() + by FROM fake.shift'; \
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = fake, pg_catalog, public', current_database()); END $$";
    client.batch_execute(fake).await.expect("valid SQL");
    let store = database.open().await;
    // Nobody else's clock is asked, so they have to be told to.
    let ask_it = "DO $$ DECLARE one regprocedure; BEGIN \
        FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'ensue'::regnamespace LOOP \
            EXECUTE format('ALTER FUNCTION %s RESET search_path', one); \
        END LOOP; END $$";
    client.batch_execute(ask_it).await.expect("it is ours");
    let client = database.session().await;
    let sql = |id: &str| {
        format!("SELECT ensue.append('Test', 's', 'Happened', '{{}}', NULL, '{{\"id\": \"{id}\"}}')")
    };
    let hour = Timestamp::try_from(std::time::SystemTime::now() + Duration::from_hours(1)).expect("a time");
    let lease = || RecordWrite::put(space(), "lane", "mine").expires_at(hour);
    let write = |write: RecordWrite| Commit { records: vec![write], ..Commit::default() };
    let first = store.commit(write(lease())).await.expect("an empty store").revision;

    for (number, by) in (0..).zip(["0", "1 year", "-2 years", "0"]) {
        shift(&client, by).await;
        let commit = append("a", Expected::Exact(Version(number)), &[&format!("a{number}")]);
        store.commit(commit).await.expect("the time does not matter");
        client.batch_execute(&sql(&format!("s{number}"))).await.expect("valid SQL");
        store.head().await.expect("it has its position");
    }
    let expected = ["a 1 a0", "s 1 s0", "a 2 a1", "s 2 s1", "a 3 a2", "s 3 s2", "a 4 a3", "s 4 s3"];
    assert_eq!(log(&store).await, expected);
    let events = store.collect(Read::all()).await.expect("readable");
    assert!(events.is_sorted_by_key(|event| event.recorded_at), "the time of record goes back: {events:#?}");
    let jumped = events.iter().filter(|event| event.recorded_at > hour).count();
    assert_eq!(jumped, 6, "the clock has jumped, and what came later is not recorded as earlier");

    // A lease that the jump lapsed may be taken by another; who had it is told, also when the clock is back.
    shift(&client, "2 hours").await;
    assert_eq!(store.records(RecordScan::all(space())).await.expect("readable"), []);
    let other = RecordWrite::put(space(), "lane", "theirs").expect(Revision::ZERO);
    let second = store.commit(write(other)).await.expect("it has lapsed").revision;
    shift(&client, "-2 hours").await;
    assert!(second > first);
    store.commit(write(lease().expect(first))).await.expect_err("it is another's now");
    let there = store.records(RecordScan::all(space())).await.expect("readable");
    assert!(matches!(there.as_slice(), [record] if record.value == "theirs"), "{there:?}");
}
