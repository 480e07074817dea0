//! Topics that do not keep their events for ever: what is dropped, what stays, and that readers can tell the one from what is missing.

use std::sync::Arc;

use ensue_core::{
    Aggregate, Append, Code, Commit, Expected, Position, Read, Store, StoreExt, StreamName, Timestamp,
    Version,
};
use ensue_macros::{Command, Event};
use ensue_runtime::Aggregates;
use serde::{Deserialize, Serialize};

use self::history::{
    DAY, EVERYTHING, History, assert_left, envelope, imported, of_two_days_ago, ticks, trimmed,
};
use crate::given::Database;

mod history;
mod meanwhile;
mod models;
mod rights;

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn partitions_past_their_time_are_dropped_and_everything_else_stays() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = History::default();
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more(2_000, 48)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 0, "the last event of the log stays");
    imported(&store, history.more(1_000, 30)).await;
    assert_eq!(trimmed(&store, Position(1_999)).await, 0, "somebody needs position 2000");
    assert_left(&store, &client, &history.events).await;
    assert_eq!(trimmed(&store, Position(2_000)).await, 1_334);
    assert_left(&store, &client, &history.without_ticks(2_000)).await;
    imported(&store, history.more(1_000, 1)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 666);
    assert_eq!(trimmed(&store, EVERYTHING).await, 0, "the others are younger than a day");
    assert_left(&store, &client, &history.without_ticks(3_000)).await;

    let retention = store.retention().await.expect("readable");
    let [of_ticks] = retention.as_slice() else { panic!("one topic was named: {retention:?}") };
    assert_eq!((of_ticks.keep, of_ticks.partitions), (DAY, 1), "{of_ticks:?}");
    let oldest = history.events.get(3_000).map(|event| event.recorded_at);
    assert!(of_ticks.oldest == oldest && of_ticks.bytes > 0, "{of_ticks:?}");

    // What goes on has the versions and positions that come next.
    let stream: StreamName = "ticks/a".parse().expect("a stream");
    let expected = Expected::Exact(Version(history.versions[&stream]));
    let next = Append { stream: stream.clone(), expected, events: vec![envelope("next", "Ticked")] };
    let committed = database.open().await.commit(Commit { appends: vec![next], ..Commit::default() }).await;
    assert_eq!(committed.expect("it is next").position(), Position(4_001));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_row_that_is_missing_is_told_from_one_that_was_dropped() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = of_two_days_ago(&store, 30).await;
    imported(&store, history.more(30, 1)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 20);
    // An order amid ticks that are gone, and one amid ticks that are there.
    for (position, between) in [(12, "between 9 and 15"), (45, "between 44 and 46")] {
        let by_hand = |sql: String| {
            let client = &client;
            async move {
                let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
                client.batch_execute(&sql).await.expect("valid SQL");
            }
        };
        by_hand(format!("CREATE TABLE away AS SELECT * FROM ensue.events WHERE position = {position}")).await;
        by_hand(format!("DELETE FROM ensue.events WHERE position = {position}")).await;
        for read in [Read::all(), Read::all().backward()] {
            let error = store.collect(read).await.expect_err("a row is missing");
            assert!(error.code() == Code::CORRUPT && error.message().contains(between), "{error}");
        }
        let error =
            client.query("SELECT * FROM ensue.read(0, 100)", &[]).await.expect_err("a row is missing");
        let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
        assert!(message.contains(&format!("position {position} is missing")), "{message}");
        by_hand("INSERT INTO ensue.events SELECT * FROM away; DROP TABLE away".to_owned()).await;
    }
    assert_left(&store, &client, &history.without_ticks(30)).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_partition_is_opened_in_one_step_and_another_one_dropped_in_the_next() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = of_two_days_ago(&store, 30).await;
    imported(&store, history.more(30, 36)).await;
    let step = async || {
        let row =
            client.query_one("SELECT topic, events FROM ensue.trim(10000)", &[]).await.expect("it is ours");
        (row.get::<_, Option<String>>(0), row.get::<_, Option<i64>>(1))
    };
    let of_ticks = Some("ticks".to_owned());
    assert_eq!(step().await, (of_ticks.clone(), Some(0)), "writers wait for this one");
    assert_eq!(step().await, (of_ticks, Some(20)), "readers wait for this one");
    assert_eq!(step().await, (None, None));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_topic_whose_events_somebody_needs_has_no_more_than_seventeen_partitions() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = History::default();
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    for _ in 0..20 {
        imported(&store, history.more(3, 48)).await;
        assert_eq!(trimmed(&store, Position::ZERO).await, 0, "all of it is needed");
    }
    assert_eq!(store.retention().await.expect("readable").first().map(|kept| kept.partitions), Some(17));
    assert_left(&store, &client, &history.events).await;
    imported(&store, history.more(3, 1)).await;
    // Sixteen go. The last one has grown, and holds events that are not past their time.
    assert_eq!(trimmed(&store, EVERYTHING).await, 32);
    assert_left(&store, &client, &history.without_ticks(48)).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn events_of_before_go_in_their_order_and_a_stream_never_has_a_hole() {
    let database = Database::new().await;
    let (store, client) = (database.open().await, database.session().await);
    let mut history = History::default();
    imported(&store, history.more(12_000, 72)).await;
    imported(&store, history.more(12_000, 48)).await;
    imported(&store, history.more(3_000, 20)).await;
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more(900, 19)).await;
    // For ever again, so that later events stand among those that are kept; and not for ever again.
    store.retain(&ticks(), None).await.expect("it is ours");
    imported(&store, history.more(900, 18)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 0, "every topic keeps its events");
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more(900, 17)).await;
    let mut dropped = 0;
    for keep in [DAY, DAY, DAY.mul_f64(18.5 / 24.0), DAY.mul_f64(17.5 / 24.0), DAY.mul_f64(0.5)] {
        store.retain(&ticks(), Some(keep)).await.expect("it is ours");
        loop {
            let step =
                client.query_one("SELECT topic, events, until FROM ensue.trim(9e15::bigint)", &[]).await;
            let step = step.expect("it is ours");
            let Some("ticks") = step.get::<_, Option<&str>>(0) else { break };
            // Another partition was opened.
            let Some(until) = step.get::<_, Option<i64>>(2) else { continue };
            dropped += step.get::<_, i64>(1);
            let left = history.without_ticks(until.try_into().expect("a position"));
            assert_eq!(store.collect(Read::all()).await.expect("nothing is missing"), left);
            assert_eq!(i64::try_from(history.events.len() - left.len()).expect("small"), dropped);
        }
    }
    let gone = u64::try_from(dropped).expect("a count");
    assert_eq!(gone, (12_000 + 12_000 + 3_000 + 900 + 900) / 3 * 2, "but for those of the last hours");
    assert_left(&store, &client, &history.without_ticks(28_800)).await;
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "ticks", key = site, crate = ensue_core)]
struct Ticked {
    site: String,
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(reply = (), failure = String, key = site, crate = ensue_core)]
struct Reset {
    site: String,
}

/// An aggregate whose events somebody has let go.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct Meter {
    ticks: u64,
}

impl Aggregate for Meter {
    type Event = Ticked;
    type Command = Reset;
    type Error = String;
    const TOPIC: &'static str = "ticks";

    fn evolve(&mut self, _ticked: &Ticked) {
        self.ticks += 1;
    }

    fn decide(&self, _: Reset) -> Result<Vec<Ticked>, String> {
        Ok(Vec::new())
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_aggregate_is_not_made_of_half_of_its_events() {
    let database = Database::new().await;
    let store = Arc::new(database.open().await);
    let mut history = History::default();
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(&store, history.more_of_sites(30, 48)).await;
    assert_eq!(trimmed(&store, EVERYTHING).await, 0);
    imported(&store, history.more_of_sites(30, 1)).await;
    let meters = Aggregates::<Meter>::new(Arc::clone(&store) as Arc<dyn Store>);
    assert_eq!(meters.load("a").await.expect("all are there").state.ticks, 20);
    assert_eq!(trimmed(&store, EVERYTHING).await, 20);
    let refusals = [
        meters.load("a").await.map(|_| ()),
        meters.at_version("a", Version(15)).await.map(|_| ()),
        meters.at_time("a", Timestamp::now()).await.map(|_| ()),
    ];
    for refused in refusals {
        let error = refused.expect_err("its first events are gone");
        assert_eq!(error.code(), Code::EVENTS_DROPPED, "{error}");
        assert!(error.message().contains("version 11"), "{error}");
    }
}
