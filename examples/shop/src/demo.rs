//! The demonstration: customers order, every order runs to its end, and the books of everybody are compared.
//!
//! Library part of `ensue demo`. The folder remembers what was asked for, so that a demonstration that was killed at any
//! moment is taken up where it stopped: orders carry ids of their own, so none is placed twice, and the ledgers outside
//! answer a repeated key with the first answer. On a store that can be shared, other processes may [`join`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ensue::{App, Code, Error, Host, Running, Store, StoreExt};
use serde::{Deserialize, Serialize};

use crate::Style;
use crate::outside::{self, Broken, Outside};

mod audit;
mod join;
mod linked;
mod plan;
mod render;
mod report;
mod sample;
mod serve;
mod watch;

use audit::Books;
pub use join::{Joined, join};
pub use linked::{LinkedConfig, Paid, Payments, serve_orders, trial};
use plan::Plan;
pub use render::{Setting, render};
pub use report::{BrokenOrder, Effects, Latency, MoneySums, Outcomes, Report, StockSums};
pub use sample::{Line, Sample};
use watch::Watch;

/// How long the services may take to finish what they have in hand.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How long it is waited for what another service has to say, and how often it is looked.
const LATE_MAX: Duration = Duration::from_mins(1);
const LATE_LOOK: Duration = Duration::from_millis(500);
/// What a small warehouse holds of each article.
const PIECES_PER_SKU_MIN: u64 = 250;
/// Most pieces of one article that an order of the generator asks for: with so many for each order none runs out, and
/// outcomes do not depend on who comes first.
const PIECES_PER_ORDER: u64 = 3;

/// What to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemoConfig {
    /// How many orders; a folder that is resumed keeps its number.
    pub orders: u64,
    /// How they are served; a folder that is resumed keeps its style.
    pub styles: Styles,
    /// How many of the orders are broken, so that there is something to find; a folder that is resumed keeps its number.
    pub broken: u64,
    /// Decides what is ordered and who is refused; a folder that is resumed keeps its seed.
    pub seed: u64,
    /// Where. One style lives in the folder itself, both in two folders below it.
    pub folder: PathBuf,
    /// The address of the store, where it is no log in that folder.
    pub database: Option<String>,
    /// Take up what is in the folder instead of beginning anew.
    pub resume: bool,
}

/// Which styles to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Styles {
    /// Services that react to each other.
    #[default]
    Choreography,
    /// Services that a saga conducts.
    Saga,
    /// One after the other.
    Both,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// In which style.
    pub style: Style,
    /// Orders that have ended.
    pub ended: u64,
    /// Orders that there will be.
    pub orders: u64,
}

/// Runs the demonstration; one report for each style. Stores are opened by the caller, who knows where they live.
///
/// Errors: `E0701` if more orders are to be broken than there are, or if the folder holds something already and is not to be
/// resumed; what a service reports when an order
/// cannot go on. A report whose [`findings`](Report::findings) are not empty says that the books disagree.
pub async fn run<Open>(
    config: &DemoConfig,
    open: Open,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Report>, Error>
where
    Open: AsyncFn(&Path) -> Result<Arc<dyn Store>, Error>,
{
    if config.resume && !config.folder.is_dir() {
        let message = format!("there is no demo to resume in {}", config.folder.display());
        return Err(Error::new(Code::NOT_A_STORE, message)
            .with_fix("check `--data DIR`; without `--resume` a demo begins there"));
    }
    if config.broken > config.orders && !config.resume {
        let message = format!("{} of {} orders cannot be broken", config.broken, config.orders);
        return Err(Error::new(Code::USAGE, message).with_fix("break at most as many orders as there are"));
    }
    let folders = folders(config);
    // Two folders are both styles, whatever the command line says when they are taken up.
    let styles = if folders.len() > 1 { Styles::Both } else { config.styles };
    let mut plan = Plan { styles, seed: config.seed, orders: config.orders, broken: config.broken };
    let mut reports = Vec::new();
    for folder in folders {
        let store = open(&folder).await?;
        let place = config.database.clone().unwrap_or_else(|| folder.display().to_string());
        plan = plan::agree(&*store, plan, config.resume, &place).await?;
        let style = plan.styles.of(&folder);
        let outside = Outside::open(&folder.join("outside"), plan.outside(style)).await?;
        let app = style.app(store, &outside);
        reports.push(show(plan, style, app, &outside, &mut progress).await?);
    }
    Ok(reports)
}

/// A world of its own in another folder, with the temper of the one that served this store: the same orders are refused there.
/// A store without a plan gets a world with the default temper.
pub async fn stand_in(store: &dyn Store, style: Style, folder: &Path) -> Result<Outside, Error> {
    let config = plan::known(store).await?.map(|plan| plan.outside(style)).unwrap_or_default();
    Outside::open(folder, config).await
}

/// One style, from the first order to the comparison of all books.
async fn show(
    plan: Plan,
    style: Style,
    app: App,
    outside: &Outside,
    progress: &mut impl FnMut(Progress),
) -> Result<Report, Error> {
    let host: Host = ensue::runtime::host::system();
    let running = app.host(host.clone()).start().await?;
    crate::linked::open(&running).await?;
    let started = host.clock.monotonic();
    let mut served = serve::serve(&running, &host, plan, style, progress).await?;
    let elapsed = host.clock.monotonic().saturating_sub(started);
    serve::wait_for_broken(&running, &host, &mut served).await?;
    let mut books = compare(&running, &host, outside, &served).await?;
    books.findings.extend(crate::linked::findings(&running).await?);
    let samples = sample::collect(&running, &served).await?;
    let events = running.store().head().await?.0;
    running.stop(STOP_WITHIN).await?;
    Ok(report::report(style, &served, books, outside, events, elapsed, samples))
}

/// Compares the books. What another service has to say may still be on its way over a link, and is waited for.
async fn compare(running: &Running, host: &Host, outside: &Outside, served: &Watch) -> Result<Books, Error> {
    let is_linked = !running.links().await?.is_empty();
    let deadline = host.clock.monotonic() + LATE_MAX;
    loop {
        let books = audit::compare(running, outside, served).await?;
        if books.findings.is_empty() || !is_linked || host.clock.monotonic() > deadline {
            return Ok(books);
        }
        host.clock.sleep(LATE_LOOK).await;
    }
}

/// The stores of this demonstration, in the order in which they are shown.
fn folders(config: &DemoConfig) -> Vec<PathBuf> {
    let below: Vec<PathBuf> = Style::ALL.iter().map(|style| config.folder.join(style.as_str())).collect();
    // A folder is taken up as it is, whatever the command line says now.
    let is_known_as_both = config.resume && below.iter().any(|folder| folder.is_dir());
    let is_both = config.styles == Styles::Both || is_known_as_both;
    if is_both { below } else { vec![config.folder.clone()] }
}

impl Plan {
    /// The style of the one store that it is for.
    fn style(self) -> Style {
        self.styles.of(Path::new(""))
    }

    fn broken(self, style: Style) -> Broken {
        Broken::some(self.seed, style, self.orders, self.broken)
    }

    fn outside(self, style: Style) -> outside::Config {
        let pieces_per_sku = PIECES_PER_SKU_MIN.max(self.orders.saturating_mul(PIECES_PER_ORDER));
        let broken = self.broken(style);
        outside::Config { seed: self.seed, pieces_per_sku, broken, ..outside::Config::default() }
    }
}

impl Styles {
    /// As it is written on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Saga => "saga",
            Self::Both => "both",
        }
    }

    /// This one alone.
    fn only(style: Style) -> Self {
        match style {
            Style::Choreography => Self::Choreography,
            Style::Saga => Self::Saga,
        }
    }

    /// The style that lives in this folder.
    fn of(self, folder: &Path) -> Style {
        match self {
            Self::Saga => Style::Saga,
            Self::Both if folder.ends_with(Style::Saga.as_str()) => Style::Saga,
            Self::Choreography | Self::Both => Style::Choreography,
        }
    }
}

impl fmt::Display for Styles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Styles {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found =
            [Self::Choreography, Self::Saga, Self::Both].into_iter().find(|style| style.as_str() == text);
        found.ok_or_else(|| {
            Error::new(Code::USAGE, format!("`{text}` is not a style"))
                .with_fix("use choreography, saga or both")
        })
    }
}
