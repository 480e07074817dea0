//! Inline read models: changed in the commit of the command, whatever crashes, races or runs beside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ensue_core::{Aggregate, Code, Read, RecordScan, Space, StoreExt};
use ensue_macros::{Command, Event};
use ensue_runtime::app::DispatchError;
use ensue_runtime::context::Meta;
use ensue_runtime::projection::{Generation, Load};
use ensue_runtime::{App, Cache, Projection, ProjectionExt, Running};
use ensue_test::{Harness, crash_everywhere};
use futures_util::future::{join, join_all};
use serde::{Deserialize, Serialize};

mod several;

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Till", key = till)]
pub(crate) struct Sold {
    pub(crate) till: String,
    pub(crate) item: String,
    pub(crate) cents: u64,
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = till, failure = String)]
pub(crate) struct Sell {
    pub(crate) till: String,
    pub(crate) items: Vec<String>,
    pub(crate) cents: u64,
}

/// The tills for which decisions were made, by whatever test.
static DECISIONS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many decisions were made for tills whose names begin so.
pub(crate) fn decisions(prefix: &str) -> usize {
    let decisions = DECISIONS.lock().expect("no test panics in it");
    decisions.iter().filter(|till| till.starts_with(prefix)).count()
}

#[derive(Default, Clone, Serialize, Deserialize)]
pub(crate) struct Till;

impl Aggregate for Till {
    type Event = Sold;
    type Command = Sell;
    type Error = String;
    const TOPIC: &'static str = "Till";

    fn decide(&self, sell: Sell) -> Result<Vec<Sold>, String> {
        DECISIONS.lock().expect("no test panics in it").push(sell.till.clone());
        let sold = |item| Sold { till: sell.till.clone(), item, cents: sell.cents };
        Ok(sell.items.into_iter().map(sold).collect())
    }

    fn evolve(&mut self, _: &Sold) {}
}

/// What was sold of each item, at whatever till; an item that costs nothing takes it off the list.
pub(crate) struct Items;

#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) sold: u64,
    pub(crate) cents: u64,
    last_till: String,
}

impl Projection for Items {
    const NAME: &'static str = "items";
    type Event = Sold;
    type Document = Item;

    fn key(&self, sold: &Sold) -> Option<String> {
        Some(sold.item.clone())
    }

    fn apply(&self, document: &mut Option<Item>, sold: &Sold, meta: &Meta) {
        assert!(sold.cents != 13, "thirteen is not projected");
        if sold.cents == 0 {
            *document = None;
            return;
        }
        let item = document.get_or_insert_default();
        item.sold += 1;
        item.cents += sold.cents;
        item.last_till = format!("{} {}", meta.stream.key, meta.version);
    }

    fn index(&self, item: &Item) -> Vec<(&'static str, String)> {
        vec![("sold", item.sold.to_string())]
    }

    fn invalidates(&self, _: &Item) -> Vec<String> {
        vec!["items".to_owned()]
    }
}

/// The next version: only the money.
pub(crate) struct Money;

impl Projection for Money {
    const NAME: &'static str = Items::NAME;
    const VERSION: u32 = 2;
    type Event = Sold;
    type Document = u64;

    fn key(&self, sold: &Sold) -> Option<String> {
        Some(sold.item.clone())
    }

    fn apply(&self, document: &mut Option<u64>, sold: &Sold, _: &Meta) {
        *document.get_or_insert_default() += sold.cents;
    }
}

/// Keeps where its event stands in the log.
struct Places;

impl Projection for Places {
    const NAME: &'static str = "places";
    type Event = Sold;
    type Document = u64;

    fn key(&self, sold: &Sold) -> Option<String> {
        Some(sold.item.clone())
    }

    fn apply(&self, document: &mut Option<u64>, _: &Sold, meta: &Meta) {
        *document = Some(meta.position.0);
    }
}

pub(crate) fn sell(till: &str, items: &[&str], cents: u64) -> Sell {
    Sell { till: till.into(), items: items.iter().map(|item| (*item).to_owned()).collect(), cents }
}

fn inline(app: App) -> App {
    app.cache(Cache::<u64>::new(10)).aggregate::<Till>().project(Items.inline())
}

async fn item(running: &Running, key: &str) -> Option<(u64, u64)> {
    let view = running.view::<Items>().expect("a valid name");
    view.get(key).await.expect("it can be read").map(|item| (item.sold, item.cents))
}

/// That nothing can be found wrong with it, neither by counting nor by a replay.
pub(crate) async fn assert_right(running: &Running) {
    let projections = running.projections();
    let found = projections.verify("items").await.expect("it can be read");
    assert!(found.is_none(), "{found:?}");
    let audit = projections.audit("items").await.expect("it can be read");
    assert!(audit.is_clean(), "{:?}", audit.findings());
}

/// Waits until the live generation is inline; with processes that come again after a crash.
async fn until_inline(harness: &mut Harness) {
    let space = Space::new("view").expect("valid");
    loop {
        harness.running().await;
        let record = async |key| harness.store().record(space.clone(), key).await.expect("it can be read");
        let (live, inline) = (record("items").await, record("items\0inline").await);
        if live.map(|live| live.value) == inline.map(|inline| inline.value) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_has_the_receipt_reads_the_change_without_waiting() {
    let mut harness = Harness::new(inline);
    let running = harness.running().await;
    let cache: Cache<u64> = running.state().expect("it is mounted");
    for round in 1..=20u64 {
        cache.get_or_load("items", async { Ok(1) }).await.expect("it loads");
        running.dispatch(sell("one", &["tea", "cake", "tea"], 5)).await.expect("it is taken");
        assert_eq!(item(running, "tea").await, Some((2 * round, 10 * round)), "in round {round}");
        assert!(!cache.contains("items"), "what is cached is out of date");
        let found = running.view::<Items>().expect("valid").find("sold", &round.to_string(), 9).await;
        let found: Vec<String> = found.expect("it can be read").into_iter().map(|(key, _)| key).collect();
        assert!(found.contains(&"cake".to_owned()), "{found:?} in round {round}");
        assert_right(running).await;
    }
    running.dispatch(sell("one", &["tea"], 0)).await.expect("it is taken");
    assert_eq!(item(running, "tea").await, None);
    harness.settle().await;
    assert_right(harness.running().await).await;
    assert_eq!(item(harness.running().await, "cake").await, Some((20, 100)), "the lanes add nothing");
}

#[tokio::test]
async fn commands_that_change_one_document_at_the_same_moment_are_decided_anew() {
    let mut harness = Harness::new(inline).reorder_across_keys(7);
    let running = harness.running().await;
    let tills: Vec<String> = (0..50).map(|till| format!("rival-{till}")).collect();
    let sales = tills.iter().map(|till| async { running.dispatch(sell(till, &["tea"], 2)).await });
    for sale in join_all(sales).await {
        sale.expect("it is taken");
    }
    assert!(decisions("rival-") > 50, "some have met");
    assert_eq!(item(running, "tea").await, Some((50, 100)));
    assert_right(running).await;
}

#[tokio::test]
async fn a_crash_at_any_commit_leaves_events_and_documents_together() {
    let crashes = crash_everywhere(
        || Harness::new(inline).deliver_twice(),
        async |harness: &mut Harness| {
            for (till, cents) in [("one", 3), ("two", 4), ("one", 5)] {
                harness.dispatch(sell(till, &["tea", "cake"], cents)).await.expect("it is taken");
                let logged = harness.store().collect(Read::all()).await.expect("it can be read");
                let teas = logged.iter().filter_map(|event| event.decode::<Sold>().ok());
                let cents: u64 = teas.filter(|sold| sold.item == "tea").map(|sold| sold.cents).sum();
                let shown = harness.view::<Items>().get("tea").await.expect("it can be read");
                assert_eq!(shown.map(|tea| tea.cents), Some(cents));
            }
            harness.settle().await;
            assert_eq!(item(harness.running().await, "cake").await, Some((3, 12)));
            assert_right(harness.running().await).await;
        },
    )
    .await;
    assert!(crashes >= 8, "{crashes}");
}

#[tokio::test]
async fn a_command_that_comes_through_the_log_changes_it_in_its_commit_too() {
    let mut harness = Harness::new(inline);
    let running = harness.running().await;
    let now = ensue_core::Timestamp::UNIX_EPOCH;
    for till in ["one", "two", "three"] {
        running.dispatch(sell(till, &["tea"], 2)).at(now).await.expect("it is set");
    }
    harness.settle().await;
    let running = harness.running().await;
    assert_eq!(item(running, "tea").await, Some((3, 6)), "each has seen the one before");
    let logged = harness.store().collect(Read::all()).await.expect("it can be read");
    let sold: Vec<_> = logged.iter().filter(|event| event.envelope.event_type.as_str() == "Sold").collect();
    let is_stamped = |event: &&ensue_core::Recorded| {
        event
            .envelope
            .extensions
            .iter()
            .any(|(name, value)| name == "inline" && value.starts_with("items 1-0"))
    };
    assert_eq!((sold.len(), sold.into_iter().filter(is_stamped).count()), (3, 3));
    assert_right(harness.running().await).await;
}

#[tokio::test]
async fn a_command_whose_event_it_cannot_take_fails_and_stores_nothing() {
    let mut harness = Harness::new(inline);
    let running = harness.running().await;
    running.dispatch(sell("one", &["tea"], 2)).await.expect("it is taken");
    let head = running.store().head().await.expect("it can be read");
    let refused = running.dispatch(sell("one", &["cake"], 13)).await.expect_err("it panics");
    assert!(
        matches!(&refused, DispatchError::Failed(error) if error.code() == Code::HANDLER_PANICKED),
        "{refused}"
    );
    assert_eq!(running.store().head().await.expect("it can be read"), head);
    let mut harness = Harness::new(|app: App| app.aggregate::<Till>().project(Places.inline()));
    let refused =
        harness.running().await.dispatch(sell("one", &["tea"], 2)).await.expect_err("it keeps the position");
    assert!(
        matches!(&refused, DispatchError::Failed(error) if error.code() == Code::NOT_KNOWN_YET),
        "{refused}"
    );
}

#[tokio::test]
async fn events_that_others_could_append_cannot_feed_it() {
    async fn echo(sold: Sold) -> Sold {
        sold
    }
    let store = || ensue_test::MemoryStore::new(Harness::new(|app: App| app).host().clone());
    for mount in [|app: App| app.external::<Sold>(), |app: App| app.react("echo", echo)] {
        let app = inline(mount(App::new("shop").store(store())));
        let error = app.check().expect_err("somebody else could append it");
        assert_eq!(error.code(), Code::NOT_INLINE, "{error}");
        app.start().await.err().expect("nor does it start");
    }
    let mut harness = Harness::new(inline);
    let running = harness.running().await;
    let sold = Sold { till: "one".into(), item: "tea".into(), cents: 1 };
    let id = ensue_core::EventId::new("evt-1").expect("valid");
    let refused = running.publish(sold.clone()).await.expect_err("it is for aggregates");
    assert_eq!(refused.code(), Code::FED_INLINE);
    assert_eq!(running.publish_as(id, sold).await.expect_err("as well").code(), Code::FED_INLINE);
}

#[tokio::test]
async fn a_read_model_with_a_history_is_fed_by_its_lanes_until_it_has_caught_up() {
    let is_inline_now = Arc::new(AtomicU32::new(0));
    let given = Arc::clone(&is_inline_now);
    let mut harness = Harness::new(move |app: App| {
        let app = app.aggregate::<Till>();
        match given.load(Ordering::Relaxed) {
            0 => app,
            1 => app.project(Items.lanes(3)),
            _ => app.project(Items.lanes(3).inline()),
        }
    });
    for till in ["one", "two", "three"] {
        harness.dispatch(sell(till, &["tea"], 2)).await.expect("it is taken");
    }
    // Once with everything to catch up with, once with nothing.
    is_inline_now.store(2, Ordering::Relaxed);
    harness.restart().await;
    harness.running().await.dispatch(sell("one", &["tea"], 2)).await.expect("it is taken");
    harness.settle().await;
    until_inline(&mut harness).await;
    assert_eq!(item(harness.running().await, "tea").await, Some((4, 8)));
    for (mount, expected) in [(1, 5), (2, 6)] {
        is_inline_now.store(mount, Ordering::Relaxed);
        harness.restart().await;
        harness.running().await.dispatch(sell("two", &["tea"], 2)).await.expect("it is taken");
        if mount == 2 {
            assert_eq!(item(harness.running().await, "tea").await, Some((expected, expected * 2)));
        }
        harness.settle().await;
        assert_eq!(item(harness.running().await, "tea").await, Some((expected, expected * 2)));
        assert_right(harness.running().await).await;
    }
}

#[tokio::test]
async fn a_rebuild_under_way_costs_no_command_its_change() {
    let mut harness = Harness::new(inline);
    let running = harness.running().await;
    running.dispatch(sell("zero", &["tea"], 1)).await.expect("it is taken");
    let writer = async {
        for round in 2..60 {
            running.dispatch(sell(&format!("till-{}", round % 7), &["tea"], 1)).await.expect("it is taken");
            assert_eq!(item(running, "tea").await, Some((round, round)));
        }
    };
    let rebuilds = async {
        for _ in 0..3 {
            let rebuilt = running.projections().rebuild("items", Load::Full).await.expect("it is built");
            let difference = rebuilt.difference.expect("the same version");
            assert!(difference.is_none(), "{difference:?}");
        }
    };
    join(writer, rebuilds).await;
    assert_right(running).await;
    let listed = running.projections().list().await.expect("it can be read");
    let status = listed.first().expect("one is mounted");
    assert_eq!((status.live, status.inline), (Generation { version: 1, number: 3 }, true));
}

#[tokio::test]
async fn a_raised_version_is_built_and_then_inline_whatever_crashes() {
    let version = Arc::new(AtomicU32::new(1));
    let crashes = crash_everywhere(
        || {
            version.store(1, Ordering::Relaxed);
            let version = Arc::clone(&version);
            Harness::new(move |app: App| {
                let app = app.aggregate::<Till>();
                match version.load(Ordering::Relaxed) {
                    1 => app.project(Items.inline()),
                    _ => app.project(Money.inline()),
                }
            })
        },
        async |harness: &mut Harness| {
            for (version_now, cents) in [(1, 3), (2, 4), (2, 5)] {
                if version.swap(version_now, Ordering::Relaxed) != version_now {
                    harness.restart().await;
                }
                harness.dispatch(sell("one", &["tea"], cents)).await.expect("it is taken");
                harness.settle().await;
            }
            until_inline(harness).await;
            harness.dispatch(sell("two", &["tea"], 8)).await.expect("it is taken");
            assert_eq!(harness.view::<Money>().get("tea").await.expect("it can be read"), Some(20));
            harness.settle().await;
            assert_right(harness.running().await).await;
            let old = RecordScan::all(Space::new("view.items.1").expect("valid"));
            harness.restart().await;
            harness.settle().await;
            assert_eq!(harness.store().records(old).await.expect("readable"), [], "the old one is removed");
        },
    )
    .await;
    assert!(crashes >= 15, "{crashes}");
}
