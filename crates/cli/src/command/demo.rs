//! `ensue demo`: the shop or the bank on a folder, what happened, and what to look at next.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ensue::core::{Code, Error, Store};
use ensue::log::{Config, Log, floor};
use ensue_shop::Style;
use ensue_shop::demo::{self, DemoConfig, LinkedConfig, Progress, Report, Setting, Styles};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::command::Session;
use crate::failure::Failure;
use service::Service;

mod service;

/// Run the shop or the bank on a folder, and say what happened
#[derive(Args)]
pub(crate) struct Demo {
    /// Which application
    #[arg(long, value_enum, default_value_t = Application::Shop)]
    app: Application,
    /// How many orders
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    orders: u64,
    /// `choreography`: services that react to each other; `saga`: a saga that conducts them; `both`, in two folders below
    #[arg(long, default_value_t = Styles::Choreography)]
    style: Styles,
    /// Break so many of the orders, in different ways, so that `flow stuck` has something to find
    #[arg(long, default_value_t = 0, value_name = "K")]
    r#break: u64,
    /// Decides what is ordered and who is refused
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take up what is in the folder, however it ended
    #[arg(long)]
    resume: bool,
    /// Take part in the demo that runs on this store: place no order, work until all of its orders have ended
    #[arg(long, conflicts_with_all = ["orders", "style", "break", "seed", "resume"])]
    join: bool,
    /// Run one of two services that a broker links, each with a store of its own. Start `payments` first
    #[arg(long, value_enum, requires = "config", conflicts_with_all = ["style", "break", "join", "app"])]
    service: Option<Service>,
    /// The file with the `[links.NAME]` tables of the service
    #[arg(long, value_name = "FILE", requires = "service")]
    config: Option<PathBuf>,
    /// Where payment provider, warehouse and carrier have their books, the same for both services; below the data otherwise
    #[arg(long, value_name = "DIR", requires = "service")]
    outside: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Application {
    Shop,
    Bank,
}

impl Demo {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        if let (Some(service), Some(config)) = (self.service, self.config.clone()) {
            return self.service(service, &config, session).await;
        }
        match self.app {
            Application::Shop if self.join => join(session).await,
            Application::Shop => self.shop(session).await,
            Application::Bank => {
                self.check_bank()?;
                bank(session).await
            }
        }
    }

    /// The bank does the same every time.
    fn check_bank(&self) -> Result<(), Error> {
        let shop_only = [("--break", self.r#break > 0), ("--resume", self.resume), ("--join", self.join)];
        let Some((argument, _)) = shop_only.into_iter().find(|(_, is_given)| *is_given) else {
            return Ok(());
        };
        Err(Error::new(Code::USAGE, format!("the bank does not take `{argument}`"))
            .with_fix("leave it out, or use `--app shop`"))
    }

    async fn shop(self, session: &mut Session) -> Result<(), Failure> {
        let folder = session.place.folder().to_owned();
        let database = session.place.database().map(ToString::to_string);
        if database.is_some() && self.style == Styles::Both {
            return Err(Error::new(Code::USAGE, "both styles at once need two stores, and one is named")
                .with_fix("show one style at a time, each in a database of its own")
                .into());
        }
        let config = DemoConfig {
            orders: self.orders,
            styles: self.style,
            broken: self.r#break,
            seed: self.seed,
            folder: folder.clone(),
            database: database.clone(),
            resume: self.resume,
        };
        let bar = bar(self.orders, session.output.is_quiet());
        let host = session.host.clone();
        let place = &session.place;
        let open = async |at: &Path| -> Result<Arc<dyn Store>, Error> {
            if place.database().is_some() {
                return place.open_or_make().await;
            }
            let store: Arc<dyn Store> = Arc::new(Log::open(at, Config::new(host.clone()))?);
            Ok(store)
        };
        let reports = demo::run(&config, open, |progress| show(&bar, progress)).await?;
        bar.finish_and_clear();
        tell(&reports, session)
    }

    async fn service(self, service: Service, config: &Path, session: &mut Session) -> Result<(), Failure> {
        let links = service::Links::open(config).await?;
        let linked = LinkedConfig {
            style: Style::Choreography,
            orders: self.orders,
            seed: self.seed,
            outside: self.outside.unwrap_or_else(|| session.place.folder().join("outside")),
            resume: self.resume,
        };
        match service {
            Service::Payments => service::payments(&linked, &links, session).await,
            Service::Orders => {
                let report = service::orders(&linked, &links, session).await?;
                tell(&[report], session)
            }
        }
    }
}

/// What happened, in words or as a document; an error if the books disagree.
fn tell(reports: &[Report], session: &mut Session) -> Result<(), Failure> {
    let (folder, database) =
        (session.place.folder().to_owned(), session.place.database().map(ToString::to_string));
    // The floor is for comparison: a report is not lost because it cannot be measured.
    let durability = match floor::floor(&folder, &*session.host.clock) {
        _ if database.is_some() => "as durable as the database is".to_owned(),
        Ok(floor) => format!("durable: {}, floor {} µs", floor.mode.name(), floor.sync_write_4k_us_p50),
        Err(error) => format!("durable; the floor cannot be measured: {error}"),
    };
    let is_default = folder == Path::new("./ensue-data");
    let words: Vec<String> = reports
        .iter()
        .map(|report| {
            let folder = if reports.len() > 1 { folder.join(report.style.as_str()) } else { folder.clone() };
            let setting = Setting {
                folder: &folder,
                database: database.as_deref(),
                is_default: is_default && reports.len() == 1,
                durability: &durability,
            };
            demo::render(report, setting)
        })
        .collect();
    let by_style: BTreeMap<&str, &Report> =
        reports.iter().map(|report| (report.style.as_str(), report)).collect();
    session.output.one(&by_style, words.join("\n").trim_end())?;
    agree(&reports.iter().flat_map(|report| report.findings.clone()).collect::<Vec<_>>())
}

/// A process more for a demonstration that runs.
async fn join(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open().await?;
    let bar = bar(0, session.output.is_quiet());
    let joined = demo::join(session.place.folder(), store, |progress| show(&bar, progress)).await?;
    bar.finish_and_clear();
    let words = format!(
        "shop · joined for {:.1} s: {} orders of {} have ended, {} calls of handlers were made here",
        joined.elapsed_s, joined.orders, session.place, joined.calls
    );
    session.output.one(&BTreeMap::from([(joined.style.as_str(), &joined)]), &words)?;
    Ok(())
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.orders);
    bar.set_position(progress.ended);
    bar.set_message(progress.style.as_str());
}

/// A demonstration whose books disagree has failed.
fn agree(findings: &[String]) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::CHECK_FAILED, format!("the books disagree: {}", findings.join("; "))).into())
}

async fn bank(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open_or_make().await?;
    let report = ensue_bank::demo(store).await?;
    session.output.one(&report, ensue_bank::demo::render(&report).trim_end())?;
    Ok(())
}

/// Orders done, rate and time left, on a terminal.
fn bar(orders: u64, is_quiet: bool) -> ProgressBar {
    let is_shown = !is_quiet && std::io::stderr().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left");
    let bar = ProgressBar::with_draw_target(Some(orders), target);
    bar.set_style(style.expect("the template is a constant"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
