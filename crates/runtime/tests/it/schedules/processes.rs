//! One tick, whatever the number of processes.

use std::sync::atomic::{AtomicU32, Ordering};

use ensue_core::Commit;
use ensue_test::{Cluster, Verdict};

use super::*;

fn minutely() -> Cluster {
    Cluster::new(|app: App| app.schedule("minutely", "* * * * *", report))
}

async fn due(cluster: &Cluster) -> Vec<String> {
    let recorded = cluster.recorded().await;
    let reported = recorded.iter().filter(|event| event.envelope.event_type.as_str() == "Reported");
    let due = |data: &[u8]| serde_json::from_slice::<Reported>(data).expect("a report").due.to_string();
    reported.map(|event| due(&event.envelope.data)).collect()
}

fn minutes(count: u32) -> Vec<String> {
    (1..=count).map(|minute| format!("2024-01-15T10:{}:00Z", 30 + minute)).collect()
}

#[tokio::test]
async fn of_three_processes_one_brings_the_tick_and_one_works_on_it() {
    let mut cluster = minutely();
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.advance(3 * MINUTE).await;
    cluster.settle().await;
    assert_eq!(due(&cluster).await, minutes(3));
}

#[tokio::test]
async fn ticks_go_on_whichever_process_is_killed() {
    for killed in 0..3 {
        let mut cluster = minutely();
        for _ in 0..3 {
            cluster.add().await;
        }
        cluster.advance(MINUTE).await;
        cluster.kill(killed).await;
        cluster.advance(MINUTE).await;
        cluster.settle().await;
        assert_eq!(due(&cluster).await, minutes(2));
    }
}

#[tokio::test]
async fn a_process_that_was_frozen_while_it_brought_a_tick_brings_no_second() {
    let mut cluster = minutely();
    let nodes = [cluster.add().await, cluster.add().await, cluster.add().await];
    let brought = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&brought);
    cluster.store().set_hook(Arc::new(move |_: u64, commit: &Commit| {
        let brings = commit.appends.iter().any(|append| append.stream.topic.as_str() == "ensue.schedule");
        seen.fetch_add(u32::from(brings), Ordering::Relaxed);
        Verdict::Proceed
    }));
    cluster.advance(Duration::from_secs(50)).await;
    for node in nodes {
        // What it commits when the tick is due is under way until the others have long taken over.
        cluster.hold_commits(node);
        cluster.advance(Duration::from_secs(12)).await;
        cluster.freeze(node);
        cluster.advance(Duration::from_secs(10)).await;
        cluster.thaw(node).await;
        cluster.advance(Duration::from_secs(38)).await;
    }
    cluster.settle().await;
    assert_eq!(due(&cluster).await, minutes(3));
    assert!(brought.load(Ordering::Relaxed) > 3, "what was held has arrived, and was refused");
}

#[tokio::test]
async fn of_two_versions_the_one_that_started_last_has_its_way() {
    let mut cluster = minutely();
    cluster.add().await;
    cluster.advance(2 * MINUTE).await;
    cluster.add_with(|app| app.schedule("minutely", "*/4 * * * *", report)).await;
    cluster.advance(8 * MINUTE).await;
    cluster.settle().await;
    let all = due(&cluster).await;
    assert_eq!(
        all,
        ["2024-01-15T10:31:00Z", "2024-01-15T10:32:00Z", "2024-01-15T10:36:00Z", "2024-01-15T10:40:00Z"]
    );
    cluster.add_with(|app| app).await;
    cluster.advance(5 * MINUTE).await;
    assert_eq!(due(&cluster).await, all, "a version without it has ended it");
}
