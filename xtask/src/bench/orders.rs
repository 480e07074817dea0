//! Benchmark 8: an order through five durable reactions, as choreography and as saga, beside Restate and a hand-written service
//! of PostgreSQL and Kafka. Everything in one run on one machine, the load on the same cores.
//!
//! Contenders that share servers are a group, which has the machine for itself: each is measured several times, as many orders as
//! go through, then at a fixed rate. Nothing of this belongs to the checks of a change.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::contender::{self, Contender, Server};
use super::figures::Figures;
use super::report::{self, Measured};
use crate::cargo;
use crate::tree;

/// As many orders as go through.
const FREE: &str = "free";
/// At a fixed rate.
const PACED: &str = "paced";

/// What to measure.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Options {
    pub(super) scope: Scope,
    pub(super) seconds: u32,
    /// Orders a second, for the latency.
    pub(super) rate: u32,
    pub(super) runs: u32,
    /// Only the contenders of this group, and no table: how this program calls itself.
    pub(super) group: Option<usize>,
    /// Stands before each such call.
    pub(super) runner: Vec<String>,
    /// As it was given.
    pub(super) line: String,
}

/// Whom to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Ours,
    WithPeers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scope: Scope::Ours,
            seconds: 5,
            rate: 100,
            runs: 3,
            group: None,
            runner: Vec::new(),
            line: String::new(),
        }
    }
}

impl Options {
    /// Of the benchmark of this name.
    pub(super) fn of(bench: &str, words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        if bench == "buses" {
            options.rate = 1000;
        }
        let mut line = vec![format!("cargo xtask bench {bench}")];
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--peers" && bench == "orders" {
                options.scope = Scope::WithPeers;
                line.push((*word).to_owned());
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            let number = || {
                value
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("{word} wants a number"))
            };
            match *word {
                "--seconds" => options.seconds = number()?,
                "--rate" => options.rate = number()?,
                "--runs" => options.runs = number()?,
                "--group" => {
                    options.group = Some(value.parse().map_err(|_| "--group wants a number".to_owned())?);
                }
                "--runner" => options.runner = value.split(' ').map(str::to_owned).collect(),
                _ => return Err(format!("bench {bench} does not know {word}")),
            }
            // Who ran it is of this machine alone; what it measures is the same.
            if *word != "--runner" {
                line.push(format!("{word} {value}"));
            }
        }
        options.line = line.join(" ");
        Ok(options)
    }
}

/// Builds, measures, writes the table.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let root = tree::root();
    if let Some(group) = options.group {
        return measure(&root, group, options);
    }
    build(&root, options.scope)?;
    let mut measured = Vec::new();
    for (index, group) in contender::groups().enumerate() {
        if options.scope == Scope::WithPeers || group.iter().all(Contender::is_ours) {
            measured.extend(collect(group, &in_its_turn(&root, "orders", index, options)?)?);
        }
    }
    let text = report::written(&root, &measured, options)?;
    let file = root.join("bench/results/orders.md");
    fs::write(&file, &text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("{text}");
    Ok(())
}

fn build(root: &Path, scope: Scope) -> Result<(), String> {
    cargo::run(root, &["build", "--release", "--package", "ensue-cli"], &[])?;
    if scope == Scope::Ours {
        return Ok(());
    }
    let manifest = ["--manifest-path", "bench/peers/Cargo.toml", "--target-dir", "target/peers"];
    cargo::run(root, &[&["build", "--release", "--locked"][..], &manifest].concat(), &[])
}

/// Measures a group of a benchmark in a process of its own, so that a runner can hold the machine for all of it at once.
pub(super) fn in_its_turn(
    root: &Path,
    bench: &str,
    group: usize,
    options: &Options,
) -> Result<String, String> {
    let this = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut words = options.runner.clone();
    words.push(this.to_string_lossy().into_owned());
    let (seconds, rate, runs) = (options.seconds, options.rate, options.runs);
    let rest = format!("bench {bench} --group {group} --seconds {seconds} --rate {rate} --runs {runs}");
    words.extend(rest.split(' ').map(str::to_owned));
    let (program, arguments) = words.split_first().ok_or("there is a command")?;
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(root).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{}` failed", words.join(" ")))
}

/// The runs of a group, from the lines that [`measure`] printed.
fn collect(group: &'static [Contender], text: &str) -> Result<Vec<Measured>, String> {
    let runs = |index: usize, kind: &str| {
        let prefix = format!("{index} {kind} ");
        let lines = text.lines().filter_map(move |line| line.strip_prefix(&prefix));
        lines.map(Figures::parse).collect::<Result<Vec<_>, _>>()
    };
    let measured = group.iter().enumerate().map(|(index, contender)| {
        Ok(Measured { contender, free: runs(index, FREE)?, paced: runs(index, PACED)? })
    });
    measured.collect()
}

/// Measures a group and prints a line for each run. Its servers are stopped whether that succeeds or not.
fn measure(root: &Path, group: usize, options: &Options) -> Result<(), String> {
    let group = contender::groups().nth(group).ok_or_else(|| format!("there is no group {group}"))?;
    let first = group.first().ok_or("no group is empty")?;
    let measured = first.up().and_then(|servers| {
        let mut members = group.iter().enumerate();
        members.try_for_each(|(index, contender)| repeat(root, index, contender, &servers, options))
    });
    first.down().and(measured)
}

fn repeat(
    root: &Path,
    index: usize,
    contender: &Contender,
    servers: &[Server],
    options: &Options,
) -> Result<(), String> {
    let free = ["--seconds".to_owned(), options.seconds.to_string()];
    let paced = [&free[..], &["--rate".to_owned(), options.rate.to_string()]].concat();
    for _ in 0..options.runs {
        for (kind, load) in [(FREE, &free[..]), (PACED, &paced[..])] {
            println!("{index} {kind} {}", once(root, contender, servers, load)?);
        }
    }
    Ok(())
}

/// One run: the line that it reports.
fn once(root: &Path, contender: &Contender, servers: &[Server], load: &[String]) -> Result<String, String> {
    let mut command = contender.command(root, servers, load)?;
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if !output.status.success() {
        let talk = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {command:?} failed: {talk}", contender.name));
    }
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let figures = Figures::parse(&line)?;
    let (rate, p50) = (figures.orders_per_s, figures.p50);
    eprintln!("bench: {}, {}: {rate:.0} orders/s, p50 {p50:.0} µs", contender.name, load.join(" "));
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_report_repeats_the_measurement_anywhere() {
        let options =
            Options::of("orders", &["--peers", "--rate", "50", "--runner", "taskset -c 0"]).expect("options");
        assert_eq!(options.line, "cargo xtask bench orders --peers --rate 50");
        assert_eq!((options.scope, options.rate, options.runs), (Scope::WithPeers, 50, 3));
        assert_eq!(options.runner, ["taskset", "-c", "0"]);
    }

    #[test]
    fn the_lines_of_a_group_become_its_contenders_runs() {
        let line = |kind: &str, rate: u32| {
            format!(
                "{kind} {{\"orders\":1,\"orders_per_s\":{rate},\"latency_us\":{{\"p50\":1,\"p95\":1,\"p99\":1,\"max\":1}},\
                 \"cpu_s\":1,\"rss_mb\":1}}\n"
            )
        };
        let text = line("0 free", 7) + &line("0 paced", 8) + &line("1 free", 9) + &line("1 free", 10);
        let group = contender::groups().next().expect("a group");
        let measured = collect(group, &text).expect("figures");
        let rates = |runs: &[Figures]| runs.iter().map(|run| run.orders_per_s).collect::<Vec<_>>();
        let seen: Vec<_> = measured.iter().map(|it| (rates(&it.free), rates(&it.paced))).collect();
        assert_eq!(seen, [(vec![7.0], vec![8.0]), (vec![9.0, 10.0], vec![])]);
    }

    #[test]
    fn what_it_does_not_understand_is_refused() {
        for words in [&["--rate"][..], &["--rate", "0"], &["--rate", "fast"], &["--quick", "1"]] {
            assert!(Options::of("orders", words).is_err(), "{words:?}");
        }
    }
}
