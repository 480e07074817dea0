//! `cargo xtask bench postgres`: what it costs to publish in the application's own transaction, beside an outbox written by hand and
//! beside logs that order their writers by a lock; how fast a relay drains it; and commits through the port.
//!
//! Runs take turns, each on a database of its own on one server with everything on that makes it durable; the load is on the same cores.
//! The half that is SQL alone and the half that goes through the port are measured by two processes, so that a runner can hold the machine
//! for each.

use std::fs;

use contender::CONTENDERS;
use serde_json::Value;
use server::Server;

use super::orders::{self, Options};
use crate::cargo;
use crate::tree;

mod contender;
mod report;
mod server;

/// Sessions that write at once.
const SESSIONS: u32 = 16;
/// Events that are drained.
const DRAINED: u32 = 96_000;
/// Callers of the port.
const CALLERS: [u32; 2] = [1, 64];

/// What was measured, run by run.
#[derive(Default)]
pub(super) struct Measured {
    /// As the server says it.
    pub(super) server: String,
    /// Of each contender: transactions a second, and milliseconds of one.
    pub(super) loads: Vec<Vec<(f64, f64)>>,
    /// Events a second.
    pub(super) drains: Vec<f64>,
    /// Of each number of callers: commits a second, and microseconds at p50 and p99.
    pub(super) commits: Vec<Vec<[f64; 3]>>,
    /// Microseconds for one synced write, and how it was made.
    pub(super) floors: Vec<(f64, String)>,
}

/// Builds, measures, writes the page.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let root = tree::root();
    if let Some(half) = options.group {
        let measured = Server::up(&root).and_then(|server| measure(&server, half, options));
        return Server::down().and(measured);
    }
    cargo::run(&root, &["build", "--release", "--package", "ensue-cli"], &[])?;
    let lines: Vec<String> =
        (0..2).map(|half| orders::in_its_turn(&root, "postgres", half, options)).collect::<Result<_, _>>()?;
    let page = report::written(&root, &collect(&lines.concat())?, options)?;
    let file = root.join("bench/results/postgres.md");
    fs::write(&file, &page).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("{page}");
    Ok(())
}

/// Measures one half and prints a line for each run.
fn measure(server: &Server, half: usize, options: &Options) -> Result<(), String> {
    println!("server {}", server.version()?);
    for _ in 0..options.runs {
        match half {
            0 => loads(server, options)?,
            _ => through_the_port(server, options)?,
        }
    }
    Ok(())
}

fn loads(server: &Server, options: &Options) -> Result<(), String> {
    for (index, contender) in CONTENDERS.iter().enumerate() {
        let (rate, millis) = server.load(contender, SESSIONS, options.seconds)?;
        eprintln!("bench: {}: {rate:.0} transactions/s", contender.name);
        println!("load {index} {rate} {millis}");
    }
    Ok(())
}

fn through_the_port(server: &Server, options: &Options) -> Result<(), String> {
    println!("drain {}", server.drain(SESSIONS, DRAINED)?);
    for callers in CALLERS {
        println!("commits {callers} {}", server.commits(callers, options.seconds)?);
    }
    Ok(())
}

/// The runs, from the lines that [`measure`] printed.
fn collect(text: &str) -> Result<Measured, String> {
    let mut measured = Measured {
        loads: vec![Vec::new(); CONTENDERS.len()],
        commits: vec![Vec::new(); CALLERS.len()],
        ..Measured::default()
    };
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let taken = match kind {
            "server" => {
                rest.clone_into(&mut measured.server);
                Some(())
            }
            "load" => load(&mut measured, rest),
            "drain" => drain(&mut measured, rest),
            "commits" => commits(&mut measured, rest),
            _ => None,
        };
        taken.ok_or_else(|| format!("not understood: `{line}`"))?;
    }
    Ok(measured)
}

fn load(measured: &mut Measured, rest: &str) -> Option<()> {
    let mut words = rest.split(' ');
    let index: usize = words.next()?.parse().ok()?;
    let figures = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    measured.loads.get_mut(index)?.push(figures);
    Some(())
}

fn drain(measured: &mut Measured, rest: &str) -> Option<()> {
    let value: Value = serde_json::from_str(rest).ok()?;
    let is_whole = value.get("events")?.as_u64()? == u64::from(DRAINED);
    measured.drains.push(value.get("events_per_s")?.as_f64().filter(|_| is_whole)?);
    Some(())
}

fn commits(measured: &mut Measured, rest: &str) -> Option<()> {
    let (callers, rest) = rest.split_once(' ')?;
    let callers: u32 = callers.parse().ok()?;
    let value: Value = serde_json::from_str(rest).ok()?;
    let number = |name: &str| value.get(name)?.as_f64();
    let index = CALLERS.iter().position(|known| *known == callers)?;
    measured.commits.get_mut(index)?.push([number("commits_per_s")?, number("p50_us")?, number("p99_us")?]);
    let floor = value.get("floor")?.get("sync_write_4k_us_p50")?.as_f64()?;
    measured.floors.push((floor, value.get("mode")?.as_str()?.to_owned()));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_figures_and_a_drain_that_is_not_whole_is_refused() {
        let commits = "commits 64 {\"commits_per_s\":9,\"p50_us\":2,\"p99_us\":3,\"floor\":{\"sync_write_4k_us_p50\":7},\"mode\":\"m\"}";
        let drain = |events: u32| format!("drain {{\"events\":{events},\"events_per_s\":5,\"bytes\":1}}");
        let text = format!("server s\nload 1 10.5 2\n{commits}\n{}\nload 1 11 3\n", drain(DRAINED));
        let measured = collect(&text).expect("figures");
        assert_eq!(measured.loads.get(1), Some(&vec![(10.5, 2.0), (11.0, 3.0)]));
        assert_eq!((measured.commits.get(1), measured.drains), (Some(&vec![[9.0, 2.0, 3.0]]), vec![5.0]));
        assert_eq!(measured.floors, [(7.0, "m".to_owned())]);
        assert!(collect(&drain(DRAINED - 1)).is_err());
        assert!(collect("load 99 1 1").is_err());
    }
}
