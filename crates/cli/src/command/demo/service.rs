//! `ensue demo --service`: one of the two services of the shop, over the links of a file.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use ensue::App;
use ensue::core::{Bus, Error};
use ensue_shop::demo::{self, LinkedConfig, Payments, Report};

use crate::command::Session;
use crate::ending::Ending;
use crate::failure::Failure;
use crate::link::{File, Link};

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Service {
    /// Places orders and serves them, until each has ended
    Orders,
    /// Takes the money, until SIGTERM
    Payments,
}

/// The links of a file, connected.
pub(super) struct Links(Vec<(String, Link, Arc<dyn Bus>)>);

impl Links {
    pub(super) async fn open(config: &Path) -> Result<Self, Error> {
        let mut links = Vec::new();
        for (name, link) in File::read(config)?.links {
            let bus = link.open(&name).await?;
            links.push((name, link, bus));
        }
        Ok(Self(links))
    }

    fn mount(&self, app: App) -> App {
        self.0.iter().fold(app, |app, (name, link, bus)| link.mount(name, bus, app))
    }
}

/// Places orders and serves them.
pub(super) async fn orders(
    config: &LinkedConfig,
    links: &Links,
    session: &mut Session,
) -> Result<Report, Failure> {
    let store = session.place.open_or_make().await?;
    let bar = super::bar(config.orders, session.output.is_quiet());
    let link = |app| links.mount(app);
    let report = demo::serve_orders(config, store, link, |progress| super::show(&bar, progress)).await?;
    bar.finish_and_clear();
    Ok(report)
}

/// Takes the money until the process is told to end.
pub(super) async fn payments(
    config: &LinkedConfig,
    links: &Links,
    session: &mut Session,
) -> Result<(), Failure> {
    let mut ending = Ending::new()?;
    let store = session.place.open_or_make().await?;
    let payments = Payments::start(config, store, |app| links.mount(app)).await?;
    session.output.say("payments: the links are up; SIGTERM or Ctrl-C ends it");
    ending.wait().await;
    let paid = payments.stop().await?;
    let words = format!("payments · served for {:.1} s, {} calls of handlers", paid.elapsed_s, paid.calls);
    session.output.one(&paid, &words)?;
    super::agree(&paid.findings)
}
