//! Versions side by side: a handler that only one process has, another number of lanes.

use std::time::Duration;

use ensue_runtime::{App, Reaction, State};
use ensue_test::Cluster;

use super::{each_key_with, echo, echoes, lanes, publish};
use crate::words::{Diary, Tick};

async fn watch(State(diary): State<Diary>, tick: Tick) {
    diary.note(format!("watched {}{}", tick.key, tick.number));
}

#[tokio::test]
async fn lanes_go_to_processes_that_mount_their_handler() {
    let (old, new) = (Diary::default(), Diary::default());
    let mut cluster = {
        let diary = old.clone();
        Cluster::new(move |app: App| app.state(diary.clone()).external::<Tick>().react("echo", echo.batch(1)))
    };
    cluster.add().await;
    let diary = new.clone();
    let newer = cluster
        .add_with(move |app| {
            let app = app.state(diary.clone()).external::<Tick>();
            app.react("echo", echo.batch(1)).react("watch", watch.lanes(4))
        })
        .await;
    publish(&cluster, 0..2).await;
    cluster.advance(Duration::from_secs(3)).await;
    publish(&cluster, 2..4).await;
    cluster.settle().await;
    assert_eq!(echoes(&cluster).await, each_key_with(0..4));
    assert_eq!(new.lines().iter().filter(|line| line.starts_with("watched")).count(), 24);
    let owners = lanes(&cluster, "watch").await.into_iter().map(|lane| lane.owner).collect::<Vec<_>>();
    assert_eq!(owners, [Some(cluster.running(newer).member()); 4]);
    let owners = lanes(&cluster, "echo").await.into_iter().filter_map(|lane| lane.owner);
    assert_eq!(owners.collect::<std::collections::BTreeSet<_>>().len(), 2, "both know how to echo");
}

fn with_lanes(diary: &Diary, count: u16) -> impl Fn(App) -> App + use<> {
    let diary = diary.clone();
    move |app| app.state(diary.clone()).external::<Tick>().react("echo", echo.lanes(count).batch(1))
}

#[tokio::test]
async fn another_number_of_lanes_comes_when_all_processes_want_it_and_keeps_the_order_of_each_key() {
    let diary = Diary::default();
    let mut cluster = Cluster::new(with_lanes(&diary, 3));
    let olds = [cluster.add().await, cluster.add().await];
    publish(&cluster, 0..3).await;
    cluster.advance(Duration::from_secs(2)).await;
    // One by one, as a deployment replaces them; events keep coming.
    for (round, old) in (1..).zip(olds) {
        cluster.add_with(with_lanes(&diary, 8)).await;
        publish(&cluster, round * 6..round * 6 + 3).await;
        cluster.advance(Duration::from_secs(2)).await;
        assert_eq!(lanes(&cluster, "echo").await.len(), 3, "an old process is still there");
        publish(&cluster, round * 6 + 3..round * 6 + 6).await;
        cluster.shut_down(old).await;
    }
    cluster.advance(Duration::from_secs(3)).await;
    publish(&cluster, 18..20).await;
    cluster.settle().await;
    let expected: Vec<u32> = (0..3).chain(6..20).collect();
    for (key, numbers) in echoes(&cluster).await {
        assert_eq!(numbers, expected, "key {key}");
    }
    let lanes = lanes(&cluster, "echo").await;
    let mut loads = std::collections::BTreeMap::new();
    lanes.iter().for_each(|lane| *loads.entry(lane.owner).or_insert(0) += 1);
    assert_eq!(loads.into_values().collect::<Vec<_>>(), [4, 4]);
    let steps = lanes.iter().all(|lane| lane.epoch > 1);
    assert!(steps, "epochs go on where they were: {lanes:?}");
}
