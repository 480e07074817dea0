//! The shop as two services over the server: every order ends once, although the server is killed twice in mid-stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ensue::core::bus::Bus;
use ensue::core::{EventId, Query};
use ensue::{Read, Running, Store, StoreExt};
use ensue_shop::outside::{Config, Outside};
use ensue_shop::{linked, orders};
use ensue_test::MemoryStore;
use ensue_test::conformance::bus::{Broker, Fault};

use crate::given;

/// What an order ends with.
const ENDS: [&str; 3] = ["CustomerNotified", "PaymentFailed", "PaymentRefunded"];

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(ensue::runtime::host::system()))
}

/// How often each order has ended, as the service of orders sees it.
async fn ends(store: &dyn Store) -> BTreeMap<String, usize> {
    let types = ENDS.map(|name| name.parse().expect("a valid type"));
    let mut ends = BTreeMap::new();
    for recorded in store.collect(Read::query(Query::types(types))).await.expect("memory can be read") {
        *ends.entry(recorded.stream.key.to_string()).or_default() += 1;
    }
    ends
}

/// Waits until so many orders have ended.
async fn until(store: &dyn Store, count: usize) -> BTreeMap<String, usize> {
    loop {
        // Before the look, so that what comes in between is not waited for.
        let head = store.head().await.expect("memory can be read");
        let ends = ends(store).await;
        if ends.len() >= count {
            return ends;
        }
        store.advanced(head).await.expect("memory can be read");
    }
}

async fn assert_clean(running: &Running) {
    let letters = running.dead().list().await.expect("memory can be read");
    assert!(letters.is_empty(), "an outage parks nothing: {letters:?}");
    for link in running.links().await.expect("memory can be read") {
        assert_eq!((link.parked, link.unreadable, link.looped), (0, 0, 0), "{link:?}");
    }
}

async fn serve(count: usize) {
    let server = given::server().await;
    let bus: Arc<dyn Bus> = server.open().await.expect("the server runs");
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        payments_refused_percent: 15,
        shipments_refused_percent: 20,
        pieces_per_sku: 1 << 20,
        ..Config::default()
    };
    let outside = Outside::open(folder.path(), config).await.expect("a writable folder");
    let (one, two) = (memory(), memory());
    let shop = linked::orders(Arc::clone(&one), &outside, &bus).start().await.expect("it holds together");
    let bank = linked::payments(Arc::clone(&two), &outside, &bus).start().await.expect("it holds together");
    let placing = orders(7, count as u64).map(|order| {
        let id = EventId::new(format!("place-{}", order.order_id)).expect("a valid id");
        shop.publish_as(id, order)
    });
    for placed in placing {
        placed.await.expect("a valid order");
    }
    for part in [1, 2] {
        let ended = until(&*one, part * count / 4).await.len();
        server.strike(Fault::Kill).await;
        assert!(ended < count, "it was killed too late to be in mid-stream");
        server.strike(Fault::Start).await;
    }
    let ends = until(&*one, count).await;
    assert!(ends.values().all(|times| *times == 1), "every order ends once: {ends:?}");
    assert_eq!(outside.audit().expect("readable"), Vec::<String>::new(), "money and stock add up");
    assert_clean(&shop).await;
    assert_clean(&bank).await;
    for running in [shop, bank] {
        running.stop(Duration::from_secs(30)).await.expect("nothing is under way");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn two_hundred_orders_of_two_services_end_once_each_although_the_server_is_killed_twice() {
    serve(200).await;
}
