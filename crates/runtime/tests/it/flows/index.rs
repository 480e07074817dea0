//! The flow index: what is stored and the rest of the log come to the same as the whole log, whatever happened on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use ensue_core::{Commit, CommitError, Committed, Error, RecordScan, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::flow::{FlowStats, Flows, StuckFlow};
use ensue_runtime::{App, Reaction, Retry};
use ensue_test::{CommitHook, Harness, MemoryStore, Verdict, crash_everywhere};

use super::{reserve_stock, take_payment};
use crate::words::{Diary, OrderPlaced, StockReserved, placed};

const SPACES: [&str; 3] = ["flow.index", "flow.kind", "flow.open"];

fn shop(orders_index_every: u64) -> Harness {
    let diary = Diary::default();
    diary.note("silent ORD-2");
    diary.note("unreachable ORD-5");
    Harness::new(move |app: App| {
        let once = Retry { attempts: 1, ..Retry::DEFAULT };
        app.state(diary.clone())
            .flow_index_every(orders_index_every)
            .external::<OrderPlaced>()
            .react("take-payment", take_payment.retry(once).lanes(2))
            .react("reserve-stock", reserve_stock.lanes(2))
            .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<StockReserved>())
    })
}

async fn serve(shop: &mut Harness, orders: u32) {
    for order in 1..=orders {
        shop.publish(placed(&format!("ORD-{order}"))).await;
        if order % 4 == 0 {
            shop.settle().await;
        }
    }
    shop.settle().await;
}

async fn seen(store: &Arc<MemoryStore>) -> (FlowStats, Vec<StuckFlow>) {
    let store: Arc<dyn Store> = store.clone();
    let now = ensue_core::Timestamp::UNIX_EPOCH;
    let flows = Flows::open(store, now).await.expect("readable");
    (flows.stats().await.expect("readable"), flows.stuck().await.expect("readable"))
}

async fn records(store: &MemoryStore, space: &str) -> usize {
    let space = Space::new(space).expect("a valid name");
    store.records(RecordScan::all(space)).await.expect("readable").len()
}

/// Removes what is stored of the index.
async fn forget(store: &MemoryStore) {
    let mut deletes = Vec::new();
    for space in SPACES {
        let space = Space::new(space).expect("a valid name");
        let stored = store.records(RecordScan::all(space.clone())).await.expect("readable");
        deletes.extend(stored.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)));
    }
    store.commit(Commit { records: deletes, ..Commit::default() }).await.expect("memory takes everything");
}

/// Asserts that what is stored of the index and the rest of the log come to what the whole log comes to. Says how much is
/// stored.
async fn equals_the_whole_log(shop: &Harness) -> usize {
    let indexes = records(shop.store(), "flow.index").await;
    let stored = seen(shop.store()).await;
    forget(shop.store()).await;
    assert_eq!(stored, seen(shop.store()).await);
    let keys: Vec<&str> = stored.1.iter().map(|flow| flow.key.as_str()).collect();
    assert_eq!(keys, ["ORD-2", "ORD-5"]);
    indexes
}

#[tokio::test]
async fn a_short_log_is_never_written_to() {
    let mut shop = shop(1_000);
    serve(&mut shop, 40).await;
    let store = shop.store().clone();
    for space in SPACES {
        assert_eq!(records(&store, space).await, 0, "{space}");
    }
    assert_eq!(seen(&store).await.1.len(), 2, "and is looked at as it is");
}

#[tokio::test]
async fn what_is_stored_and_the_rest_of_the_log_are_the_whole_log() {
    let mut shop = shop(7);
    serve(&mut shop, 100).await;
    assert!(records(shop.store(), "flow.open").await < 40, "flows that are over leave no entry");
    assert_eq!(equals_the_whole_log(&shop).await, 1);
}

#[tokio::test]
async fn a_crash_before_or_after_any_commit_changes_nothing_in_it() {
    let indexes = AtomicUsize::new(0);
    let crashes = crash_everywhere(
        || shop(5),
        async |shop: &mut Harness| {
            serve(shop, 12).await;
            indexes.fetch_add(equals_the_whole_log(shop).await, Ordering::Relaxed);
        },
    )
    .await;
    let indexes = indexes.into_inner();
    assert!(crashes >= 40 && indexes >= 20, "{crashes} crashes, {indexes} indexes that outlived them");
}

#[tokio::test]
async fn an_index_of_other_declarations_is_made_anew() {
    let mut shop = shop(5);
    serve(&mut shop, 20).await;
    assert_eq!(records(shop.store(), "flow.index").await, 1);
    let store = shop.store().clone();
    drop(shop);
    // Another application adds a kind: what is stored was judged without it.
    let other = App::new("other").store(store.clone()).external::<OrderPlaced>();
    let other = other.flow("late", |flow| flow.starts::<crate::words::Tick>().ends::<StockReserved>());
    let running = other.flow_index_every(5).start().await.expect("it holds together");
    while records(&store, "flow.index").await == 0 || seen(&store).await.0.completeness.events < 50 {
        tokio::task::yield_now().await;
    }
    drop(running);
    let stored = seen(&store).await;
    forget(&store).await;
    assert_eq!(stored, seen(&store).await);
}

/// Counts saves of the index that another process was quicker with.
#[derive(Default)]
struct Races(AtomicU32);

impl CommitHook for Races {
    fn decide(&self, _: u64, _: &Commit) -> Verdict {
        Verdict::Proceed
    }

    fn settled(&self, _: u64, commit: &Commit, result: &Result<Committed, CommitError>) {
        let is_index = commit.records.iter().any(|write| write.space.as_str() == "flow.index");
        if is_index && matches!(result, Err(CommitError::RecordConflict { .. })) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn two_processes_that_save_at_once_do_not_mix_their_results() {
    let mut shop = shop(5);
    let races = Arc::new(Races::default());
    shop.store().set_hook(races.clone());
    shop.running().await;
    let second = App::new("second").host(shop.host().clone()).store(shop.store().clone());
    let second: Result<_, Error> = second.flow_index_every(5).start().await;
    let second = second.expect("it holds together");
    serve(&mut shop, 60).await;
    assert!(races.0.load(Ordering::Relaxed) > 0, "they never met");
    drop(second);
    assert_eq!(equals_the_whole_log(&shop).await, 1);
}
