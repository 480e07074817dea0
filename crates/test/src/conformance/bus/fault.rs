//! Bad luck of the broker. Each case asserts that it happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ensue_core::Kind;
use ensue_core::bus::{Declare, Topology};

use super::words::{channel, declare, ids, join, message, open, publish_stubbornly, take};
use super::{Broker, Fault};

pub(super) async fn a_broker_killed_twice_in_mid_stream_loses_nothing(broker: Arc<dyn Broker>) {
    const MESSAGES: usize = 600;
    let (bus, orders) = (open(&broker).await, channel("killed"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let confirmed = Arc::new(AtomicUsize::new(0));
    let publishing = {
        let (bus, orders, confirmed) = (Arc::clone(&bus), orders.clone(), Arc::clone(&confirmed));
        tokio::spawn(async move {
            let mut failures = 0;
            for id in ids("event", MESSAGES) {
                failures += publish_stubbornly(&bus, message(&orders, "A", &id)).await;
                confirmed.fetch_add(1, Ordering::SeqCst);
            }
            failures
        })
    };
    let taking = {
        let (broker, bus, orders) = (Arc::clone(&broker), Arc::clone(&bus), orders.clone());
        tokio::spawn(async move {
            let mut consumer = join(&broker, &bus, &orders, "one").await;
            take(&bus, &mut consumer, &ids("event", MESSAGES)).await
        })
    };
    for part in [1, 2] {
        while confirmed.load(Ordering::SeqCst) < part * MESSAGES / 4 {
            tokio::task::yield_now().await;
        }
        broker.strike(Fault::Kill).await;
        assert!(!broker.is_alive(), "the broker was not killed");
        let at_kill = confirmed.load(Ordering::SeqCst);
        assert!(at_kill < MESSAGES, "it was killed too late to be in mid-stream");
        broker.strike(Fault::Start).await;
        assert!(broker.is_alive(), "the broker is back");
    }
    let failures = publishing.await.expect("everything is confirmed in the end");
    assert!(failures >= 2, "publishing failed {failures} times although the broker was killed twice");
    let came = taking.await.expect("everything that was confirmed comes");
    let mut once = came.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), MESSAGES, "{} came", came.len());
}

pub(super) async fn a_paused_broker_confirms_nothing_and_goes_on(broker: Arc<dyn Broker>) {
    let (bus, orders) = (open(&broker).await, channel("paused"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    broker.strike(Fault::Pause).await;
    let answer = bus.publish(vec![message(&orders, "A", "paused")]).await.pop().expect("an answer for each");
    let error = answer.expect_err("a broker that stands still confirms nothing");
    assert!(error.is_retryable(), "{error:?}");
    broker.strike(Fault::Resume).await;
    publish_stubbornly(&bus, message(&orders, "A", "paused")).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    take(&bus, &mut consumer, &["paused".to_owned()]).await;
}

pub(super) async fn a_broker_that_is_absent_at_the_start_is_found_later(broker: Arc<dyn Broker>) {
    let orders = channel("absent");
    {
        let bus = open(&broker).await;
        declare(&broker, &bus, &[&orders], &["one"]).await;
    }
    broker.strike(Fault::Kill).await;
    assert!(!broker.is_alive(), "the broker was not killed");
    let bus = open(&broker).await;
    let answer = bus.publish(vec![message(&orders, "A", "early")]).await.pop().expect("an answer for each");
    let error = answer.expect_err("nobody is there");
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    broker.strike(Fault::Start).await;
    publish_stubbornly(&bus, message(&orders, "A", "later")).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    assert_eq!(take(&bus, &mut consumer, &["later".to_owned()]).await, ["later"]);
}

pub(super) async fn wrong_credentials_are_refused(broker: Arc<dyn Broker>) {
    let topology = Topology { targets: vec![channel("denied")], sources: Vec::new() };
    let error = match broker.open_denied().await {
        Err(error) => error,
        Ok(bus) => bus.declare(&topology, Declare::Make).await.expect_err("the broker lets nobody in"),
    };
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    let bus = open(&broker).await;
    bus.declare(&topology, Declare::Make).await.expect("the right ones are let in");
}
