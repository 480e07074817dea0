//! What operators and callers ask of one process while another has the lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::Code;
use ensue_runtime::dead::Which;
use ensue_runtime::{App, Meta, OnFailure, Projection, Reaction, State, dead};
use ensue_test::Cluster;

use super::{KEYS, lanes, publish, time_until};
use crate::words::{Broken, Diary, Tick, tick};

/// Fails for every key until it is mended.
#[derive(Clone, Default)]
struct Mood {
    diary: Diary,
    is_mended: Arc<AtomicBool>,
}

async fn moody(State(mood): State<Mood>, tick: Tick) -> Result<(), Broken> {
    if !mood.is_mended.load(Ordering::Relaxed) {
        return Err(Broken("bad mood"));
    }
    mood.diary.note(format!("{}{}", tick.key, tick.number));
    Ok(())
}

fn moody_cluster(mood: &Mood, on_failure: OnFailure) -> Cluster {
    let mood = mood.clone();
    Cluster::new(move |app: App| {
        let app = app.state(mood.clone()).external::<Tick>();
        app.react("moody", moody.retry(1).lanes(8).on_failure(on_failure))
    })
}

#[tokio::test]
async fn a_redrive_reaches_the_lane_wherever_it_is() {
    let mood = Mood::default();
    let mut cluster = moody_cluster(&mood, OnFailure::Park);
    let (first, _) = (cluster.add().await, cluster.add().await);
    cluster.advance(Duration::from_secs(3)).await;
    publish(&cluster, 0..3).await;
    cluster.settle().await;
    assert_eq!(dead::list(&**cluster.store()).await.expect("letters can be read").len(), 18);
    mood.is_mended.store(true, Ordering::Relaxed);
    // One process is asked for all; some of the keys are in lanes of the other.
    for key in KEYS {
        let (dead, which) = (cluster.running(first).dead(), Which::key("moody", key));
        let asked = cluster.drive(dead.redrive(&which)).await;
        assert_eq!(asked.expect("it is parked").letters, 3);
    }
    let took = time_until(&cluster, async |cluster| {
        dead::list(&**cluster.store()).await.expect("letters can be read").is_empty()
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    cluster.settle().await;
    for key in KEYS {
        let own: Vec<String> = mood.diary.lines().into_iter().filter(|line| line.starts_with(key)).collect();
        assert_eq!(own, [format!("{key}0"), format!("{key}1"), format!("{key}2")]);
    }
}

#[tokio::test]
async fn a_key_that_one_process_has_parked_stays_parked_in_the_next() {
    let mood = Mood::default();
    let mut cluster = moody_cluster(&mood, OnFailure::Park);
    let first = cluster.add().await;
    publish(&cluster, 0..1).await;
    cluster.settle().await;
    cluster.kill(first).await;
    mood.is_mended.store(true, Ordering::Relaxed);
    cluster.add().await;
    publish(&cluster, 1..2).await;
    cluster.settle().await;
    assert_eq!(mood.diary.lines(), Vec::<String>::new(), "they wait behind what is parked");
    assert_eq!(dead::list(&**cluster.store()).await.expect("letters can be read").len(), 12);
}

#[tokio::test]
async fn a_lane_that_has_stopped_is_tried_again_by_the_process_that_gets_it() {
    let mood = Mood::default();
    let mut cluster = moody_cluster(&mood, OnFailure::Stop);
    let first = cluster.add().await;
    cluster.publish(tick("a", 0)).await;
    cluster.advance(Duration::from_secs(1)).await;
    assert_eq!(cluster.running(first).halted().len(), 1);
    // Another process that starts does not make the halt of this one unseen.
    let stopped: Vec<u16> = halted_lanes(&cluster).await;
    assert_eq!(stopped.len(), 1);
    mood.is_mended.store(true, Ordering::Relaxed);
    cluster.add().await;
    cluster.shut_down(first).await;
    cluster.settle().await;
    assert_eq!((mood.diary.lines(), halted_lanes(&cluster).await), (vec!["a0".to_owned()], Vec::new()));
}

async fn halted_lanes(cluster: &Cluster) -> Vec<u16> {
    let lanes = lanes(cluster, "moody").await;
    lanes.into_iter().filter(|lane| lane.halted.is_some()).map(|lane| lane.lane).collect()
}

/// The last number of each key.
struct Newest;

impl Projection for Newest {
    const NAME: &'static str = "newest";
    type Event = Tick;
    type Document = u32;

    fn key(&self, tick: &Tick) -> Option<String> {
        Some(tick.key.clone())
    }

    fn apply(&self, document: &mut Option<u32>, tick: &Tick, _: &Meta) {
        assert!(tick.number != 13, "thirteen is not projected");
        *document = Some(tick.number);
    }
}

#[tokio::test]
async fn whoever_waits_for_a_position_reads_its_writes_also_where_another_process_projects() {
    let mut cluster = Cluster::new(|app: App| app.external::<Tick>().project(Newest));
    let nodes = [cluster.add().await, cluster.add().await];
    cluster.advance(Duration::from_secs(3)).await;
    for (number, node) in (1..).zip(nodes) {
        let running = cluster.running(node);
        let at = cluster.publish(tick("a", number)).await.position;
        cluster.drive(running.wait(at)).await.expect("no read model has stopped");
        let view = running.view::<Newest>().expect("it is mounted");
        assert_eq!(view.get("a").await.expect("it can be read"), Some(number));
        cluster.drive(running.settled(at)).await;
    }
    let owners = lanes(&cluster, "view.newest").await;
    assert_eq!(owners.len(), 1, "one of them had nothing to do with it");
}

#[tokio::test]
async fn a_wait_ends_with_an_error_where_a_read_model_has_stopped_in_another_process() {
    let mut cluster = Cluster::new(|app: App| app.external::<Tick>().project(Newest));
    let nodes = [cluster.add().await, cluster.add().await];
    cluster.advance(Duration::from_secs(3)).await;
    let at = cluster.publish(tick("a", 13)).await.position;
    for node in nodes {
        let error = cluster.drive(cluster.running(node).wait(at)).await.expect_err("it has stopped");
        assert_eq!(error.code(), Code::HANDLER_PANICKED, "{error}");
    }
}
