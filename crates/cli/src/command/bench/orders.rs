//! `ensue bench orders --style choreography|saga [--rate R] --seconds S`: what an order costs from end to end, with empty
//! bodies, on a scratch store.

use std::sync::Arc;

use clap::Args;
use ensue::log::{Config, Floor, Log, floor};
use serde::Serialize;

use super::MeasuredFloor;
use super::load::{Figures, Style, application, run};
use crate::command::Session;
use crate::failure::Failure;
use crate::scratch::Scratch;

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
    /// Keep no index of flows, to see what it costs
    #[arg(long)]
    without_flow_index: bool,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    figures: Figures,
    floor: MeasuredFloor,
    mode: &'static str,
}

impl Orders {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.place.folder())?;
        let floor = floor::floor(scratch.path(), &*session.host.clock)?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let mut app = application(self.style);
        if self.without_flow_index {
            app = app.without_flow_index();
        }
        let figures = run(app, Arc::new(log.clone()), self.rate, self.seconds).await?;
        log.close()?;
        drop(scratch);
        let words = in_words(&figures, floor);
        let sync_write_4k_us_p50 = floor.sync_write_4k_us_p50;
        let measured =
            Measured { figures, floor: MeasuredFloor { sync_write_4k_us_p50 }, mode: floor.mode.name() };
        session.output.one(&measured, &words)?;
        Ok(())
    }
}

fn in_words(figures: &Figures, floor: Floor) -> String {
    let latency = &figures.latency_us;
    format!(
        "{:.0} orders/s, {} orders\np50 {} µs, p95 {} µs, p99 {} µs, max {} µs from when an order was due to its last event\n\
         {:.1} s of processor, {:.0} MiB of memory\nfloor {} µs: one synced write of 4 KiB here, by {}",
        figures.orders_per_s,
        figures.orders,
        latency.p50,
        latency.p95,
        latency.p99,
        latency.max,
        figures.cpu_s,
        figures.rss_mb,
        floor.sync_write_4k_us_p50,
        floor.mode.name(),
    )
}
