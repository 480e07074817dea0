//! Read models built anew beside the live one: switched in one commit, whatever crashes, while everything goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ensue_core::{Clock, Code, Commit, RecordScan, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::context::Meta;
use ensue_runtime::projection::{Generation, Load};
use ensue_runtime::{App, OnFailure, Projection, ProjectionExt, State};
use ensue_test::{Harness, VirtualClock, crash_everywhere};
use futures_util::future::{Either, join, select};

use crate::projections::Newest;
use crate::words::{Diary, Tick, tick};

/// The same read model as [`Newest`], with documents of another shape.
struct Sums;

impl Projection for Sums {
    const NAME: &'static str = Newest::NAME;
    const VERSION: u32 = 2;
    type Event = Tick;
    type Document = u32;

    fn key(&self, event: &Tick) -> Option<String> {
        Some(event.key.clone())
    }

    fn apply(&self, document: &mut Option<u32>, event: &Tick, _: &Meta) {
        *document = Some(document.unwrap_or_default() + event.number);
    }
}

/// An application whose code can be replaced: version 1 projects [`Newest`], version 2 [`Sums`].
fn versioned(version: &Arc<AtomicU32>) -> Harness {
    let version = Arc::clone(version);
    Harness::new(move |app: App| {
        let app = app.external::<Tick>();
        if version.load(Ordering::Relaxed) == 1 { app.project(Newest) } else { app.project(Sums) }
    })
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

async fn seen(harness: &Harness, key: &str) -> Option<(u32, u32)> {
    let document = harness.view::<Newest>().get(key).await.expect("it can be read");
    document.map(|document| (document.number, document.seen))
}

async fn sum(harness: &Harness, key: &str) -> Option<u32> {
    harness.view::<Sums>().get(key).await.expect("it can be read")
}

async fn count(harness: &Harness, space: &str) -> usize {
    let scan = RecordScan::all(Space::new(space).expect("valid"));
    harness.store().records(scan).await.expect("memory can be read").len()
}

/// Lets the clock run on to whatever waits for it whenever the work does not get any further without, until it is done.
async fn with_time<T>(clock: &VirtualClock, work: impl Future<Output = T>) -> T {
    let time = async {
        loop {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            if let Some(pause) = clock.next_wake() {
                clock.advance(pause);
            }
        }
    };
    match select(std::pin::pin!(work), std::pin::pin!(time)).await {
        Either::Left((done, _)) => done,
        Either::Right(((), _)) => unreachable!("time has no end"),
    }
}

#[tokio::test]
async fn a_raised_version_is_built_beside_the_old_one_and_switched_to() {
    let version = Arc::new(AtomicU32::new(1));
    let mut harness = versioned(&version);
    publish(&mut harness, &[("a", 1), ("a", 2), ("b", 7)]).await;
    harness.settle().await;
    version.store(2, Ordering::Relaxed);
    let early = harness.view::<Sums>().get("a").await.expect_err("its documents have another shape");
    assert_eq!(early.code(), Code::VIEW_NOT_BUILT);
    harness.restart().await;
    publish(&mut harness, &[("a", 10), ("c", 1)]).await;
    harness.settle().await;
    assert_eq!((sum(&harness, "a").await, sum(&harness, "b").await), (Some(13), Some(7)));
    let statuses = harness.running().await.projections().list().await.expect("it can be read");
    let [status] = statuses.as_slice() else { panic!("{statuses:?}") };
    assert_eq!((status.live, status.behind), (Generation { version: 2, number: 0 }, 0));
    assert_eq!(count(&harness, "view.newest.1").await, 0, "the old one is removed");
    assert_eq!(count(&harness, "view").await, 1, "only the live one is on record");
}

#[tokio::test]
async fn a_crash_at_any_commit_of_a_rebuild_leaves_one_whole_generation() {
    let version = Arc::new(AtomicU32::new(1));
    let crashes = crash_everywhere(
        || versioned(&version),
        async |harness: &mut Harness| {
            version.store(1, Ordering::Relaxed);
            publish(harness, &[("a", 1), ("a", 2), ("b", 7), ("c", 0)]).await;
            harness.settle().await;
            version.store(2, Ordering::Relaxed);
            harness.restart().await;
            publish(harness, &[("a", 3)]).await;
            harness.settle().await;
            // A crash while the old generation is removed is made up for at the next start.
            harness.restart().await;
            harness.settle().await;
            assert_eq!((sum(harness, "a").await, sum(harness, "b").await), (Some(6), Some(7)));
            let audit = harness.running().await.projections().audit("newest").await.expect("it can be read");
            assert!(audit.is_clean(), "{audit:?}");
            assert_eq!(count(harness, "view.newest.1").await, 0);
            assert_eq!(count(harness, "view").await, 1);
        },
    )
    .await;
    assert!(crashes >= 15, "{crashes}");
}

#[tokio::test]
async fn events_go_on_during_a_rebuild_and_readers_see_neither_gap_nor_step_back() {
    for seed in 0..20 {
        let build = |app: App| app.external::<Tick>().project(Newest.lanes(3).batch(2));
        let mut harness = Harness::new(build).reorder_across_keys(seed);
        publish(&mut harness, &[("a", 1), ("b", 1)]).await;
        harness.settle().await;
        let view = harness.view::<Newest>();
        let running = harness.running().await;
        let writer = async {
            for number in 20..60 {
                let position = running.publish(tick("a", number)).await.expect("it is taken").position;
                running.wait(position).await.expect("it keeps up");
                let document = view.get("a").await.expect("it can be read").expect("no gap");
                assert!(document.number >= number, "seed {seed}: {number} was waited for, {document:?}");
            }
        };
        let rebuilds = async {
            for load in [Load::Full, Load::default(), Load::Percent(100)] {
                let rebuilt = running.projections().rebuild("newest", load).await.expect("it is built");
                let difference = rebuilt.difference.expect("the same version");
                assert!(difference.is_none(), "seed {seed}: {difference:?}");
            }
        };
        join(writer, rebuilds).await;
        harness.settle().await;
        assert_eq!(seen(&harness, "a").await, Some((59, 41)), "seed {seed}");
        let audit = harness.running().await.projections().audit("newest").await.expect("it can be read");
        assert!(audit.is_clean(), "seed {seed}: {audit:?}");
    }
}

#[tokio::test]
async fn a_comparison_while_events_go_on_finds_nothing_but_what_is_wrong() {
    let mut caught = 0;
    for seed in 0..20 {
        let mut harness =
            Harness::new(|app: App| app.external::<Tick>().project(Newest)).reorder_across_keys(seed);
        publish(&mut harness, &[("a", 2), ("b", 4), ("wrong", 6)]).await;
        harness.settle().await;
        let space = Space::new("view.newest.1").expect("valid");
        let wrong = RecordWrite::put(space, "wrong", r#"{"key":"wrong","number":8,"seen":1}"#);
        let commit = Commit { records: vec![wrong], ..Commit::default() };
        harness.store().commit(commit).await.expect("it is taken");
        let running = harness.running().await;
        let writer = async {
            for number in 1..30 {
                running.publish(tick("a", number)).await.expect("it is taken");
            }
        };
        let check = async {
            let mut differences = Vec::new();
            for _ in 0..5 {
                let found = running.projections().verify("newest").await.expect("it can be read");
                assert_eq!(
                    (found.different, found.missing.len(), found.added.len()),
                    (vec!["wrong".to_owned()], 0, 0)
                );
                differences.push(found.events);
            }
            differences
        };
        let (events, ()) = join(check, writer).await;
        caught += usize::from(events.first() != events.last());
    }
    assert!(caught > 10, "events were to come in between: {caught}");
}

#[tokio::test]
async fn a_rebuild_runs_no_reaction() {
    async fn mail(State(diary): State<Diary>, tick: Tick) {
        diary.note(format!("mail {}", tick.number));
    }
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| {
        app.state(given.clone()).external::<Tick>().react("mail", mail).project(Newest)
    });
    publish(&mut harness, &[("a", 1), ("a", 2)]).await;
    harness.settle().await;
    let before = (diary.lines(), harness.recorded().await.len());
    let rebuilt =
        harness.running().await.projections().rebuild("newest", Load::Full).await.expect("it is built");
    harness.settle().await;
    assert_eq!((rebuilt.events, diary.lines(), harness.recorded().await.len()), (2, before.0, before.1));
    assert_eq!(diary.lines().len(), 2);
}

#[tokio::test]
async fn a_rebuild_that_meets_what_it_cannot_take_leaves_the_live_one_alone() {
    let mut harness = Harness::new(|app: App| app.external::<Tick>().project(Newest));
    publish(&mut harness, &[("a", 1), ("b", 13), ("c", 1)]).await;
    harness.settle().await;
    assert_eq!(harness.running().await.halted().len(), 1);
    let error = harness.running().await.projections().rebuild("newest", Load::Full).await;
    assert_eq!(error.expect_err("thirteen is not projected").code(), Code::HANDLER_PANICKED);
    assert_eq!(seen(&harness, "a").await, Some((1, 1)));
    assert_eq!(count(&harness, "view").await, 1, "nothing is left of the attempt");
    assert_eq!(count(&harness, "view.newest.1-1").await, 0);
}

#[tokio::test]
async fn a_read_model_that_has_stopped_goes_on_with_the_next_version() {
    let version = Arc::new(AtomicU32::new(1));
    let mut harness = versioned(&version);
    publish(&mut harness, &[("a", 1), ("b", 13), ("c", 1)]).await;
    harness.settle().await;
    assert_eq!(harness.running().await.halted().len(), 1);
    version.store(2, Ordering::Relaxed);
    harness.restart().await;
    harness.settle().await;
    assert_eq!(harness.running().await.halted().len(), 0);
    assert_eq!((sum(&harness, "b").await, sum(&harness, "c").await), (Some(13), Some(1)));
}

#[tokio::test]
async fn a_bounded_build_takes_its_time() {
    let mut harness = Harness::new(|app: App| app.external::<Tick>().project(Newest));
    let ticks: Vec<(&str, u32)> = (1..=12).map(|number| ("a", number)).collect();
    publish(&mut harness, &ticks).await;
    harness.settle().await;
    let clock = harness.clock().clone();
    let before = clock.monotonic();
    let running = harness.running().await;
    let rebuilt = with_time(&clock, running.projections().rebuild("newest", Load::EventsPerSecond(4))).await;
    assert_eq!(rebuilt.expect("it is built").events, 12);
    assert_eq!(clock.monotonic().saturating_sub(before), Duration::from_secs(3));
}

#[tokio::test]
async fn many_documents_are_built_and_the_old_ones_removed_page_by_page() {
    let mut harness = Harness::new(|app: App| app.external::<Tick>().project(Newest.batch(100)));
    for number in 0..700 {
        harness.publish(tick(&number.to_string(), 1)).await;
    }
    harness.settle().await;
    for (load, live, old) in [
        (Load::Full, "view.newest.1-1", "view.newest.1"),
        (Load::default(), "view.newest.1-2", "view.newest.1-1"),
    ] {
        let rebuilt =
            harness.running().await.projections().rebuild("newest", load).await.expect("it is built");
        let difference = rebuilt.difference.expect("the same version");
        assert_eq!((rebuilt.events, difference.documents, difference.is_none()), (700, 700, true));
        assert_eq!((count(&harness, live).await, count(&harness, old).await), (700, 0), "{load:?}");
    }
}

#[tokio::test]
async fn a_rebuild_takes_in_what_was_parked_and_frees_the_key() {
    let version = Arc::new(AtomicU32::new(1));
    let given = Arc::clone(&version);
    let mut harness = Harness::new(move |app: App| {
        let app = app.external::<Tick>();
        match given.load(Ordering::Relaxed) {
            1 => app.project(Newest.retry(1).on_failure(OnFailure::Park)),
            _ => app.project(Sums),
        }
    });
    publish(&mut harness, &[("a", 13), ("a", 2), ("b", 1)]).await;
    harness.settle().await;
    assert_eq!((harness.dead_letters().await.len(), seen(&harness, "b").await), (2, Some((1, 1))));
    version.store(2, Ordering::Relaxed);
    harness.restart().await;
    harness.settle().await;
    assert_eq!((harness.dead_letters().await.len(), sum(&harness, "a").await), (0, Some(15)));
    publish(&mut harness, &[("a", 5)]).await;
    harness.settle().await;
    assert_eq!(sum(&harness, "a").await, Some(20));
}
