//! How often handlers were called, over all lives of the application.

use std::collections::BTreeMap;

use ensue_runtime::Running;

use super::Harness;

pub(super) type Calls = BTreeMap<String, u64>;

impl Harness {
    /// How often a reaction, or the handler of a command, was called so far, over all lives of the application: repeated
    /// attempts, and deliveries whose result was thrown away, are calls as well. An effect outside of the store may have taken
    /// hold as often. Handlers are named as in [`Harness::dead_letters`], such as `take-payment` or `handle.TakePayment`.
    ///
    /// ```
    /// # use {ensue_macros::Event, ensue_runtime::App, ensue_test::{Crash, Harness}, serde::{Deserialize, Serialize}};
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(crate = ensue_core, topic = "Order", key = order)]
    /// # struct OrderPlaced { order: String }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let shop = |app: App| app.external::<OrderPlaced>().react("take-payment", |_: OrderPlaced| async {});
    /// let mut shop = Harness::new(shop).deliver_twice();
    /// shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
    /// shop.settle().await;
    /// assert_eq!(shop.called("take-payment").await, 2);
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the application mounts no such handler.
    pub async fn called(&mut self, handler: &str) -> u64 {
        let calls = self.running().await.calls();
        let Some(now) = calls.get(handler) else {
            let known: Vec<String> = calls.keys().map(ToString::to_string).collect();
            panic!("there is no handler {handler}, but {}", known.join(", "))
        };
        now + self.calls.get(handler).copied().unwrap_or_default()
    }

    /// Keeps what is known of a life that ends.
    pub(super) fn keep_calls(&mut self, running: &Running) {
        for (handler, calls) in running.calls() {
            *self.calls.entry(handler.into()).or_default() += calls;
        }
    }
}
