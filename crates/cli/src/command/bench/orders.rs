//! `ensue bench orders --style choreography|saga [--rate R] --seconds S`: orders through the runtime, measured on a
//! scratch store beside the folder of `--data`.

use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ensue::log::{Config, Log, floor};
use serde::Serialize;

use super::load::{self, Figures, Style};
use super::scratch::Scratch;
use crate::command::Session;
use crate::failure::Failure;

/// Orders through five reactions, or a saga of four steps, with empty bodies
#[derive(Args)]
pub(crate) struct Orders {
    /// Which way an order goes
    #[arg(long, value_enum, default_value_t = Style::Choreography)]
    style: Style,
    /// Orders a second, whatever the response; without it as many as go through
    #[arg(long, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    rate: Option<u32>,
    /// For how long
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<u32>::new().range(1..=86_400))]
    seconds: u32,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    figures: Figures,
    floor: super::MeasuredFloor,
    mode: &'static str,
}

impl Orders {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.folder.path())?;
        let floor = floor::floor(scratch.path(), &*session.host.clock)?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let (rate, seconds) = (self.rate.map(f64::from), f64::from(self.seconds));
        let figures = load::run(Arc::new(log.clone()), self.style, rate, seconds).await?;
        log.close()?;
        let floor_us = floor.sync_write_4k_us_p50;
        let words = format!(
            "{:.0} orders/s ({} orders)\np50 {} µs, p99 {} µs, max {} µs, from order to last event\n{:.1} s of CPU, {:.0} MB at \
             most\nfloor {floor_us} µs: one synced write of 4 KiB here, by {}",
            figures.orders_per_s,
            figures.orders,
            figures.latency_us.p50,
            figures.latency_us.p99,
            figures.latency_us.max,
            figures.cpu_s,
            figures.rss_mb,
            floor.mode.name(),
        );
        let floor_of = super::MeasuredFloor { sync_write_4k_us_p50: floor_us };
        session.output.one(&Measured { figures, floor: floor_of, mode: floor.mode.name() }, &words)?;
        Ok(())
    }
}
