//! The page of figures, as `bench/results/buses.md`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::{CONTENDERS, MESSAGES, Runs};
use crate::bench::machine;
use crate::bench::orders::Options;

/// The whole page.
pub(super) fn written(root: &Path, measured: &[Runs], options: &Options) -> Result<String, String> {
    let (commit, day) = machine::commit_and_day(root);
    let mut page = format!(
        "# Buses: brokers, links over them, and the log\n\nMessages of 1 KiB with 256 keys, all confirmed and all settled. {MESSAGES} for a throughput, \
         {} a second for {} s for a latency,\nwhich counts from the moment a message was due. The broker, what sends and what receives share the \
         machine; a broker is fresh for each run.\nThe median of {} runs for each figure. A ratio is the claim, an absolute number is context.\n\n",
        options.rate, options.seconds, options.runs
    );
    let floors = measured.iter().flat_map(|runs| runs.one.iter().chain(&runs.many));
    let floors: Vec<(f64, &str)> = floors.filter_map(floor).collect();
    let micros = floors.iter().map(|(micros, _)| *micros);
    let (least, most) = (micros.clone().fold(f64::INFINITY, f64::min), micros.fold(0.0, f64::max));
    let mode = floors.first().map_or("", |(_, mode)| mode);
    let lines = [
        format!("- Machine: {}", machine::described(root)),
        format!(
            "- Device floor: {least:.0} to {most:.0} µs for one synced write of 4 KiB, p50, by {mode}, after each run of the log"
        ),
        format!("- Measured {day} at {commit} by `{}`", options.line),
    ];
    page.push_str(&lines.join("\n"));
    page.push_str(
        "\n\n## As a bus\n\n| | synced | publish/s | consume/s | publish/s, 16 topics | consume/s | p50 ms | p99 ms |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (contender, runs) in CONTENDERS.iter().zip(measured) {
        let one = |path: &[&str]| median(&runs.one, path);
        let many = |path: &[&str]| median(&runs.many, path);
        let is_synced = if contender.is_synced { "yes" } else { "no" };
        writeln!(
            page,
            "| {} | {is_synced} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} |",
            contender.name,
            one(&["raw", "publish_per_s"])?,
            one(&["raw", "consume_per_s"])?,
            many(&["raw", "publish_per_s"])?,
            many(&["raw", "consume_per_s"])?,
            one(&["raw", "latency", "p50"])? / 1000.0,
            one(&["raw", "latency", "p99"])? / 1000.0,
        )
        .expect("a string");
    }
    page.push_str(&links(measured)?);
    page.push_str("\n## Settings\n\n");
    for contender in &CONTENDERS {
        writeln!(page, "- **{}.** {}", contender.name, contender.settings).expect("a string");
    }
    Ok(page)
}

/// What a link does beside the broker's own client in the same run.
fn links(measured: &[Runs]) -> Result<String, String> {
    let mut text = String::from(
        "\n## Over links\n\nA relay empties a log into the broker, an intake empties the broker into a log; beside it the broker's own client, in the \
         same run.\nWhat a link adds is the difference of the medians, and has the synced commit to the log in it.\n\n\
         | | client publishes/s | relay/s | client is faster by | client consumes/s | intake/s | client is faster by | p50 ms of the client | relay adds | intake adds |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (contender, runs) in CONTENDERS.iter().zip(measured).filter(|(it, _)| it.service.is_some()) {
        let figure = |path: &[&str]| median(&runs.one, path);
        let (publish, relay) = (figure(&["raw", "publish_per_s"])?, figure(&["link", "relay_per_s"])?);
        let (consume, intake) = (figure(&["raw", "consume_per_s"])?, figure(&["link", "intake_per_s"])?);
        let client = figure(&["raw", "latency", "p50"])?;
        let relay_adds = figure(&["link", "relay_latency", "p50"])? - client;
        let intake_adds = figure(&["link", "intake_latency", "p50"])? - client;
        writeln!(
            text,
            "| {} | {publish:.0} | {relay:.0} | {:.2}x | {consume:.0} | {intake:.0} | {:.2}x | {:.2} | {:.2} ms | {:.2} ms |",
            contender.name,
            publish / relay,
            consume / intake,
            client / 1000.0,
            relay_adds / 1000.0,
            intake_adds / 1000.0,
        )
        .expect("a string");
    }
    Ok(text)
}

/// The median of a figure over the runs.
fn median(runs: &[Value], path: &[&str]) -> Result<f64, String> {
    let at = |run: &Value| path.iter().try_fold(run, |value, name| value.get(name))?.as_f64();
    let mut all: Vec<f64> = runs.iter().filter_map(at).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().ok_or_else(|| format!("no run says {}", path.join(".")))
}

fn floor(run: &Value) -> Option<(f64, &str)> {
    let floor = run.get("floor")?;
    Some((floor.get(0)?.as_f64()?, floor.get(1)?.as_str()?))
}
