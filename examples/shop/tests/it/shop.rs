//! A shop to test: a store in memory, ledgers in a folder, and the log as the tests read it.

use std::sync::Arc;
use std::time::Duration;

use ensue::core::{EventId, Query, Recorded};
use ensue::{App, EventSet, Read, Running, Store, StoreExt};
use ensue_shop::events::{OrderPlaced, ShopEvent};
use ensue_shop::outside::{Broken, Config, Outside};
use ensue_shop::{Style, orders};
use ensue_test::MemoryStore;

use crate::folder::Folder;

/// Refuses often, so that few orders show every end.
pub(crate) const STRICT: Config = Config {
    seed: 5,
    payments_refused_percent: 15,
    reservations_refused_percent: 15,
    shipments_refused_percent: 20,
    unanswered_percent: 0,
    pieces_per_sku: 5_000,
    broken: Broken::NONE,
};

pub(crate) struct Shop {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) style: Style,
    config: Config,
    folder: Folder,
}

impl Shop {
    pub(crate) fn new(name: &str, style: Style, config: Config) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(ensue::runtime::host::system()));
        Self { store, style, config, folder: Folder::new(&format!("{name}-{style}")) }
    }

    /// Opens the ledgers and starts the services.
    pub(crate) async fn start(&self) -> (Running, Outside) {
        let outside = Outside::open(self.folder.path(), self.config).await.expect("a writable folder");
        let app: App = self.style.app(Arc::clone(&self.store), &outside);
        (app.start().await.expect("an application that holds together"), outside)
    }

    /// Serves these orders from beginning to end.
    pub(crate) async fn serve(&self, count: u64) -> Outside {
        let (running, outside) = self.start().await;
        for order in orders(self.config.seed, count) {
            place(&running, order).await;
        }
        self.idle(&running).await;
        running.stop(Duration::from_secs(30)).await.expect("nothing is under way");
        outside
    }

    /// Waits until nothing of a dropped application works with the ledgers any more, as after the end of a process.
    pub(crate) async fn released(&self, outside: Outside) {
        while Arc::strong_count(&outside.provider) > 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Resolves when nothing is going on any more.
    pub(crate) async fn idle(&self, running: &Running) {
        idle(running, &*self.store).await;
    }

    /// All business events, in order.
    pub(crate) async fn events(&self) -> Vec<Recorded> {
        recorded(&*self.store).await
    }
}

/// Resolves when nothing is going on any more.
pub(crate) async fn idle(running: &Running, store: &dyn Store) {
    use ensue::runtime::app::Quiescence;
    while running.quiescence().await.expect("a store that answers") != Quiescence::Idle {
        assert_eq!(running.halted().len(), 0, "{:?}", running.halted());
        let head = store.head().await.expect("a store that answers");
        running.settled(head).await;
        tokio::task::yield_now().await;
    }
}

/// All business events, in order.
pub(crate) async fn recorded(store: &dyn Store) -> Vec<Recorded> {
    let types = ShopEvent::types();
    let types = types.iter().map(|info| info.event_type.parse().expect("a valid name"));
    store.collect(Read::query(Query::types(types))).await.expect("a store that answers")
}

/// Places an order under an id that belongs to it.
pub(crate) async fn place(running: &Running, order: OrderPlaced) -> bool {
    let id = EventId::new(format!("place-{}", order.order_id)).expect("a valid id");
    running.publish_as(id, order).await.expect("a valid order").repeated
}
