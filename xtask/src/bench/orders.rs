//! Benchmark 8: an order through five durable reactions, as choreography and as saga, beside Restate and a hand-written service
//! of PostgreSQL and Kafka. Everything in one run on one machine, the load on the same cores.
//!
//! Each contender gets its servers for itself and is measured several times: as many orders as go through, then at a fixed
//! rate. Nothing of this belongs to the checks of a change.

use std::fs;
use std::path::Path;

use super::contender::{CONTENDERS, Contender, Server};
use super::figures::Figures;
use super::report::{self, Measured};
use crate::cargo;
use crate::tree;

/// What to measure.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Options {
    pub(super) scope: Scope,
    pub(super) seconds: u32,
    /// Orders a second, for the latency.
    pub(super) rate: u32,
    pub(super) runs: u32,
    /// Stands before every measured command.
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

impl Options {
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            scope: Scope::Ours,
            seconds: 5,
            rate: 100,
            runs: 3,
            runner: Vec::new(),
            line: String::new(),
        };
        let mut line = vec!["cargo xtask bench orders".to_owned()];
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--peers" {
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
                "--runner" => options.runner = value.split(' ').map(str::to_owned).collect(),
                _ => return Err(format!("bench orders does not know {word}")),
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
    cargo::run(&root, &["build", "--release", "--package", "ensue-cli"], &[])?;
    if options.scope == Scope::WithPeers {
        let build = [
            "build",
            "--release",
            "--manifest-path",
            "bench/peers/Cargo.toml",
            "--target-dir",
            "target/peers",
        ];
        cargo::run(&root, &build, &[])?;
    }
    let chosen = CONTENDERS.iter().filter(|it| it.is_ours() || options.scope == Scope::WithPeers);
    let measured: Vec<Measured> =
        chosen.map(|contender| measure(&root, contender, options)).collect::<Result<_, _>>()?;
    let text = report::written(&root, &measured, options)?;
    let file = root.join("bench/results/orders.md");
    fs::write(&file, &text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("{text}");
    Ok(())
}

/// Its servers are stopped whether it could be measured or not.
fn measure(root: &Path, contender: &'static Contender, options: &Options) -> Result<Measured, String> {
    let measured = contender.up().and_then(|servers| repeat(root, contender, &servers, options));
    contender.down().and(measured).map_err(|error| format!("{}: {error}", contender.name))
}

fn repeat(
    root: &Path,
    contender: &'static Contender,
    servers: &[Server],
    options: &Options,
) -> Result<Measured, String> {
    let seconds = ["--seconds".to_owned(), options.seconds.to_string()];
    let rate = ["--rate".to_owned(), options.rate.to_string()];
    let mut measured = Measured { contender, free: Vec::new(), paced: Vec::new() };
    for _ in 0..options.runs {
        measured.free.push(once(root, contender, servers, &seconds, options)?);
        measured.paced.push(once(root, contender, servers, &[&seconds[..], &rate[..]].concat(), options)?);
    }
    Ok(measured)
}

fn once(
    root: &Path,
    contender: &Contender,
    servers: &[Server],
    load: &[String],
    options: &Options,
) -> Result<Figures, String> {
    let mut command = contender.command(root, servers, load, &options.runner)?;
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let (text, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{command:?} failed: {talk}"));
    }
    let figures = Figures::parse(&text)?;
    eprintln!(
        "bench: {}, {}: {:.0} orders/s, p50 {:.0} µs",
        contender.name,
        load.join(" "),
        figures.orders_per_s,
        figures.p50
    );
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_report_repeats_the_measurement_anywhere() {
        let options =
            Options::parse(&["--peers", "--rate", "50", "--runner", "taskset -c 0"]).expect("options");
        assert_eq!(options.line, "cargo xtask bench orders --peers --rate 50");
        assert_eq!((options.scope, options.rate, options.runs), (Scope::WithPeers, 50, 3));
        assert_eq!(options.runner, ["taskset", "-c", "0"]);
    }

    #[test]
    fn what_it_does_not_understand_is_refused() {
        for words in [&["--rate"][..], &["--rate", "0"], &["--rate", "fast"], &["--quick", "1"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
