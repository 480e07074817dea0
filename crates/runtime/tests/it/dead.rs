//! What operators do with dead letters: groups, redrive, edit, discard; in order, whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::Clock;
use ensue_runtime::{App, Reaction, State, dead};
use ensue_test::Harness;

use crate::words::{Broken, Diary, Tick, tick};

/// Whether a handler fails, and what it did; outlasts crashes.
#[derive(Clone, Default)]
struct Ward {
    diary: Diary,
    is_mended: Arc<AtomicBool>,
}

/// Fails for every number that is a multiple of ten, until it is mended.
async fn tens(State(ward): State<Ward>, tick: Tick) -> Result<(), Broken> {
    ward.diary.note(format!("{}{}", tick.key, tick.number));
    if tick.number.is_multiple_of(10) && !ward.is_mended.load(Ordering::Relaxed) {
        return Err(Broken("no round numbers"));
    }
    Ok(())
}

fn harness(ward: &Ward, version: &'static str) -> Harness {
    let ward = ward.clone();
    Harness::new(move |app: App| {
        app.version(version).state(ward.clone()).external::<Tick>().react("tens", tens.retry(2).lanes(2))
    })
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

#[tokio::test]
async fn a_letter_says_which_code_failed_when_and_how_often() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1.4.2");
    publish(&mut harness, &[("a", 10), ("a", 11)]).await;
    harness.settle().await;
    let failed_at = harness.clock().now();
    harness.advance(Duration::from_mins(1)).await;
    harness.running().await.redrive("tens", "a").await.expect("it is parked");
    harness.settle().await;
    let [failed, waiting] = harness.dead_letters().await.try_into().expect("two letters");
    let versions = [&failed, &waiting].map(|letter| letter.parked.code_version.as_deref());
    assert_eq!(versions, [Some("1.4.2"); 2]);
    let failed = failed.parked;
    assert_eq!((failed.attempts, failed.first_failed_at), (3, Some(failed_at)));
    assert_eq!(failed.last_failed_at, Some(harness.clock().now()));
    assert_eq!((waiting.parked.attempts, waiting.parked.first_failed_at), (0, None));
    let catalogue = harness.running().await.catalogue().clone();
    assert_eq!(catalogue.version.as_deref(), Some("1.4.2"));
}

#[tokio::test]
async fn letters_of_one_cause_are_one_group() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1.4.2");
    publish(&mut harness, &[("a", 10), ("b", 20), ("a", 11), ("c", 1)]).await;
    harness.settle().await;
    let groups = dead::groups(&**harness.store()).await.expect("letters can be read");
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.handler.as_str(), group.code.as_str()), ("tens", "E0301"));
    assert_eq!((group.cause.as_str(), group.letters, group.keys), ("no round numbers", 3, 2));
    assert_eq!(group.code_versions.iter().collect::<Vec<_>>(), ["1.4.2"]);
    assert_eq!(group.example.parked.key, "a");
}
