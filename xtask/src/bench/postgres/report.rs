//! The page of figures, as `bench/results/postgres.md`.

use std::fmt::Write as _;
use std::path::Path;

use super::contender::{CONTENDERS, Contender, Group};
use super::{CALLERS, DRAINED, Measured, SESSIONS};
use crate::bench::machine;
use crate::bench::orders::Options;

type Runs = Vec<(f64, f64)>;

/// The whole page.
pub(super) fn written(root: &Path, measured: &Measured, options: &Options) -> Result<String, String> {
    let (commit, day) = machine::commit_and_day(root);
    let mut page = format!(
        "# Outbox, log and port on PostgreSQL\n\nEvents of 250 bytes for 100,000 keys; {SESSIONS} sessions of pgbench with prepared statements, \
         on the same cores as the server, {0} s\na run. Each run has a fresh database behind a checkpoint; runs take turns. The median of \
         {1} runs each. Everything is durable. A ratio is\nthe claim, an absolute number is context.\n\n",
        options.seconds, options.runs
    );
    let floors = measured.floors.iter().map(|(micros, _)| *micros);
    let (least, most) = (floors.clone().fold(f64::INFINITY, f64::min), floors.fold(0.0, f64::max));
    let mode = measured.floors.first().map_or("", |(_, mode)| mode);
    writeln!(page, "- Machine: {}", machine::described(root)).expect("a string");
    writeln!(
        page,
        "- Device floor: {least:.0} to {most:.0} µs for one synced write of 4 KiB, p50, by {mode}, before each run through the port"
    )
    .expect("a string");
    writeln!(page, "- {}", measured.server).expect("a string");
    writeln!(page, "- Measured {day} at {commit} by `{}`", options.line).expect("a string");
    for group in Group::ALL {
        page.push_str(&table(group, &measured.loads)?);
    }
    page.push_str(&through_the_port(measured)?);
    Ok(page)
}

fn table(group: Group, loads: &[Runs]) -> Result<String, String> {
    let mut rows = CONTENDERS.iter().zip(loads).filter(|(it, _)| it.group == group).peekable();
    let first = rows.peek().ok_or("no group is empty")?.1;
    let first = median(first, |run| run.0)?.0;
    let mut text = format!(
        "\n## {}\n\n| | transactions/s | mean ms | first row is faster by | every run |\n|---|---:|---:|---:|---|\n",
        group.title()
    );
    let mut settings = String::from("\n");
    for (it, runs) in rows {
        writeln!(text, "{}", row(it, runs, first)?).expect("a string");
        writeln!(settings, "- {}: {}", it.name, it.what).expect("a string");
    }
    Ok(text + &settings)
}

fn row(it: &Contender, runs: &Runs, first: f64) -> Result<String, String> {
    let (rate, millis) = *median(runs, |run| run.0)?;
    let all: Vec<String> = runs.iter().map(|(rate, _)| format!("{rate:.0}")).collect();
    Ok(format!("| {} | {rate:.0} | {millis:.2} | {:.2}x | {} |", it.name, first / rate, all.join(", ")))
}

fn through_the_port(measured: &Measured) -> Result<String, String> {
    let drain = median(&measured.drains, |rate| *rate)?;
    let all: Vec<String> = measured.drains.iter().map(|rate| format!("{rate:.0}")).collect();
    let mut text = format!(
        "\n## Through the port\n\n- A relay that has fallen behind by {DRAINED} events, appended by `ensue.append` and without positions yet: \
         one reader takes them all, the giving of\n  positions included, at {drain:.0} events/s (`ensue bench drain`; {}).\n",
        all.join(", ")
    );
    for (callers, runs) in CALLERS.iter().zip(&measured.commits) {
        let [rate, half, most] = median(runs, |run| run[0])?;
        let all: Vec<String> = runs.iter().map(|[rate, ..]| format!("{rate:.0}")).collect();
        writeln!(
            text,
            "- Commits of one event by {callers} at once: {rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms (`ensue bench append`; {}).",
            half / 1e3,
            most / 1e3,
            all.join(", ")
        )
        .expect("a string");
    }
    Ok(text)
}

/// The run in the middle.
fn median<T>(runs: &[T], by: impl Fn(&T) -> f64) -> Result<&T, String> {
    let mut sorted: Vec<&T> = runs.iter().collect();
    sorted.sort_by(|a, b| by(a).total_cmp(&by(b)));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
}
