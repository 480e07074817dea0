//! The shop as several processes on one log: real threads and a real folder, and processes that go in the middle of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ensue::runtime::projection::verify;
use ensue::runtime::sharing::{Sharing, lanes};
use ensue::{Running, Store};
use ensue_shop::order::OrdersView;
use ensue_shop::outside::Outside;
use ensue_shop::{Style, orders};

use crate::folder::Folder;
use crate::shop::{STRICT, idle, place, recorded};

const ORDERS: u64 = 150;
/// As by default, in a tenth of the time.
const QUICK: Sharing = Sharing {
    heartbeat: Duration::from_millis(100),
    lease: Duration::from_millis(300),
    look: Duration::from_millis(5),
};

async fn start(style: Style, store: &Arc<dyn Store>, outside: &Outside) -> Running {
    let app = style.app(Arc::clone(store), outside).share(QUICK);
    app.start().await.expect("an application that holds together")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_log_serve_every_order_once_whoever_goes() {
    for style in Style::ALL {
        let folder = Folder::new(&format!("several-{style}"));
        let log = ensue::open(folder.path().join("log")).await.expect("a writable folder");
        let store: Arc<dyn Store> = Arc::new(log);
        let outside = Outside::open(&folder.path().join("outside"), STRICT).await.expect("a writable folder");
        let mut up = Vec::new();
        for _ in 0..3 {
            up.push(start(style, &store, &outside).await);
        }
        for (number, order) in (0..).zip(orders(STRICT.seed, ORDERS)) {
            place(up.last().expect("one is always up"), order).await;
            match number {
                // Dropped, it ends without a word; whatever it had in hand is done again by others.
                40 => drop(up.remove(0)),
                80 => up.remove(0).stop(Duration::from_secs(30)).await.expect("it ends in good order"),
                100 => up.push(start(style, &store, &outside).await),
                _ => {}
            }
        }
        for running in &up {
            idle(running, &*store).await;
        }
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for recorded in recorded(&*store).await {
            *ends.entry(recorded.envelope.event_type.to_string()).or_default() += 1;
        }
        let count = |event: &str| ends.get(event).copied().unwrap_or_default();
        assert_eq!(count("OrderPlaced") as u64, ORDERS);
        assert_eq!(
            count("PaymentCompleted") + count("PaymentFailed"),
            count("OrderPlaced"),
            "{style}: {ends:?}"
        );
        assert_eq!(
            count("StockReserved") + count("InventoryFailed"),
            count("PaymentCompleted"),
            "{style}: {ends:?}"
        );
        assert_eq!(
            count("ShipmentCreated") + count("ShipmentFailed"),
            count("StockReserved"),
            "{style}: {ends:?}"
        );
        assert_eq!(
            count("PaymentRefunded"),
            count("InventoryFailed") + count("ShipmentFailed"),
            "{style}: {ends:?}"
        );
        assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
        let difference = verify(OrdersView, Arc::clone(&store)).await.expect("a store that answers");
        assert!(difference.is_none() && difference.documents == ORDERS, "{style}: {difference:?}");
        let lanes = lanes(&*store).await.expect("a store that answers");
        let ids: Vec<_> = up.iter().map(Running::member).collect();
        assert!(ids.iter().all(|id| lanes.iter().any(|lane| lane.owner == Some(*id))), "{lanes:?}");
        assert!(lanes.iter().filter(|lane| lane.epoch > 1).count() > lanes.len() / 2, "lanes changed hands");
    }
}
