//! Crashes at every point where they can make a difference: before and after each commit.

use std::thread;

use super::Harness;

/// When the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// At the commit of this number, before anything of it is stored.
    Before(u64),
    /// At the commit of this number, when it is stored and before anybody hears of it.
    After(u64),
}

impl Crash {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Before(number) | Self::After(number) => number,
        }
    }
}

/// Runs a scenario with a crash before and after every one of its commits, each time from the beginning, until there is
/// no commit left to crash at. Says how many crashes that were.
///
/// ```
/// # use {ensue_macros::Event, ensue_runtime::App, serde::{Deserialize, Serialize}};
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Order", key = order)]
/// # struct OrderPlaced { order: String }
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Payment", key = order)]
/// # struct PaymentCompleted { order: String }
/// # async fn take_payment(placed: OrderPlaced) -> PaymentCompleted { PaymentCompleted { order: placed.order } }
/// use ensue_test::{Harness, crash_everywhere};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let shop = || Harness::new(|app: App| app.external::<OrderPlaced>().react("take-payment", take_payment));
/// let crashes = crash_everywhere(shop, async |shop: &mut Harness| {
///     shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
///     shop.settle().await;
///     assert_eq!(shop.events().await, ["OrderPlaced", "PaymentCompleted"]);
/// })
/// .await;
/// assert!(crashes >= 6, "start, publish and settle are commits, each crashed at twice: {crashes}");
/// # }
/// ```
pub async fn crash_everywhere(harness: impl Fn() -> Harness, scenario: impl AsyncFn(&mut Harness)) -> u32 {
    for (crashes, crash) in (0..).zip((1..).flat_map(|number| [Crash::Before(number), Crash::After(number)]))
    {
        let said = SaidOnPanic(crash);
        let mut crashing = harness().crash_at(crash);
        scenario(&mut crashing).await;
        drop(said);
        if crashing.crashes() == 0 {
            return crashes;
        }
    }
    unreachable!("a scenario ends, so it has a last commit")
}

/// Names the crash under which an assertion of the scenario failed.
struct SaidOnPanic(Crash);

impl Drop for SaidOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the scenario failed with a crash at {:?}", self.0);
        }
    }
}
