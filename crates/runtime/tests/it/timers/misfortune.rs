//! What can go wrong around the moment at which a timer is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ensue_core::{
    BoxFuture, BoxStream, Clock, Code, Commit, CommitError, Committed, Error, Position, Read, RecordPage,
    RecordScan, RecordWrite, Recorded, Space, Store, StoreCapabilities, StoreExt,
};
use ensue_runtime::TimerId;
use ensue_test::{MemoryStore, Verdict};
use jiff::SignedDuration;

use super::*;

fn reminding() -> Harness {
    Harness::new(|app: App| app.external::<OrderPlaced>().react("remind", remind))
}

async fn due_events(harness: &Harness) -> usize {
    harness.events().await.iter().filter(|name| *name == "PaymentDue").count()
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn timer_space() -> Space {
    Space::new("timer").expect("valid")
}

#[tokio::test]
async fn a_timer_that_came_due_while_the_process_was_down_fires_once() {
    let mut harness = reminding();
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    harness.stop().await;
    harness.clock().advance(600 * MINUTE);
    harness.settle().await;
    assert_eq!(due_events(&harness).await, 1);
    harness.restart().await;
    harness.advance(600 * MINUTE).await;
    assert_eq!(due_events(&harness).await, 1);
}

#[tokio::test]
async fn two_processes_that_fire_at_the_same_moment_fire_once() {
    let mut harness = reminding();
    harness.publish(placed("ORD-1")).await;
    harness.publish(placed("ORD-2")).await;
    harness.settle().await;
    harness.stop().await;
    let process =
        || App::new("test").host(harness.host().clone()).store(Hesitant(Arc::clone(harness.store())));
    let commits = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&commits);
    harness.store().set_hook(Arc::new(move |_: u64, commit: &Commit| {
        let fires = commit.records.iter().any(|write| write.space.as_str() == "timer");
        seen.fetch_add(u32::from(fires), Ordering::Relaxed);
        Verdict::Proceed
    }));
    let (one, other) = (process().start().await.expect("starts"), process().start().await.expect("starts"));
    for _ in 0..20 {
        harness.clock().advance(MINUTE);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(due_events(&harness).await, 2);
    assert!(commits.load(Ordering::Relaxed) >= 2, "both have tried");
    drop((one, other));
}

/// A store that is as far away as a real one: between a read and the commit that follows, others have a turn.
struct Hesitant(Arc<MemoryStore>);

impl Store for Hesitant {
    fn capabilities(&self) -> &StoreCapabilities {
        self.0.capabilities()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            self.0.commit(commit).await
        })
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        self.0.read(read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        self.0.scan(scan)
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.0.advanced(after)
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.0.dropped(after, until)
    }
}

#[tokio::test]
async fn cancelled_while_it_fires_it_is_cancelled_or_fired_and_never_both() {
    let (mut cancelled, mut fired) = (0, 0);
    for seed in 0..40 {
        let mut harness = reminding().reorder_across_keys(seed);
        harness.publish(placed("ORD-1")).await;
        harness.settle().await;
        let [timer] = timers(&harness).await.try_into().expect("one timer");
        let operator = harness.running().await.timers();
        harness.clock().advance(10 * MINUTE);
        for _ in 0..seed % 8 {
            tokio::task::yield_now().await;
        }
        let outcome = operator.cancel(&timer.id(), "in the last moment").await;
        harness.settle().await;
        match outcome {
            Ok(_) => {
                assert_eq!(due_events(&harness).await, 0, "seed {seed}: cancelled and fired");
                cancelled += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), Code::NOT_FOUND);
                assert_eq!(due_events(&harness).await, 1, "seed {seed}: neither cancelled nor fired");
                fired += 1;
            }
        }
    }
    assert!(cancelled > 0 && fired > 0, "both ends were seen: {cancelled} cancelled, {fired} fired");
}

#[tokio::test]
async fn a_hundred_thousand_at_once_are_worked_off_in_bounded_batches_and_others_go_on() {
    const STORM: u32 = 100_000;
    let largest = Arc::new(AtomicU64::new(0));
    let mut harness =
        Harness::new(|app: App| app.external::<OrderPlaced>().external::<Tick>().react("remind", remind));
    let running = harness.running().await;
    let due = running.publish(tick("a", 0)).after(MINUTE).await.expect("it is set").due;
    set_many(&harness, STORM, due).await;
    let seen = Arc::clone(&largest);
    harness.store().set_hook(Arc::new(move |_: u64, commit: &Commit| {
        let events = commit.appends.iter().map(|append| append.events.len() as u64).sum();
        seen.fetch_max(events, Ordering::Relaxed);
        Verdict::Proceed
    }));
    harness.clock().advance(2 * MINUTE);
    // While they are worked off, somebody else is served.
    harness.running().await.publish(placed("ORD-1")).await.expect("it is taken");
    let first_millis = u64::try_from(due.as_millisecond()).expect("after 1970");
    let beyond = RecordScan {
        from: (first_millis + 1).to_be_bytes().to_vec().into(),
        ..RecordScan::all(timer_space())
    };
    while harness.store().records(beyond.clone()).await.expect("memory can be read").is_empty() {
        tokio::task::yield_now().await;
    }
    let left =
        harness.store().scan(RecordScan::all(timer_space())).await.expect("memory can be read").records;
    assert!(left.len() >= 1_000, "the reaction came in between, not after: {} left", left.len());
    harness.settle().await;
    let ticks = harness.events().await.iter().filter(|name| *name == "Tick").count();
    assert_eq!(ticks, STORM as usize + 1);
    assert!(largest.load(Ordering::Relaxed) <= 256, "in bounded batches");
}

/// Timers like the one that is set, in a few commits.
async fn set_many(harness: &Harness, count: u32, due: Timestamp) {
    let records = harness.store().records(RecordScan::all(timer_space())).await.expect("memory can be read");
    let [like] = records.try_into().expect("one timer");
    let text = String::from_utf8(like.value.to_vec()).expect("JSON");
    let timer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let id = timer["name"].as_str().expect("a name").to_owned();
    for chunk in (0..count).collect::<Vec<_>>().chunks(5_000) {
        let records = chunk
            .iter()
            .map(|number| {
                let other = format!("storm-{number:06}");
                let key = [like.key.get(..8).expect("a time"), b"Tick/a\0", other.as_bytes()].concat();
                RecordWrite::put(timer_space(), key, text.replace(&id, &other))
            })
            .collect();
        harness.store().commit(Commit { records, ..Commit::default() }).await.expect("memory takes it");
    }
    assert_eq!(timers(harness).await.iter().filter(|timer| timer.due == due).count(), count as usize + 1);
}

#[tokio::test]
async fn a_timer_that_cannot_be_read_holds_up_no_other() {
    let mut harness = reminding();
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    let key = [&0u64.to_be_bytes()[..], b"nobody\0nothing"].concat();
    let poison = RecordWrite::put(timer_space(), key, "{\"owner\":7}");
    harness
        .store()
        .commit(Commit { records: vec![poison], ..Commit::default() })
        .await
        .expect("memory takes it");
    harness.advance(11 * MINUTE).await;
    assert_eq!(due_events(&harness).await, 1);
    let broken = harness.running().await.timers().broken().await.expect("they can be read");
    let codes: Vec<&str> = broken.iter().map(|broken| broken.code.as_str()).collect();
    assert_eq!(codes, ["E0412"]);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_moves_timers_with_it_and_doubles_none() {
    let mut harness = reminding();
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    let [timer] = timers(&harness).await.try_into().expect("one timer");
    // Back: it is due at its time on the wall, however long that takes.
    harness.clock().set_wall_clock(-HOUR);
    harness.advance(69 * MINUTE).await;
    assert_eq!(due_events(&harness).await, 0);
    harness.advance(MINUTE).await;
    assert_eq!(due_events(&harness).await, 1);
    assert!(harness.clock().now() >= timer.due);
    // Forward: it is due within the second in which the jump is noticed.
    harness.publish(placed("ORD-2")).await;
    harness.settle().await;
    harness.clock().set_wall_clock(HOUR);
    harness.advance(Duration::from_secs(1)).await;
    assert_eq!(due_events(&harness).await, 2);
    // Back again, to before both: what has fired stays fired.
    harness.clock().set_wall_clock(-2 * HOUR);
    harness.advance(180 * MINUTE).await;
    assert_eq!(due_events(&harness).await, 2);
    let unknown = TimerId { owner: timer.owner, name: timer.name };
    let gone = harness.running().await.timers().get(&unknown).await;
    assert_eq!(gone.expect_err("it has fired").code(), Code::NOT_FOUND);
}
