//! `ensue bench orders --style choreography|saga [--rate R] --seconds S`: what an order costs from end to end, with empty
//! bodies, on a scratch store.

use std::sync::Arc;

use clap::Args;
use ensue::log::{Config, Log};

use super::scratch::Scratch;
use crate::bench::orders::{Figures, Style, run};
use crate::command::Session;
use crate::failure::Failure;

/// Orders through five durable reactions, or a saga of four steps, with empty bodies
#[derive(Args)]
pub(crate) struct Orders {
    /// Which way an order goes
    #[arg(long, value_enum, default_value_t = Style::Choreography)]
    style: Style,
    /// Orders a second, whatever the response; without it as many as go through
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// For how long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

impl Orders {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.folder.path())?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let rate = self.rate.map(f64::from);
        let figures = run(Arc::new(log.clone()), self.style, rate, f64::from(self.seconds)).await?;
        log.close()?;
        drop(scratch);
        session.output.one(&figures, &in_words(&figures))?;
        Ok(())
    }
}

fn in_words(figures: &Figures) -> String {
    let latency = &figures.latency_us;
    format!(
        "{:.0} orders/s, {} orders\np50 {} µs, p99 {} µs, max {} µs from the first event to the last\n{:.1} s of processor, \
         {:.0} MiB of memory",
        figures.orders_per_s,
        figures.orders,
        latency.p50,
        latency.p99,
        latency.max,
        figures.cpu_s,
        figures.rss_mb
    )
}
