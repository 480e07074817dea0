//! Queues in front of handlers: what waits there is bounded, and the rest waits in the log.

use ensue_core::{
    Append, Commit, ContentType, Envelope, EventId, EventType, Expected, Source, Store, StreamName, Timestamp,
};
use ensue_runtime::app::InHand;
use ensue_runtime::{Breaker, Reaction};

use super::*;

const WAITING: u32 = 20_000;

/// Stores ticks of a hundred keys in few commits: more than one lane may have in hand.
async fn store(shop: &Harness) {
    let stored = |number: u32| {
        let (key, body) = (format!("k{}", number % 100), format!(r#""number":{number}"#));
        let envelope = Envelope {
            id: EventId::new(format!("tick-{number}")).expect("valid"),
            source: Source::new("elsewhere").expect("valid"),
            event_type: EventType::new("Tick").expect("valid"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: format!(r#"{{"key":"{key}",{body}}}"#).into(),
        };
        let stream = StreamName::new("Tick", &key).expect("valid");
        Append { stream, expected: Expected::Any, events: vec![envelope] }
    };
    let numbers: Vec<u32> = (0..WAITING).collect();
    for some in numbers.chunks(1_000) {
        let commit = Commit { appends: some.iter().copied().map(stored).collect(), ..Commit::default() };
        shop.store().commit(commit).await.expect("a store takes every event");
    }
}

async fn queue(shop: &mut Harness) -> InHand {
    shop.running().await.queues().into_iter().next().expect("one handler")
}

#[tokio::test]
async fn a_handler_that_does_not_get_on_has_a_bounded_number_in_hand_and_loses_nothing() {
    let api = Api::default();
    let mut shop = api.harness(|app| {
        let breaker = Breaker::new("payments-api").opens_at(1, 1);
        app.react("charge", charge.lanes(2).batch(16).breaker(breaker))
    });
    api.take_down(true);
    store(&shop).await;
    shop.advance(Duration::from_hours(1)).await;
    let InHand { deliveries, deliveries_max, .. } = queue(&mut shop).await;
    assert_eq!(deliveries_max, 2 * (8 * 512 + 16 + 512));
    assert!(deliveries <= deliveries_max, "{deliveries}");
    assert!(deliveries > 512 && deliveries < WAITING as usize / 2, "it is full: {deliveries}");
    api.take_down(false);
    shop.settle().await;
    let mut done = api.done();
    assert_eq!((done.len(), queue(&mut shop).await.deliveries), (WAITING as usize, 0));
    done.sort();
    done.dedup();
    assert_eq!(done.len(), WAITING as usize);
}
