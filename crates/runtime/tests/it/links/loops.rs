//! Logs that are linked in a circle: an event goes round once.

use ensue_core::bus::Bus;
use ensue_runtime::{App, Intake, Relay};
use ensue_test::{Harness, MemoryBus};
use std::sync::Arc;

use super::words::{attribute, bus, logged, numbered, publish, shared};
use crate::words::Tick;

/// A log that sends to one channel and takes from another.
fn between(
    bus: &MemoryBus,
    seed: u64,
    to: &'static str,
    from: &'static str,
    links: [&'static str; 2],
) -> Harness {
    let bus = bus.clone();
    Harness::seeded(seed, move |app: App| {
        let [out, into] = links;
        let bus: Arc<dyn Bus> = shared(&bus);
        app.external::<Tick>()
            .relay(Relay::new("out", Arc::clone(&bus)).topic("Tick").to(to).link(out))
            .intake(Intake::new("in", bus).from(from).link(into))
    })
}

async fn settle(logs: &mut [&mut Harness]) {
    // More often than an event could go round.
    for _ in 0..10 {
        for log in logs.iter_mut() {
            log.settle().await;
            log.advance(std::time::Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test]
async fn an_event_is_not_sent_back_over_the_link_it_came_in_over() {
    let bus = bus();
    let mut one = between(&bus, 1, "there", "back", ["ring", "ring"]);
    let mut two = between(&bus, 2, "back", "there", ["ring", "ring"]);
    publish(&mut one, &["a"], 2).await;
    two.running().await;
    settle(&mut [&mut one, &mut two]).await;
    assert_eq!((logged(&one).await, logged(&two).await), (numbered("a", 2), numbered("a", 2)));
    assert_eq!(bus.messages("there").len(), 2);
    assert!(bus.messages("back").is_empty(), "nothing is sent back");
}

#[tokio::test]
async fn an_event_that_comes_round_by_other_links_is_dropped_by_the_log_it_has_been_in() {
    let bus = bus();
    let mut one = between(&bus, 1, "first", "third", ["a", "b"]);
    let mut two = between(&bus, 2, "second", "first", ["a", "b"]);
    let mut three = between(&bus, 3, "third", "second", ["a", "b"]);
    publish(&mut one, &["a"], 2).await;
    two.running().await;
    three.running().await;
    settle(&mut [&mut one, &mut two, &mut three]).await;
    for log in [&one, &two, &three] {
        assert_eq!(logged(log).await, numbered("a", 2), "each log has each event once");
    }
    let round = bus.messages("third");
    assert_eq!(round.len(), 2, "they did come round");
    let logs = attribute(round.first().expect("two of them"), "ensuelogs");
    assert_eq!(logs.split(' ').count(), 3, "{logs}");
    let links = one.running().await.links().await.expect("the store can be read");
    assert_eq!(links.iter().map(|link| link.looped).sum::<u64>(), 2, "dropped and counted");
}
