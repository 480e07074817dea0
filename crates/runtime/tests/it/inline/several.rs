//! Inline read models where several processes, also of different versions, share the store.

use std::future::IntoFuture as _;

use ensue_runtime::projection::{Generation, Load};
use ensue_runtime::{App, ProjectionExt};
use ensue_test::Cluster;

use super::{Items, Money, Till, assert_right, decisions, item, sell};

fn inline(app: App) -> App {
    app.aggregate::<Till>().project(Items.inline())
}

#[tokio::test]
async fn two_processes_change_one_document_and_each_reads_its_own_changes() {
    let mut cluster = Cluster::new(inline);
    let processes = [cluster.add().await, cluster.add().await];
    let mut sold = 0;
    for round in 0..10 {
        for process in processes {
            let running = cluster.running(process);
            running.dispatch(sell(&format!("till-{}", round % 3), &["tea"], 2)).await.expect("it is taken");
            sold += 1;
            assert_eq!(item(running, "tea").await, Some((sold, 2 * sold)));
        }
    }
    cluster.settle().await;
    assert_right(cluster.running(0)).await;
    assert_eq!(item(cluster.running(1), "tea").await, Some((20, 40)), "the lanes add nothing");
}

#[tokio::test]
async fn what_a_process_without_it_appends_is_shown_by_the_lanes_and_nothing_twice() {
    let mut cluster = Cluster::new(inline);
    let new = cluster.add().await;
    let old = cluster.add_with(App::aggregate::<Till>).await;
    let subscribed = cluster.add_with(|app| app.aggregate::<Till>().project(Items)).await;
    for round in 0..5 {
        for process in [old, new, subscribed] {
            let running = cluster.running(process);
            running
                .dispatch(sell(&format!("till-{process}"), &["tea"], round + 1))
                .await
                .expect("it is taken");
        }
        cluster.settle().await;
        assert_eq!(item(cluster.running(new), "tea").await.map(|(sold, _)| sold), Some(3 * (round + 1)));
    }
    assert_right(cluster.running(new)).await;
    cluster.shut_down(new).await;
    cluster.running(subscribed).dispatch(sell("till-0", &["tea"], 1)).await.expect("it is taken");
    cluster.settle().await;
    assert_eq!(item(cluster.running(subscribed), "tea").await.map(|(sold, _)| sold), Some(16));
    assert_right(cluster.running(subscribed)).await;
}

#[tokio::test]
async fn a_command_on_its_way_while_another_process_switches_is_decided_anew() {
    let mut cluster = Cluster::new(inline);
    let (here, there) = (cluster.add().await, cluster.add().await);
    cluster.running(here).dispatch(sell("one", &["tea"], 2)).await.expect("it is taken");
    cluster.settle().await;
    cluster.hold_commits(here);
    let late = cluster.running(here).dispatch(sell("late", &["tea"], 2));
    let rebuild = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let rebuilt =
            cluster.running(there).projections().rebuild("items", Load::Full).await.expect("it is built");
        assert_eq!(rebuilt.generation, Generation { version: 1, number: 1 });
        cluster.thaw(here).await;
    };
    let (receipt, ()) = futures_util::future::join(late.into_future(), rebuild).await;
    receipt.expect("it is taken");
    assert_eq!(
        item(cluster.running(here), "tea").await,
        Some((2, 4)),
        "it is in the generation that readers see"
    );
    assert_eq!(decisions("late"), 2, "it was on its way");
    cluster.settle().await;
    assert_right(cluster.running(there)).await;
}

#[tokio::test]
async fn an_older_version_goes_on_beside_the_newer_one_and_loses_nothing() {
    let mut cluster = Cluster::new(inline);
    let old = cluster.add().await;
    cluster.running(old).dispatch(sell("one", &["tea"], 2)).await.expect("it is taken");
    cluster.settle().await;
    let new = cluster.add_with(|app| app.aggregate::<Till>().project(Money.inline())).await;
    let money = || async {
        cluster.running(new).view::<Money>().expect("valid").get("tea").await.expect("it can be read")
    };
    for _ in 0..3 {
        cluster.running(old).dispatch(sell("two", &["tea"], 3)).await.expect("it is taken");
        cluster.settle().await;
        cluster.running(new).dispatch(sell("one", &["tea"], 5)).await.expect("it is taken");
    }
    cluster.settle().await;
    assert_eq!(money().await, Some(2 + 3 * 3 + 3 * 5));
    assert_right(cluster.running(new)).await;
}
