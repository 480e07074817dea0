//! The table of orders, as `bench/results/orders.md`.

use std::fmt::Write as _;
use std::path::Path;

use super::contender::{Contender, Durability, WARM_UP_SECONDS};
use super::figures::{Figures, median};
use super::machine;
use super::orders::Options;

/// One contender's runs, with as many orders as go through and at a fixed rate.
pub(super) struct Measured {
    pub(super) contender: &'static Contender,
    pub(super) free: Vec<Figures>,
    pub(super) paced: Vec<Figures>,
}

impl Measured {
    fn throughput(&self) -> Result<&Figures, String> {
        median(&self.free, |run| run.orders_per_s)
    }

    fn latency(&self) -> Result<&Figures, String> {
        median(&self.paced, |run| run.p50)
    }
}

/// The whole page.
pub(super) fn written(root: &Path, measured: &[Measured], options: &Options) -> Result<String, String> {
    let (commit, day) = machine::commit_and_day(root);
    let mut page = format!(
        "# Orders\n\nAn order is placed, paid, reserved, shipped, notified and closed: six durable events, five reactions, empty \
         bodies. Load and\nservers share the machine. Throughput: 64 clients, at most 512 orders in flight, {} s. Latency: {} \
         orders/s whatever the\nresponse, from the moment an order was due to its last event. The median of {} runs each, by \
         orders/s and by p50; the figures of a\nrow are of one run. Peers are warmed up for {} s before each run, we are not. A ratio \
         is the claim, an absolute number is context.\n\n",
        options.seconds, options.rate, options.runs, WARM_UP_SECONDS
    );
    writeln!(page, "- Machine: {}", machine::described(root)).expect("a string");
    writeln!(page, "- Device floor: {}", floor(measured)).expect("a string");
    writeln!(page, "- Measured {day} at {commit} by `{}`\n", options.line).expect("a string");
    page.push_str(&table(measured, Durability::Synced, options)?);
    if measured.iter().any(|it| it.contender.durability == Durability::PageCache) {
        page.push_str("\n## Not durable\n\nFor context only: acknowledged from memory.\n\n");
        page.push_str(&table(measured, Durability::PageCache, options)?);
    }
    page.push_str(&ratios(measured)?);
    page.push_str("\n## Settings\n\n");
    for it in measured {
        writeln!(page, "- **{}.** {}", it.contender.name, it.contender.settings).expect("a string");
    }
    page.push_str("\n## Every run\n\n| | orders/s | p50 ms at the fixed rate |\n|---|---|---|\n");
    for it in measured {
        let rates: Vec<String> = it.free.iter().map(|run| format!("{:.0}", run.orders_per_s)).collect();
        let halves: Vec<String> = it.paced.iter().map(|run| millis(run.p50)).collect();
        writeln!(page, "| {} | {} | {} |", it.contender.name, rates.join(", "), halves.join(", "))
            .expect("a string");
    }
    Ok(page)
}

fn table(measured: &[Measured], durability: Durability, options: &Options) -> Result<String, String> {
    let mut table = format!(
        "| | orders/s | CPU ms per order | memory MB | p50 ms at {0}/s | p95 | p99 | max | CPU s for {1} s at {0}/s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        options.rate, options.seconds
    );
    for it in measured.iter().filter(|it| it.contender.durability == durability) {
        let (free, paced) = (it.throughput()?, it.latency()?);
        writeln!(
            table,
            "| {} | {:.0} | {:.2} | {:.0} | {} | {} | {} | {} | {:.2} |",
            it.contender.name,
            free.orders_per_s,
            free.cpu_s * 1e3 / free.orders,
            free.rss_mb.max(paced.rss_mb),
            millis(paced.p50),
            millis(paced.p95),
            millis(paced.p99),
            millis(paced.max),
            paced.cpu_s,
        )
        .expect("a string");
    }
    Ok(table)
}

/// Each of ours beside each durable peer.
fn ratios(measured: &[Measured]) -> Result<String, String> {
    let durable = |it: &&Measured| it.contender.durability == Durability::Synced;
    let peers: Vec<&Measured> =
        measured.iter().filter(durable).filter(|it| !it.contender.is_ours()).collect();
    let mut text = if peers.is_empty() { String::new() } else { "\n## Ratios\n\n".to_owned() };
    for ours in measured.iter().filter(|it| it.contender.is_ours()) {
        for peer in &peers {
            let more = ours.throughput()?.orders_per_s / peer.throughput()?.orders_per_s;
            let sooner = peer.latency()?.p50 / ours.latency()?.p50;
            let names = (ours.contender.name, peer.contender.name);
            writeln!(
                text,
                "- {}: {more:.1} times the orders/s of {}, its p50 is {sooner:.1} times ours",
                names.0, names.1
            )
            .expect("a string");
        }
    }
    Ok(text)
}

/// From the least to the most that was seen between the runs.
fn floor(measured: &[Measured]) -> String {
    let runs = measured.iter().flat_map(|it| it.free.iter().chain(&it.paced));
    let floors: Vec<&(f64, String)> = runs.filter_map(|run| run.floor.as_ref()).collect();
    let least = floors.iter().map(|(micros, _)| *micros).fold(f64::INFINITY, f64::min);
    let most = floors.iter().map(|(micros, _)| *micros).fold(0.0, f64::max);
    let mode = floors.first().map_or("", |(_, mode)| mode);
    format!(
        "{least:.0} to {most:.0} µs for one synced write of 4 KiB, p50, by {mode}, measured before each of our runs"
    )
}

fn millis(micros: f64) -> String {
    format!("{:.1}", micros / 1e3)
}
