//! `cargo xtask bench buses`: brokers by their own clients beside Ensue's log (benchmark 7), and relay and intake over them beside what
//! those clients do (benchmark 9). `bench/buses` is the program that sends, receives and measures; a broker is fresh for each run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::orders::{self, Options};
use crate::cargo;
use crate::services::{self, Purpose};
use crate::tree;

mod report;

/// Messages for the throughput of one run.
const MESSAGES: u32 = 30_000;
/// How many topics the broker's own client uses, in turn.
const TOPICS: [u32; 2] = [1, 16];

/// Who is measured, and what that is.
pub(super) struct Contender {
    pub(super) name: &'static str,
    /// What must be known to read its figures.
    pub(super) settings: &'static str,
    /// Whether what is confirmed has been synced.
    pub(super) is_synced: bool,
    /// The broker, what it is started for, and the variable that says where it is.
    service: Option<(&'static str, Purpose, &'static str)>,
    /// What the program calls it.
    word: &'static str,
}

pub(super) const CONTENDERS: [Contender; 6] = [
    Contender {
        name: "Ensue's log",
        settings: "The log in a folder, in the process that measures: 256 commits of one event under way, each synced; consumed by a durable subscription.",
        is_synced: true,
        service: None,
        word: "log",
    },
    Contender {
        name: "Kafka, each batch synced",
        settings: "Kafka 4.4.0, 1 GB of heap, 4 partitions a topic, `flush.messages=1`; `krafka` with idempotence and `acks=all`, 4,096 sends under way, batches of up to 256 KiB that wait 5 ms for more, except for the latency; a group that commits what it has read.",
        is_synced: true,
        service: Some(("kafka", Purpose::Measurement, "ENSUE_TEST_KAFKA")),
        word: "kafka-flushed",
    },
    Contender {
        name: "Kafka as it comes",
        settings: "The same, acknowledged from memory, which is its default.",
        is_synced: false,
        service: Some(("kafka", Purpose::Measurement, "ENSUE_TEST_KAFKA")),
        word: "kafka",
    },
    Contender {
        name: "NATS, synced",
        settings: "JetStream in files with `sync_interval: always`; `async-nats`, 256 publications under way; a durable pull consumer that acknowledges each message.",
        is_synced: true,
        service: Some(("nats", Purpose::Measurement, "ENSUE_TEST_NATS")),
        word: "nats",
    },
    Contender {
        name: "NATS as it comes",
        settings: "The same with `sync_interval: 2m`, its default.",
        is_synced: false,
        service: Some(("nats", Purpose::Tests, "ENSUE_TEST_NATS")),
        word: "nats",
    },
    Contender {
        name: "RabbitMQ, quorum queue",
        settings: "3.10, quorum queues, which sync; `lapin`, confirms of 256 mandatory messages under way, prefetch 1,024, each message acknowledged.",
        is_synced: true,
        service: Some(("rabbitmq", Purpose::Tests, "ENSUE_TEST_RABBITMQ")),
        word: "rabbitmq",
    },
];

/// The runs of one contender, with one topic and with several.
#[derive(Default)]
pub(super) struct Runs {
    pub(super) one: Vec<Value>,
    pub(super) many: Vec<Value>,
}

/// Builds, measures, writes the page.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let root = tree::root();
    if let Some(index) = options.group {
        let contender = CONTENDERS.get(index).ok_or("there is no such contender")?;
        return measure(&root, contender, options);
    }
    cargo::run(&root, &["build", "--release", "--package", "ensue-bench-buses"], &[])?;
    let mut measured = Vec::new();
    for index in 0..CONTENDERS.len() {
        measured.push(collect(&orders::in_its_turn(&root, "buses", index, options)?)?);
    }
    let page = report::written(&root, &measured, options)?;
    let file = root.join("bench/results/buses.md");
    fs::write(&file, &page).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("{page}");
    Ok(())
}

/// Measures one of them and prints a line for each run.
fn measure(root: &Path, contender: &Contender, options: &Options) -> Result<(), String> {
    for _ in 0..options.runs {
        for topics in TOPICS {
            let line = once(root, contender, topics, options)?;
            eprintln!("bench: {}, {topics} topics: {}", contender.name, line.trim());
            println!("{topics} {}", line.trim());
        }
    }
    Ok(())
}

/// One run, on a broker that has just been started.
fn once(root: &Path, contender: &Contender, topics: u32, options: &Options) -> Result<String, String> {
    let mut words = vec![
        format!("--messages={MESSAGES}"),
        format!("--topics={topics}"),
        format!("--rate={}", options.rate),
        format!("--seconds={}", options.seconds),
        contender.word.to_owned(),
    ];
    let Some((service, purpose, variable)) = contender.service else { return program(root, &words) };
    let service = services::find(service)?;
    let place = services::up(service, purpose)?;
    let environment = service.environment(&place);
    let url = environment.iter().find(|(name, _)| *name == variable).map(|(_, value)| value.clone());
    let measured = url.ok_or_else(|| format!("no broker says {variable}")).and_then(|url| {
        words.extend(["--url".to_owned(), url]);
        program(root, &words)
    });
    services::down(service, purpose).and(measured)
}

fn program(root: &Path, words: &[String]) -> Result<String, String> {
    let folder = root.join("target/bench-buses");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let mut command = Command::new(root.join("target/release/buses"));
    let output = command.args(words).current_dir(&folder).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run buses: {error}"))?;
    if !output.status.success() {
        return Err(format!("buses {} failed", words.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The runs, from the lines that [`measure`] printed.
fn collect(text: &str) -> Result<Runs, String> {
    let mut runs = Runs::default();
    for line in text.lines() {
        let (topics, json) = line.split_once(' ').unwrap_or_default();
        let figures: Value = serde_json::from_str(json).map_err(|error| format!("`{line}`: {error}"))?;
        let of = if topics == "1" { &mut runs.one } else { &mut runs.many };
        of.push(figures);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_runs_by_the_number_of_topics() {
        let runs = collect("1 {\"raw\":{}}\n16 {\"raw\":{}}\n1 {\"raw\":{}}\n").expect("figures");
        assert_eq!((runs.one.len(), runs.many.len()), (2, 1));
        assert!(collect("1 nothing\n").is_err());
    }
}
