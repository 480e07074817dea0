//! Bad luck of the broker. Each case asserts that it happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensue_core::Kind;
use ensue_core::bus::{Bus, Consumer, Declare, Outgoing, Settled, Topology};
use ensue_core::name::Channel;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::words::{
    channel, declare, id, ids, join, message, next, open, pause, publish, publish_stubbornly, take,
};
use super::{Broker, Fault};

/// Messages that are published one by one and taken meanwhile by a group, without end until it is told: so whatever strikes is in
/// mid-stream, also where this machine was busy elsewhere for a moment.
struct Traffic {
    confirmed: Arc<AtomicUsize>,
    may_end: oneshot::Sender<()>,
    publishing: JoinHandle<usize>,
    /// How many there are in the end.
    published: watch::Sender<Option<usize>>,
    taking: JoinHandle<BTreeSet<String>>,
}

impl Traffic {
    fn start(broker: &Arc<dyn Broker>, bus: &Arc<dyn Bus>, to: &Channel, at_least: usize) -> Self {
        let confirmed = Arc::new(AtomicUsize::new(0));
        let (may_end, mut is_over) = oneshot::channel();
        let (published, in_the_end) = watch::channel(None);
        let publishing = tokio::spawn({
            let (bus, to, confirmed) = (Arc::clone(bus), to.clone(), Arc::clone(&confirmed));
            async move {
                let mut number = 0;
                while number < at_least || is_over.try_recv().is_err() {
                    publish_stubbornly(&bus, message(&to, "A", &format!("event-{number}"))).await;
                    number = confirmed.fetch_add(1, Ordering::SeqCst) + 1;
                }
                number
            }
        });
        let taking = tokio::spawn({
            let (broker, bus, to) = (Arc::clone(broker), Arc::clone(bus), to.clone());
            async move { take_until(&bus, join(&broker, &bus, &to, "one").await, in_the_end).await }
        });
        Self { confirmed, may_end, publishing, published, taking }
    }

    /// Waits until this many are confirmed; there are more to come.
    async fn await_confirmed(&self, count: usize) {
        while self.confirmed.load(Ordering::SeqCst) < count {
            assert!(!self.publishing.is_finished(), "a message was refused for good");
            pause().await;
        }
    }

    /// Asserts that everything came.
    async fn end(self) {
        let _publisher_has_failed = self.may_end.send(()).is_err();
        let published = self.publishing.await.expect("everything is confirmed in the end");
        self.published.send_replace(Some(published));
        let came = self.taking.await.expect("everything that was confirmed comes");
        assert_eq!(came, ids("event", published).into_iter().collect());
    }
}

/// Takes and acknowledges until as many have come as there are in the end.
async fn take_until(
    bus: &Arc<dyn Bus>,
    mut consumer: Box<dyn Consumer>,
    mut published: watch::Receiver<Option<usize>>,
) -> BTreeSet<String> {
    let mut came = BTreeSet::new();
    while published.borrow_and_update().is_none_or(|published| came.len() < published) {
        let deliveries = tokio::select! {
            deliveries = next(&mut consumer) => deliveries,
            Ok(()) = published.changed() => continue,
        };
        came.extend(deliveries.iter().map(|delivery| id(bus, delivery)));
        // One that is not settled comes again.
        drop(consumer.settle(deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect()).await);
    }
    came
}

pub(super) async fn a_broker_killed_twice_in_mid_stream_loses_nothing(broker: Arc<dyn Broker>) {
    const MESSAGES: usize = 600;
    let (bus, orders) = (open(&broker).await, channel("killed"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    broker.keep_topology().await;
    let traffic = Traffic::start(&broker, &bus, &orders, MESSAGES);
    for part in [1, 2] {
        traffic.await_confirmed(part * MESSAGES / 4).await;
        broker.strike(Fault::Kill).await;
        assert!(!broker.is_alive(), "the broker was not killed");
        // A client that connects again in time would hide that it was gone.
        assert_publishing_fails(&bus, message(&orders, "A", "event-0")).await;
        broker.strike(Fault::Start).await;
        assert!(broker.is_alive(), "the broker is back");
    }
    traffic.end().await;
}

/// One that is not confirmed may be kept all the same, so it is to be one that may come twice.
async fn assert_publishing_fails(bus: &Arc<dyn Bus>, outgoing: Outgoing) {
    let answer = bus.publish(vec![outgoing]).await.pop().expect("an answer for each");
    let error = answer.expect_err("a broker that is gone confirms nothing");
    assert!(error.is_retryable(), "{error:?}");
}

pub(super) async fn connections_cut_in_mid_stream_lose_nothing(broker: Arc<dyn Broker>) {
    const MESSAGES: usize = 600;
    const CUTS: usize = 5;
    let bus = broker.open_tunnelled().await.expect("the broker runs");
    let orders = channel("cut");
    declare(&broker, &bus, &[&orders], &["one"]).await;
    let traffic = Traffic::start(&broker, &bus, &orders, MESSAGES);
    for part in 1..=CUTS {
        traffic.await_confirmed(part * MESSAGES / (CUTS + 2)).await;
        // A client of HTTP may have no connection between two calls.
        while broker.cut() == 0 {
            pause().await;
        }
        assert!(broker.is_alive(), "only the connection was to go");
    }
    traffic.end().await;
}

pub(super) async fn a_broker_paused_for_30_seconds_confirms_nothing_and_goes_on(broker: Arc<dyn Broker>) {
    const PAUSE: Duration = Duration::from_secs(30);
    let (bus, orders) = (open(&broker).await, channel("paused"));
    declare(&broker, &bus, &[&orders], &["one"]).await;
    publish(&bus, vec![message(&orders, "A", "before")]).await;
    let mut consumer = join(&broker, &bus, &orders, "one").await;
    broker.strike(Fault::Pause).await;
    let paused_at = Instant::now();
    while paused_at.elapsed() < PAUSE {
        let answer = bus.publish(vec![message(&orders, "A", "paused")]).await.pop();
        let error =
            answer.expect("an answer for each").expect_err("a broker that stands still confirms nothing");
        assert!(error.is_retryable(), "{error:?}");
        pause().await;
    }
    assert!(broker.is_alive(), "it stood still and was not gone");
    broker.strike(Fault::Resume).await;
    publish_stubbornly(&bus, message(&orders, "A", "paused")).await;
    // The one that joined before the pause goes on.
    take(&bus, &mut consumer, &["before".to_owned(), "paused".to_owned()]).await;
}

pub(super) async fn a_broker_that_is_absent_at_the_start_is_found_later(broker: Arc<dyn Broker>) {
    let orders = channel("absent");
    {
        let bus = open(&broker).await;
        declare(&broker, &bus, &[&orders], &["one"]).await;
        broker.keep_topology().await;
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
