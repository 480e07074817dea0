//! Several processes on one store: who works on what, and what happens when one of them goes, hangs, or comes.

use std::collections::BTreeMap;
use std::time::Duration;

use ensue_core::{Clock, Host, StoreExt};
use ensue_runtime::sharing::{self, LaneStatus, MemberId};
use ensue_runtime::{App, Reaction, State};
use ensue_test::Cluster;
use serde::{Deserialize, Serialize};

use crate::words::{Diary, Tick, tick};

mod chance;
mod change;
mod commands;
mod operations;
mod sagas;

/// What [`copy`] makes of a [`Tick`].
#[derive(ensue_macros::Event, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[event(crate = ensue_core, topic = "Echo", key = key)]
pub(crate) struct Echo {
    pub(crate) key: String,
    pub(crate) number: u32,
}

pub(crate) const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Echoes a tick; slowly, if its number is 1,000 or more: as many seconds as it is above that.
pub(crate) async fn echo(State(diary): State<Diary>, State(host): State<Host>, tick: Tick) -> Echo {
    diary.note(format!("begin {}{}", tick.key, tick.number));
    let dropped = Dropped(diary.clone(), format!("dropped {}{}", tick.key, tick.number));
    if let Some(seconds) = tick.number.checked_sub(1_000) {
        host.clock.sleep(Duration::from_secs(u64::from(seconds))).await;
    }
    std::mem::forget(dropped);
    diary.note(format!("{}{}", tick.key, tick.number));
    Echo { key: tick.key, number: tick.number }
}

/// Notes that a handler was cancelled.
struct Dropped(Diary, String);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note(self.1.clone());
    }
}

pub(crate) fn echoing(diary: &Diary) -> Cluster {
    let diary = diary.clone();
    Cluster::new(move |app: App| {
        app.state(diary.clone()).external::<Tick>().react("echo", echo.lanes(8).batch(4))
    })
}

pub(crate) async fn publish(cluster: &Cluster, numbers: std::ops::Range<u32>) {
    for number in numbers {
        for key in KEYS {
            cluster.publish(tick(key, number)).await;
        }
    }
}

/// The echoes in the log, by key.
pub(crate) async fn echoes(cluster: &Cluster) -> BTreeMap<String, Vec<u32>> {
    let mut echoes: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for recorded in cluster.recorded().await {
        if let Ok(echo) = recorded.decode::<Echo>() {
            echoes.entry(echo.key).or_default().push(echo.number);
        }
    }
    echoes
}

pub(crate) fn each_key_with(numbers: std::ops::Range<u32>) -> BTreeMap<String, Vec<u32>> {
    KEYS.iter().map(|key| ((*key).to_owned(), numbers.clone().collect())).collect()
}

pub(crate) async fn lanes(cluster: &Cluster, subscription: &str) -> Vec<LaneStatus> {
    let mut lanes = sharing::lanes(&**cluster.store()).await.expect("lanes can be read");
    lanes.retain(|lane| lane.subscription == subscription);
    lanes
}

/// Who has the lanes of `echo`, with how many each.
async fn loads(cluster: &Cluster) -> BTreeMap<MemberId, usize> {
    let mut loads = BTreeMap::new();
    for owner in lanes(cluster, "echo").await.into_iter().filter_map(|lane| lane.owner) {
        *loads.entry(owner).or_default() += 1;
    }
    loads
}

/// How long until `done` holds, in virtual time; at most ten seconds.
pub(crate) async fn time_until(cluster: &Cluster, done: impl AsyncFn(&Cluster) -> bool) -> Duration {
    let begun = cluster.clock().monotonic();
    for _ in 0..2_000 {
        if done(cluster).await {
            return cluster.clock().monotonic().saturating_sub(begun);
        }
        cluster.advance(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

#[tokio::test]
async fn processes_divide_the_lanes_evenly_and_settle_each_event_once_in_order() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    cluster.add().await;
    publish(&cluster, 0..3).await;
    cluster.add().await;
    publish(&cluster, 3..6).await;
    cluster.settle().await;
    cluster.advance(Duration::from_secs(3)).await;
    assert_eq!(loads(&cluster).await.into_values().collect::<Vec<_>>(), [4, 4]);
    publish(&cluster, 6..9).await;
    cluster.settle().await;
    assert_eq!(echoes(&cluster).await, each_key_with(0..9));
    assert_eq!(cluster.refused(0) + cluster.refused(1), 0, "planned hand-overs waste nothing");
}

#[tokio::test]
async fn a_killed_process_is_replaced_within_five_seconds() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    let (first, second) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    let dead = cluster.running(first).member();
    cluster.kill(first).await;
    publish(&cluster, 0..2).await;
    assert!(lanes(&cluster, "echo").await.iter().any(|lane| lane.owner == Some(dead)), "it had some");
    let took = time_until(&cluster, async |cluster| echoes(cluster).await == each_key_with(0..2)).await;
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(cluster.running(second).members().len(), 1);
    assert_eq!(loads(&cluster).await.into_values().collect::<Vec<_>>(), [8]);
}

#[tokio::test]
async fn a_process_that_shuts_down_hands_over_within_a_tenth_of_a_second() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    let (first, second) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    let begun = cluster.clock().monotonic();
    let shut_down = cluster.shut_down(first).await;
    publish(&cluster, 0..2).await;
    time_until(&cluster, async |cluster| echoes(cluster).await == each_key_with(0..2)).await;
    let took = cluster.clock().monotonic().saturating_sub(begun);
    assert!(took < Duration::from_millis(100), "{took:?}, of which {shut_down:?} for the shutdown");
    assert_eq!(cluster.running(second).members().len(), 1, "it has said goodbye");
}

#[tokio::test]
async fn a_planned_hand_over_waits_for_the_delivery_in_hand() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    cluster.add().await;
    for key in KEYS {
        cluster.publish(tick(key, 1_020)).await;
    }
    cluster.advance(Duration::from_secs(1)).await;
    cluster.add().await;
    publish(&cluster, 2_000..2_001).await;
    cluster.advance(Duration::from_secs(10)).await;
    assert!(loads(&cluster).await.len() == 2, "lanes without a delivery in hand have moved");
    cluster.settle().await;
    for key in KEYS {
        assert_eq!(diary.count(&format!("begin {key}1020")), 1, "{:?}", diary.lines());
    }
    assert_eq!(loads(&cluster).await.into_values().collect::<Vec<_>>(), [4, 4]);
}

#[tokio::test]
async fn a_lost_lease_cancels_the_handler() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    let (zombie, second) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    for key in KEYS {
        cluster.publish(tick(key, 1_020)).await;
    }
    cluster.advance(Duration::from_secs(1)).await;
    cluster.freeze(zombie);
    cluster.advance(Duration::from_secs(8)).await;
    let begun = KEYS.iter().filter(|key| diary.count(&format!("begin {key}1020")) > 1).count();
    assert!(begun > 0, "the other process has begun anew what the zombie had in hand: {:?}", diary.lines());
    // It wakes up in the middle of its handlers.
    cluster.thaw(zombie).await;
    cluster.advance(Duration::from_secs(2)).await;
    let dropped = KEYS.iter().filter(|key| diary.count(&format!("dropped {key}1020")) == 1).count();
    assert_eq!(dropped, begun, "{:?}", diary.lines());
    cluster.settle().await;
    let expected: BTreeMap<String, Vec<u32>> =
        KEYS.iter().map(|key| ((*key).to_owned(), vec![1_020])).collect();
    assert_eq!(echoes(&cluster).await, expected);
    assert_eq!(cluster.running(second).members().len(), 2);
}

#[tokio::test]
async fn a_zombie_settles_nothing_and_takes_part_again_as_another() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    let (zombie, second) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    let before = cluster.running(zombie).member();
    // All keys: some of them are in lanes of the zombie, in the middle of a slow delivery.
    for key in KEYS {
        cluster.publish(tick(key, 1_002)).await;
    }
    cluster.advance(Duration::from_secs(1)).await;
    cluster.freeze(zombie);
    cluster.advance(Duration::from_secs(10)).await;
    let expected: BTreeMap<String, Vec<u32>> =
        KEYS.iter().map(|key| ((*key).to_owned(), vec![1_002])).collect();
    assert_eq!(echoes(&cluster).await, expected, "the other process has taken over and done it all");
    assert_eq!(loads(&cluster).await.into_keys().collect::<Vec<_>>(), [cluster.running(second).member()]);

    cluster.thaw(zombie).await;
    cluster.advance(Duration::from_secs(3)).await;
    assert_eq!(echoes(&cluster).await, expected, "and nothing of it took hold");
    assert_ne!(cluster.running(zombie).member(), before, "it takes part again as another");
    publish(&cluster, 0..2).await;
    cluster.settle().await;
    assert_eq!(loads(&cluster).await.into_values().collect::<Vec<_>>(), [4, 4]);
}

#[tokio::test]
async fn a_settlement_that_was_on_its_way_while_the_lane_was_taken_is_refused() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    let (zombie, _) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    // The handlers end at the moment at which the process freezes: what they have done is on its way to the store.
    cluster.hold_commits(zombie);
    publish(&cluster, 0..1).await;
    cluster.advance(Duration::from_millis(10)).await;
    cluster.freeze(zombie);
    cluster.advance(Duration::from_secs(10)).await;
    assert_eq!(echoes(&cluster).await, each_key_with(0..1));
    cluster.thaw(zombie).await;
    cluster.advance(Duration::from_secs(3)).await;
    assert!(cluster.refused(zombie) > 0, "it tried");
    assert_eq!(echoes(&cluster).await, each_key_with(0..1));
    assert!(cluster.running(zombie).halted().is_empty(), "a lost lane is nothing to stop for");
}

#[tokio::test]
async fn few_lanes_move_when_a_process_comes_or_goes() {
    let diary = Diary::default();
    let mut cluster = echoing(&diary);
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.advance(Duration::from_secs(5)).await;
    let before = lanes(&cluster, "echo").await;
    let gone = cluster.running(1).member();
    cluster.shut_down(1).await;
    cluster.advance(Duration::from_secs(5)).await;
    let after = lanes(&cluster, "echo").await;
    let moved = before.iter().zip(&after).filter(|(old, new)| old.owner != new.owner).count();
    let had = before.iter().filter(|lane| lane.owner == Some(gone)).count();
    assert!((had..=had + 2).contains(&moved), "{moved} of 8 lanes moved, {had} had to");
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(new.epoch > old.epoch, old.owner != new.owner, "{old:?} {new:?}");
    }
}

#[tokio::test]
async fn an_application_that_does_not_share_moves_its_lanes_on_once_and_then_writes_nothing_while_it_is_idle()
{
    let diary = Diary::default();
    let mut harness = ensue_test::Harness::new(move |app: App| {
        let app = app.state(diary.clone()).state(ensue_test::host(1).0);
        app.external::<Tick>().react("echo", echo)
    });
    harness.publish(tick("a", 0)).await;
    harness.settle().await;
    let before = harness.store().commits_attempted();
    harness.advance(Duration::from_secs(59)).await;
    assert_eq!(harness.store().commits_attempted(), before, "there may be more events yet");
    // Each lane once, with or without events: nobody needs those up to the head any more.
    harness.advance(Duration::from_secs(2)).await;
    let head = harness.store().head().await.expect("readable");
    let lanes = sharing::lanes(&**harness.store()).await.expect("readable");
    assert!(lanes.iter().all(|lane| lane.position == head), "{head}: {lanes:?}");
    assert_eq!(harness.store().commits_attempted(), before + lanes.len() as u64);
    harness.advance(Duration::from_hours(1)).await;
    assert_eq!(harness.store().commits_attempted(), before + lanes.len() as u64);
    assert!(harness.running().await.members().is_empty());
}
