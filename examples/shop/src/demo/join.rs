//! A process more for a demonstration that another one runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ensue::{Code, Error, Host, Store};
use serde::Serialize;

use super::report::rounded;
use super::{Progress, STOP_WITHIN, plan, serve};
use crate::Style;
use crate::outside::Outside;

/// What a process did that joined.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Joined {
    /// How orders are served there.
    #[serde(skip)]
    pub style: Style,
    /// Orders of the plan; all have ended that are not broken.
    pub orders: u64,
    /// How often handlers were called in this process, repeated attempts included.
    pub calls: u64,
    /// Since this process joined.
    pub elapsed_s: f64,
}

/// Takes part in the demonstration that runs on this store, and places no order of its own: resolves when every order of the
/// plan has ended. The ledgers outside are those in `folder`. It may end at any moment, and come back; so may the one that
/// places the orders.
///
/// Errors: `E0506` if the store cannot be shared, `E0406` if it holds no demonstration; what a service reports when an order
/// cannot go on.
pub async fn join(
    folder: &Path,
    store: Arc<dyn Store>,
    mut progress: impl FnMut(Progress),
) -> Result<Joined, Error> {
    if !store.capabilities().can_share {
        let message = format!("{} has one process at a time", store.capabilities().name);
        return Err(Error::new(Code::UNSUPPORTED, message)
            .with_fix("share a database: `--store postgres://…` or `--store sqlite:FILE`"));
    }
    let plan = plan::known(&*store).await?.ok_or_else(|| {
        Error::new(Code::NOT_A_STORE, "there is no demo to join on this store")
            .with_fix("begin one first: `ensue demo` without `--join`")
    })?;
    let style = plan.style();
    let host: Host = ensue::runtime::host::system();
    let outside = Outside::open(&folder.join("outside"), plan.outside(style)).await?;
    let running = style.app(Arc::clone(&store), &outside).host(host.clone()).start().await?;
    let started = host.clock.monotonic();
    serve::follow(&running, &host, plan, style, &mut progress).await?;
    let elapsed: Duration = host.clock.monotonic().saturating_sub(started);
    let calls = running.calls().values().sum();
    running.stop(STOP_WITHIN).await?;
    Ok(Joined { style, orders: plan.orders, calls, elapsed_s: rounded(elapsed.as_secs_f64(), 1_000.0) })
}
