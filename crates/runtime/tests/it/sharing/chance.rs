//! Whatever happens to processes, and in whatever order: each event is settled once, in the order of its key.

use std::time::Duration;

use ensue_test::{Cluster, SeededEntropy};

use super::{KEYS, echoes, echoing};
use crate::words::{Diary, tick};

/// What happens next.
async fn misfortune(
    cluster: &mut Cluster,
    chance: &SeededEntropy,
    up: &mut Vec<usize>,
    frozen: &mut Vec<usize>,
) {
    let awake: Vec<usize> = up.iter().copied().filter(|node| !frozen.contains(node)).collect();
    let picked =
        usize::try_from(chance.below(awake.len() as u64)).ok().and_then(|index| awake.get(index)).copied();
    // One stays awake, so that somebody can publish.
    let victim = picked.filter(|_| awake.len() > 1);
    match (chance.below(6), victim) {
        (0, _) if up.len() < 4 => up.push(cluster.add().await),
        (1, Some(node)) => {
            up.retain(|other| *other != node);
            cluster.kill(node).await;
        }
        (2, Some(node)) => {
            up.retain(|other| *other != node);
            cluster.shut_down(node).await;
        }
        (3, Some(node)) => {
            frozen.push(node);
            cluster.freeze(node);
        }
        (4, _) if !frozen.is_empty() => {
            for node in frozen.drain(..) {
                cluster.thaw(node).await;
            }
        }
        _ => cluster.advance(Duration::from_millis(chance.below(4_000))).await,
    }
}

#[tokio::test]
async fn whatever_happens_to_processes_each_event_is_settled_once_and_in_order() {
    let (mut refused, mut epochs) = (0, 0);
    for seed in 0..25 {
        let chance = SeededEntropy::new(seed);
        let mut cluster = echoing(&Diary::default());
        let (mut up, mut frozen) = (vec![cluster.add().await, cluster.add().await], Vec::new());
        let mut numbers = [0u32; KEYS.len()];
        for _ in 0..20 {
            for (key, number) in KEYS.iter().zip(&mut numbers) {
                for _ in 0..chance.below(4) {
                    cluster.publish(tick(key, *number)).await;
                    *number += 1;
                }
            }
            misfortune(&mut cluster, &chance, &mut up, &mut frozen).await;
        }
        for node in frozen.drain(..) {
            cluster.thaw(node).await;
        }
        cluster.settle().await;
        let echoes = echoes(&cluster).await;
        for (key, number) in KEYS.iter().zip(numbers) {
            let echoed = echoes.get(*key).cloned().unwrap_or_default();
            assert_eq!(echoed, (0..number).collect::<Vec<u32>>(), "key {key}, seed {seed}");
        }
        refused += (0..cluster.nodes()).map(|node| cluster.refused(node)).sum::<u64>();
        epochs += super::lanes(&cluster, "echo").await.iter().map(|lane| lane.epoch).sum::<u64>();
    }
    assert!(epochs > 25 * 8 * 2, "lanes changed hands: {epochs}");
    assert!(refused > 0, "zombies tried to settle");
}
