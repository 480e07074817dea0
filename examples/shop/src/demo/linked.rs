//! The demonstration as two services that a broker links: one places the orders and compares the books, one takes the money.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::Bus;
use ensue::{App, Code, Error, Host, Running, Store};
use serde::Serialize;
use tokio::sync::watch;

use super::plan::{self, Plan};
use super::report::rounded;
use super::{Progress, Report, STOP_WITHIN, Styles, show};
use crate::Style;
use crate::linked::{self, Places};
use crate::outside::{Config, Outside, Provider};

/// What is asked of the two services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkedConfig {
    /// How the two work together.
    pub style: Style,
    /// How many orders; a store that is resumed keeps its number.
    pub orders: u64,
    /// Decides what is ordered and who is refused; the same for both.
    pub seed: u64,
    /// Where provider, warehouse and carrier have their ledgers; the same for both.
    pub outside: PathBuf,
    /// Take up what is in the store instead of beginning anew.
    pub resume: bool,
}

/// What the service did that takes the money.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Paid {
    /// How often handlers were called, repeated attempts included.
    pub calls: u64,
    /// Since it served.
    pub elapsed_s: f64,
    /// What is wrong with its links; empty where all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Places orders and serves them, until each has ended. The links are the caller's, who knows the broker.
pub async fn serve_orders(
    config: &LinkedConfig,
    store: Arc<dyn Store>,
    link: impl FnOnce(App) -> App,
    mut progress: impl FnMut(Progress),
) -> Result<Report, Error> {
    let (style, seed, orders) = (config.style, config.seed, config.orders);
    let wanted = Plan { styles: Styles::only(style), seed, orders, broken: 0 };
    let place = config.outside.display().to_string();
    let plan = plan::agree(&*store, wanted, config.resume, &place).await?;
    let outside = Outside::open(&config.outside, plan.outside(style)).await?;
    let app = link(linked::orders(style, store, &outside));
    show(plan, style, app, &outside, &mut progress).await
}

/// The service that takes the money.
pub struct Payments {
    running: Running,
    host: Host,
    started: Duration,
}

impl Payments {
    /// Starts, and returns when all it takes in can come.
    pub async fn start(
        config: &LinkedConfig,
        store: Arc<dyn Store>,
        link: impl FnOnce(App) -> App,
    ) -> Result<Self, Error> {
        let host: Host = ensue::runtime::host::system();
        let behaviour = Config { seed: config.seed, ..Config::default() };
        let provider = Arc::new(Provider::open(&config.outside.join("payments"), behaviour)?);
        let running =
            link(linked::payments(config.style, store, &provider)).host(host.clone()).start().await?;
        linked::open(&running).await?;
        let started = host.clock.monotonic();
        Ok(Self { running, host, started })
    }

    /// Finishes what is in hand.
    pub async fn stop(self) -> Result<Paid, Error> {
        let elapsed = self.host.clock.monotonic().saturating_sub(self.started);
        let (calls, findings) = (self.running.calls().values().sum(), linked::findings(&self.running).await?);
        self.running.stop(STOP_WITHIN).await?;
        Ok(Paid { calls, elapsed_s: rounded(elapsed.as_secs_f64(), 1_000.0), findings })
    }
}

/// Both services in one process, with a log for each in `folder`, over a broker that is struck twice in mid-stream: when a quarter and
/// when half of the orders have ended. What the report finds is wrong with the orders, the books or the links.
///
/// Errors: what a service reports when an order cannot go on, and `E0702` if all was over before the broker was struck.
pub async fn trial(
    folder: &Path,
    (bus, places): (&Arc<dyn Bus>, Places),
    (style, orders): (Style, u64),
    strike: impl AsyncFn(),
) -> Result<Report, Error> {
    let config = LinkedConfig { style, orders, seed: 7, outside: folder.join("outside"), resume: false };
    let theirs = Arc::new(ensue::open(folder.join("payments")).await?);
    let link = |app| linked::link_payments(style, app, bus, places);
    let payments = Payments::start(&config, theirs, link).await?;
    let (told, ended) = watch::channel(0);
    let ours = Arc::new(ensue::open(folder.join("orders")).await?);
    let link = |app| linked::link_orders(style, app, bus, places);
    let serving = serve_orders(&config, ours, link, |progress: Progress| {
        told.send_replace(progress.ended);
    });
    let (mut report, ()) = tokio::try_join!(serving, strike_twice(ended, orders, strike))?;
    report.findings.extend(payments.stop().await?.findings);
    let ends = report.outcomes;
    let each = [ends.completed, ends.payment_failed, ends.inventory_failed, ends.shipping_failed];
    if ends.ended() != orders || each.contains(&0) {
        report.findings.push(format!("{orders} orders should have come to each end: {ends:?}"));
    }
    Ok(report)
}

async fn strike_twice(
    mut ended: watch::Receiver<u64>,
    orders: u64,
    strike: impl AsyncFn(),
) -> Result<(), Error> {
    for part in [1, 2] {
        let at_strike =
            ended.wait_for(|ended| *ended >= part * orders / 4).await.map_or(orders, |ended| *ended);
        if at_strike >= orders {
            return Err(Error::new(Code::CHECK_FAILED, "all was over before the broker was struck"));
        }
        strike().await;
    }
    Ok(())
}
