//! Audits of read models, and what becomes of events that a read model cannot take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ensue_core::{Commit, RecordWrite, Space, Store, StoreExt};
use ensue_runtime::dead::Which;
use ensue_runtime::projection::{Audit, Load};
use ensue_runtime::{App, OnFailure, ProjectionExt};
use ensue_test::{Harness, crash_everywhere};

use crate::projections::Newest;
use crate::words::{Tick, tick};

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

async fn audit(harness: &mut Harness) -> Audit {
    harness.running().await.projections().audit("newest").await.expect("it can be read")
}

async fn alarms(harness: &mut Harness) -> Vec<String> {
    let statuses = harness.running().await.projections().list().await.expect("it can be read");
    statuses.into_iter().filter_map(|status| status.alarm).flat_map(|alarm| alarm.findings).collect()
}

fn numbers() -> Harness {
    Harness::new(|app: App| app.external::<Tick>().project(Newest))
}

async fn put(harness: &Harness, space: &str, key: &str, value: String) {
    let write = RecordWrite::put(Space::new(space).expect("valid"), key.to_owned(), value);
    let commit = Commit { records: vec![write], ..Commit::default() };
    harness.store().commit(commit).await.expect("it is taken");
}

#[tokio::test]
async fn an_audit_is_clean_whatever_crashes_and_whatever_the_lanes() {
    let lanes = Arc::new(AtomicU16::new(1));
    let crashes = crash_everywhere(
        || {
            let lanes = Arc::clone(&lanes);
            Harness::new(move |app: App| {
                app.external::<Tick>().project(Newest.lanes(lanes.load(Ordering::Relaxed)))
            })
            .deliver_twice()
        },
        async |harness: &mut Harness| {
            lanes.store(1, Ordering::Relaxed);
            publish(harness, &[("a", 1), ("b", 2), ("c", 3), ("a", 0)]).await;
            harness.settle().await;
            assert!(audit(harness).await.is_clean());
            lanes.store(3, Ordering::Relaxed);
            harness.restart().await;
            publish(harness, &[("a", 5), ("b", 0), ("d", 4)]).await;
            harness.settle().await;
            let audit = audit(harness).await;
            assert!(audit.is_clean(), "{audit:?}");
            assert_eq!((audit.lanes.len(), audit.documents_found), (3, 3));
            assert_eq!(audit.lanes.iter().map(|lane| lane.taken).sum::<u64>(), 3, "since there are three");
        },
    )
    .await;
    assert!(crashes >= 10, "{crashes}");
}

#[tokio::test]
async fn a_corrupted_row_is_found_by_the_audit_which_raises_an_alarm() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 1), ("b", 2)]).await;
    harness.settle().await;
    assert!(audit(&mut harness).await.is_clean());
    put(&harness, "view.newest.1", "a", r#"{"key":"a","number":1,"seen":2}"#.to_owned()).await;
    let found = audit(&mut harness).await;
    assert!(!found.is_clean() && !found.documents_match, "{found:?}");
    assert_eq!((found.documents_found, found.documents_written), (2, 2));
    assert_eq!(alarms(&mut harness).await, found.findings());
    // The alarm outlives the process and ends with a rebuild.
    harness.restart().await;
    harness.settle().await;
    assert_eq!(alarms(&mut harness).await.len(), 1);
    harness.running().await.projections().rebuild("newest", Load::Full).await.expect("it is built");
    assert_eq!(alarms(&mut harness).await, Vec::<String>::new());
    assert!(audit(&mut harness).await.is_clean());
}

#[tokio::test]
async fn an_event_that_a_lane_has_passed_over_is_found_by_the_audit() {
    let mut harness = numbers();
    publish(&mut harness, &[("a", 1), ("a", 2)]).await;
    harness.settle().await;
    // As a defect would: the checkpoint says that it has the next event too.
    let space = Space::new("checkpoint").expect("valid");
    let key = b"view.newest\x0000000".to_vec();
    let record = harness.store().record(space, key.clone()).await.expect("readable").expect("there");
    let value = String::from_utf8(record.value.to_vec()).expect("JSON");
    let passed = value.replace(r#""position":2"#, r#""position":3"#);
    assert_ne!(value, passed);
    let key = String::from_utf8(key).expect("text");
    harness.running().await;
    put(&harness, "checkpoint", &key, passed).await;
    harness.restart().await;
    publish(&mut harness, &[("a", 3), ("a", 4)]).await;
    harness.settle().await;
    let found = audit(&mut harness).await;
    let [lane] = found.lanes.as_slice() else { panic!("{found:?}") };
    assert_eq!((lane.taken, lane.logged, lane.matches), (3, 4, false));
    assert_eq!(alarms(&mut harness).await.len(), 1);
}

#[tokio::test]
async fn an_audit_of_a_read_model_that_keeps_changing_stops_its_lanes_for_a_moment() {
    for seed in 0..10 {
        let mut harness = numbers().reorder_across_keys(seed);
        publish(&mut harness, &[("a", 1), ("b", 2)]).await;
        harness.settle().await;
        let running = harness.running().await;
        let writer = async {
            for number in 20..80 {
                running.publish(tick("a", number)).await.expect("it is taken");
            }
        };
        let audits = async {
            for _ in 0..3 {
                let audit = running.projections().audit("newest").await.expect("it can be read");
                assert!(audit.is_clean(), "seed {seed}: {audit:?}");
            }
        };
        futures_util::future::join(writer, audits).await;
        harness.settle().await;
        let view = harness.view::<Newest>().get("a").await.expect("it can be read").expect("there");
        assert_eq!((view.number, view.seen), (79, 61), "seed {seed}: it goes on afterwards");
    }
}

#[tokio::test]
async fn a_skipped_event_is_counted_and_the_rest_goes_on() {
    let mut harness =
        Harness::new(|app: App| app.external::<Tick>().project(Newest.retry(1).on_failure(OnFailure::Skip)));
    publish(&mut harness, &[("a", 1), ("a", 13), ("a", 2), ("b", 13)]).await;
    harness.settle().await;
    let view = harness.view::<Newest>().get("a").await.expect("it can be read").expect("there");
    assert_eq!((view.number, view.seen), (2, 2));
    let statuses = harness.running().await.projections().list().await.expect("it can be read");
    assert_eq!(statuses.iter().map(|status| status.skipped).collect::<Vec<_>>(), [2]);
    assert!(audit(&mut harness).await.is_clean());
    let projections = harness.running().await.projections();
    assert!(projections.verify("newest").await.expect("it can be read").is_none());
    let rebuilt = projections.rebuild("newest", Load::Full).await.expect("it skips them too");
    assert!(rebuilt.difference.expect("the same version").is_none());
    assert_eq!(
        projections.list().await.expect("it can be read").first().map(|status| status.skipped),
        Some(2)
    );
}

#[tokio::test]
async fn a_parked_key_waits_as_dead_letters_and_a_redrive_brings_it_up_to_date() {
    let is_mended = Arc::new(AtomicU16::new(0));
    let given = Arc::clone(&is_mended);
    let mut harness = Harness::new(move |app: App| {
        let app = app.external::<Tick>();
        if given.load(Ordering::Relaxed) == 0 {
            app.project(Newest.retry(2).on_failure(OnFailure::Park))
        } else {
            app.project(Mended.on_failure(OnFailure::Park))
        }
    });
    publish(&mut harness, &[("a", 1), ("a", 13), ("a", 3), ("b", 1)]).await;
    harness.settle().await;
    let statuses = harness.running().await.projections().list().await.expect("it can be read");
    assert_eq!(statuses.iter().map(|status| status.parked).collect::<Vec<_>>(), [2]);
    assert_eq!(harness.view::<Newest>().get("b").await.expect("readable").map(|row| row.number), Some(1));
    let verified = harness.running().await.projections().verify("newest").await.expect("it can be read");
    assert!(verified.is_none(), "what is parked is not missed: {verified:?}");
    is_mended.store(1, Ordering::Relaxed);
    harness.restart().await;
    harness.running().await.dead().redrive(&Which::key("view.newest", "a")).await.expect("they are there");
    harness.settle().await;
    let row = harness.view::<Newest>().get("a").await.expect("readable").expect("there");
    assert_eq!((row.number, row.seen), (3, 3));
    assert!(harness.dead_letters().await.is_empty());
    assert!(audit(&mut harness).await.is_clean(), "an event is counted once, when it is parked");
}

/// [`Newest`] with its defect mended.
struct Mended;

impl ensue_runtime::Projection for Mended {
    const NAME: &'static str = "newest";
    type Event = Tick;
    type Document = crate::projections::Entry;

    fn key(&self, event: &Tick) -> Option<String> {
        Some(event.key.clone())
    }

    fn apply(&self, document: &mut Option<Self::Document>, event: &Tick, _: &ensue_runtime::context::Meta) {
        let seen = document.as_ref().map_or(0, |document| document.seen) + 1;
        *document = Some(crate::projections::Entry { key: event.key.clone(), number: event.number, seen });
    }
}
