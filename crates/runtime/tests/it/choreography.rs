//! Events flow through reactions, and a delivery settles in one commit.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Commit, CommitError, Committed, Error};
use ensue_runtime::{App, Cause, Meta, Reaction, StartFrom, State};
use ensue_test::{CommitHook, Harness, Verdict, crash_everywhere};

use crate::words::{Diary, OrderPlaced, PaymentCompleted, StockReserved, Tick, placed, tick};

async fn take_payment(State(diary): State<Diary>, cause: Cause, placed: OrderPlaced) -> PaymentCompleted {
    diary.note(cause.idempotency_key());
    PaymentCompleted { order: placed.order }
}

async fn reserve_stock(paid: PaymentCompleted) -> Option<StockReserved> {
    Some(StockReserved { order: paid.order })
}

fn shop(diary: &Diary) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        app.state(diary.clone())
            .external::<OrderPlaced>()
            .react("take-payment", take_payment)
            .react("reserve-stock", reserve_stock)
    })
}

const FLOW: [&str; 3] = ["OrderPlaced", "PaymentCompleted", "StockReserved"];

#[tokio::test]
async fn an_event_flows_through_reactions_and_keeps_its_flow() {
    let mut shop = shop(&Diary::default());
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(shop.events().await, FLOW);
    let recorded = shop.recorded().await;
    let [first, second, third] = recorded.as_slice() else { panic!("{} events", recorded.len()) };
    assert_eq!(second.envelope.causation.as_ref(), Some(&first.envelope.id));
    assert_eq!(third.envelope.causation.as_ref(), Some(&second.envelope.id));
    assert_eq!(third.envelope.flow(), &first.envelope.id);
}

#[tokio::test]
async fn a_crash_before_or_after_any_commit_neither_loses_nor_doubles_an_event() {
    let crashes = crash_everywhere(
        || shop(&Diary::default()),
        async |shop: &mut Harness| {
            shop.publish(placed("ORD-1")).await;
            shop.settle().await;
            assert_eq!(shop.events().await, FLOW);
        },
    )
    .await;
    assert!(crashes >= 12, "{crashes}");
}

#[tokio::test]
async fn a_repeated_delivery_has_the_same_idempotency_key_and_emits_once() {
    let diary = Diary::default();
    let mut shop = shop(&diary).deliver_twice();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(shop.events().await, FLOW);
    let keys = diary.lines();
    let [first, second] = keys.as_slice() else { panic!("{keys:?}") };
    assert_eq!(first, second);
}

/// Lets no commit pass that has the events of a reaction and not its checkpoint, or the other way round, and loses the
/// first try of each.
#[derive(Default)]
struct Together {
    diary: Diary,
}

impl CommitHook for Together {
    fn decide(&self, number: u64, commit: &Commit) -> Verdict {
        let emits = commit
            .appends
            .iter()
            .flat_map(|append| &append.events)
            .any(|event| event.event_type.as_str() == "PaymentCompleted");
        let moves = commit
            .records
            .iter()
            .any(|write| write.space.as_str() == "checkpoint" && write.key.starts_with(b"take-payment\0"));
        if emits || moves && !commit.appends.is_empty() {
            self.diary.note(format!("emits {emits}, moves {moves}"));
            if self.diary.lines().len() == 1 {
                return Verdict::Refuse(Error::new(ensue_core::Code::BUSY, format!("commit {number}")));
            }
        }
        Verdict::Proceed
    }

    fn settled(&self, _: u64, _: &Commit, _: &Result<Committed, CommitError>) {}
}

#[tokio::test]
async fn events_and_checkpoint_are_one_commit_and_a_refused_one_leaves_neither() {
    let mut shop = shop(&Diary::default());
    let hook = Arc::new(Together::default());
    shop.store().set_hook(hook.clone());
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(hook.diary.lines(), ["emits true, moves true", "emits true, moves true"]);
    assert_eq!(shop.events().await, FLOW);
    // After a restart nothing is delivered again: the checkpoint was in the same commit.
    shop.restart().await;
    shop.settle().await;
    assert_eq!(shop.events().await, FLOW);
}

#[tokio::test]
async fn a_lost_reply_of_a_settlement_doubles_nothing() {
    for doomed in 1..20 {
        let diary = Diary::default();
        let mut shop = shop(&diary);
        shop.running().await;
        shop.store().lose_reply(shop.store().commits_attempted() + doomed);
        let published =
            shop.publish_as(ensue_core::EventId::new("evt-1").expect("valid"), placed("ORD-1")).await;
        if published.is_err() {
            // The publisher itself did not hear: it asks again with the same id.
            let id = ensue_core::EventId::new("evt-1").expect("valid");
            assert!(shop.publish_as(id, placed("ORD-1")).await.expect("the same again").repeated);
        }
        shop.settle().await;
        assert_eq!(shop.events().await, FLOW, "reply {doomed} lost");
        assert_eq!(diary.lines().len(), 1, "reply {doomed} lost");
        // A lane that took its own settlement for another's would have stopped.
        assert_eq!(shop.running().await.halted().len(), 0, "reply {doomed} lost");
    }
}

async fn copy(State(diary): State<Diary>, tick: Tick) -> Tick2 {
    diary.note(format!("{}{}", tick.key, tick.number));
    Tick2 { key: tick.key, number: tick.number }
}

#[derive(ensue_macros::Event, serde::Serialize, serde::Deserialize)]
#[event(crate = ensue_core, topic = "Copy", key = key)]
struct Tick2 {
    key: String,
    number: u32,
}

fn ticking(diary: &Diary, lanes: u16, batch: usize) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        app.state(diary.clone()).external::<Tick>().react("copy", copy.lanes(lanes).batch(batch))
    })
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

async fn publish_ticks(harness: &mut Harness, from: u32, until: u32) {
    for number in from..until {
        for key in KEYS {
            harness.publish(tick(key, number)).await;
        }
    }
}

/// For each key, the numbers in the order in which lines mention them.
fn numbers(lines: &[String], key: &str) -> Vec<u32> {
    lines.iter().filter_map(|line| line.strip_prefix(key)?.parse().ok()).collect()
}

#[tokio::test]
async fn lanes_and_chance_reorder_keys_and_never_one_key() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let diary = Diary::default();
        let mut harness = ticking(&diary, 8, 2).reorder_across_keys(seed);
        publish_ticks(&mut harness, 0, 6).await;
        harness.settle().await;
        for key in KEYS {
            assert_eq!(numbers(&diary.lines(), key), [0, 1, 2, 3, 4, 5], "key {key}, seed {seed}");
        }
        orders.insert(diary.lines());
    }
    assert!(orders.len() > 1, "the seeds change the order across keys");
}

#[tokio::test]
async fn another_number_of_lanes_loses_nothing_and_keeps_the_order_of_each_key() {
    let diary = Diary::default();
    let lanes = Arc::new(std::sync::atomic::AtomicU16::new(1));
    let (noted, wanted) = (diary.clone(), lanes.clone());
    let mut harness = Harness::new(move |app: App| {
        let lanes = wanted.load(std::sync::atomic::Ordering::Relaxed);
        app.state(noted.clone()).external::<Tick>().react("copy", copy.lanes(lanes).batch(1))
    })
    .reorder_across_keys(7);
    for (round, count) in (0..).zip([1, 3, 8, 2, 5]) {
        lanes.store(count, std::sync::atomic::Ordering::Relaxed);
        publish_ticks(&mut harness, round * 4, round * 4 + 4).await;
        // In the middle of the work, so that lanes stand at different positions.
        harness.restart().await;
    }
    harness.settle().await;
    let recorded = harness.recorded().await;
    for key in KEYS {
        let of_key = |topic: &str| -> Vec<u32> {
            let own = recorded.iter().filter(|recorded| {
                recorded.stream.topic.as_str() == topic && recorded.stream.key.as_str() == key
            });
            own.map(|recorded| recorded.decode::<Tick2>().map_or_else(|_| u32::MAX, |tick| tick.number))
                .collect()
        };
        assert_eq!(of_key("Copy"), (0..20).collect::<Vec<u32>>(), "key {key}");
    }
}

#[tokio::test]
async fn a_subscription_moves_on_over_events_that_are_not_its_own() {
    let diary = Diary::default();
    let noted = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(noted.clone()).external::<Tick>().external::<OrderPlaced>().react("copy", copy)
    });
    publish_ticks(&mut harness, 0, 1).await;
    let last = harness.publish(placed("ORD-1")).await.position;
    harness.settle().await;
    harness.running().await.settled(last).await;
    assert_eq!(diary.lines().len(), 5);
}

#[tokio::test]
async fn start_from_now_sees_only_what_comes_later() {
    let diary = Diary::default();
    let noted = diary.clone();
    let mounted = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mount = mounted.clone();
    let mut harness = Harness::new(move |app: App| {
        let app = app.state(noted.clone()).external::<Tick>();
        if mount.load(std::sync::atomic::Ordering::Relaxed) {
            app.react("copy", copy.from(StartFrom::Now))
        } else {
            app
        }
    });
    harness.publish(tick("a", 1)).await;
    mounted.store(true, std::sync::atomic::Ordering::Relaxed);
    harness.restart().await;
    harness.settle().await;
    harness.publish(tick("a", 2)).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["a2"]);
    // It has run before: where it stands counts, not where it would begin.
    harness.restart().await;
    harness.publish(tick("a", 3)).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["a2", "a3"]);
}

#[tokio::test]
async fn a_handler_sees_where_and_when_its_event_was_recorded() {
    async fn look(State(diary): State<Diary>, meta: Meta, _: OrderPlaced) {
        diary.note(format!("{} {} {}", meta.stream, meta.version, meta.position));
    }
    let diary = Diary::default();
    let noted = diary.clone();
    let mut harness =
        Harness::new(move |app: App| app.state(noted.clone()).external::<OrderPlaced>().react("look", look));
    harness.publish(placed("ORD-1")).await;
    harness.advance(Duration::from_secs(1)).await;
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    assert_eq!(diary.lines(), ["Order/ORD-1 1 1", "Order/ORD-1 2 2"]);
}

#[tokio::test]
async fn of_two_processes_on_one_store_only_one_settles() {
    let diary = Diary::default();
    let mut first = ticking(&diary, 1, 1);
    first.publish(tick("a", 0)).await;
    first.settle().await;
    let other = App::new("test").host(first.host().clone()).store(first.store().clone());
    let other = other.state(diary.clone()).external::<Tick>().react("copy", copy.lanes(1).batch(1));
    let second = other.start().await.expect("it starts beside the first");
    for number in 1..6 {
        first.publish(tick("a", number)).await;
        first.settle().await;
    }
    let copies = first.events().await.iter().filter(|event| *event == "Tick2").count();
    assert_eq!(copies, 6, "each event was settled once");
    let fenced = first.running().await.halted().len() + second.halted().len();
    assert_eq!(fenced, 1, "one of them lost its lane and stopped");
    let both = [first.running().await.halted(), second.halted()].concat();
    assert!(both.iter().all(|(_, error)| error.code() == ensue_core::Code::STALE_RECORD), "{both:?}");
}
