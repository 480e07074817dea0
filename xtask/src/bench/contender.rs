//! The systems that carry out orders, and what was done so that each is at its best.

use std::path::Path;
use std::process::Command;

use crate::services::{self, Purpose};

/// Whether what is acknowledged outlives a lost machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durability {
    /// Yes: it was synced.
    Synced,
    /// No: the operating system will write it in its own time.
    PageCache,
}

/// How long a peer runs under the same load before it is measured.
pub(super) const WARM_UP_SECONDS: &str = "10";

/// One system, one way of carrying out an order.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) durability: Durability,
    /// How it makes things durable, and why these settings are its best.
    pub(super) settings: &'static str,
    services: &'static [&'static str],
    program: Program,
}

#[derive(Clone, Copy)]
enum Program {
    Ensue { style: &'static str },
    Restate { style: &'static str },
    Outbox { flush: &'static str },
}

/// All of them; the first two are ours.
const CONTENDERS: [Contender; 6] = [
    Contender {
        name: "Ensue, choreography",
        durability: Durability::Synced,
        settings: "`ensue bench orders --style choreography`: five reactions, defaults, one process. Every commit is synced \
                   before it is acknowledged or read. No warm-up.",
        services: &[],
        program: Program::Ensue { style: "choreography" },
    },
    Contender {
        name: "Ensue, saga",
        durability: Durability::Synced,
        settings: "`ensue bench orders --style saga`: four commands, each answered by a handler of its own, and the closing \
                   event. The rest as above.",
        services: &[],
        program: Program::Ensue { style: "saga" },
    },
    Contender {
        name: "Restate 1.7.12, saga",
        durability: Durability::Synced,
        settings: "One handler of Restate's Rust SDK with four journaled steps (`ctx.run`, less than our four commands to \
                   handlers) and a result, called over HTTP/2; the order ends when the caller has the result. Defaults, which \
                   sync the log's WAL before it acknowledges, but 4 partitions instead of 24 for two cores, and journals that \
                   are not kept after the end.",
        services: &["restate"],
        program: Program::Restate { style: "saga" },
    },
    Contender {
        name: "Restate 1.7.12, chain of handlers",
        durability: Durability::Synced,
        settings: "Five handlers, each called one-way by the one before; the order ends in the code of the last, before that \
                   one is journaled. The server as above.",
        services: &["restate"],
        program: Program::Restate { style: "choreography" },
    },
    Contender {
        name: "Hand-written, PostgreSQL outbox + Kafka",
        durability: Durability::Synced,
        settings: "One Rust process (`tokio-postgres`, `rdkafka`): orders that arrive together share a transaction; one \
                   statement per batch of at most 500 remembers the events (inbox) and writes what they cause (outbox); the \
                   relay is woken by a hint in memory, sends to Kafka with idempotence and `acks=all`, and deletes without \
                   waiting for the disk, because a repetition is absorbed. PostgreSQL with `fsync` and `synchronous_commit` \
                   on, 1 GB of buffers, 8 GB of WAL between checkpoints. Kafka 4.4.0 with 1 GB of heap, one topic of one \
                   partition for each kind of event (a partition more is a flush more), `flush.messages=1`: without replicas \
                   nothing else makes it durable.",
        services: &["postgres", "kafka"],
        program: Program::Outbox { flush: "every-batch" },
    },
    Contender {
        name: "Hand-written, Kafka as it comes",
        durability: Durability::PageCache,
        settings: "As above, but Kafka acknowledges from memory, its default. What the relay has deleted from the outbox \
                   is then lost with the machine: **not durable, not to be compared with the rest**.",
        services: &["postgres", "kafka"],
        program: Program::Outbox { flush: "never" },
    },
];

/// Those that follow each other and share servers.
pub(super) fn groups() -> impl Iterator<Item = &'static [Contender]> {
    static ALL: &[Contender] = &CONTENDERS;
    ALL.chunk_by(|a, b| a.services == b.services)
}

impl Contender {
    /// Whether it is ours.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.program, Program::Ensue { .. })
    }

    /// Starts its servers.
    pub(super) fn up(&self) -> Result<Vec<Server>, String> {
        self.services.iter().map(|name| Server::up(name)).collect()
    }

    /// Stops them, all of them.
    pub(super) fn down(&self) -> Result<(), String> {
        let stopped =
            self.services.iter().map(|name| services::down(services::find(name)?, Purpose::Measurement));
        stopped.fold(Ok(()), Result::and)
    }

    /// The command that measures it, and the arguments for how much of a load.
    pub(super) fn command(
        &self,
        root: &Path,
        servers: &[Server],
        load: &[String],
    ) -> Result<Command, String> {
        let program = match self.program {
            Program::Ensue { .. } => "target/release/ensue",
            Program::Restate { .. } | Program::Outbox { .. } => "target/peers/release/peers",
        };
        let mut command = Command::new(root.join(program));
        command.args(self.arguments(servers, load)?).current_dir(root);
        Ok(command)
    }

    fn arguments(&self, servers: &[Server], load: &[String]) -> Result<Vec<String>, String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let found = |name| variable(servers, name);
        let own = match self.program {
            Program::Ensue { style } => {
                let data = words(&["--data", "target/bench-orders", "--output", "json", "bench", "orders"]);
                return Ok([data, words(&["--style", style]), load.to_vec()].concat());
            }
            Program::Restate { style } => {
                let (ingress, admin) = (found("ENSUE_TEST_RESTATE")?, found("ENSUE_TEST_RESTATE_ADMIN")?);
                words(&["restate", "--style", style, "--ingress", ingress, "--admin", admin])
            }
            Program::Outbox { flush } => {
                let (postgres, kafka) = (found("ENSUE_TEST_POSTGRES")?, found("ENSUE_TEST_KAFKA")?);
                words(&["outbox", "--flush", flush, "--postgres", postgres, "--kafka", kafka])
            }
        };
        let pids = servers.iter().flat_map(|server| ["--server".to_owned(), server.pid.to_string()]);
        let warm_up = words(&["--warm-up-seconds", WARM_UP_SECONDS]);
        Ok([load.to_vec(), warm_up, pids.collect(), own].concat())
    }
}

/// A server that runs.
pub(super) struct Server {
    pid: u32,
    environment: Vec<(&'static str, String)>,
}

impl Server {
    fn up(name: &str) -> Result<Self, String> {
        let service = services::find(name)?;
        let place = services::up(service, Purpose::Measurement)?;
        let pid = place.pid().ok_or_else(|| format!("{name} ended"))?;
        Ok(Self { pid, environment: service.environment(&place) })
    }
}

fn variable<'a>(servers: &'a [Server], name: &str) -> Result<&'a str, String> {
    let mut variables = servers.iter().flat_map(|server| &server.environment);
    let found = variables.find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str()).ok_or_else(|| format!("no server says {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_its_servers_and_we_none() {
        let server = Server {
            pid: 7,
            environment: vec![("ENSUE_TEST_POSTGRES", "p".to_owned()), ("ENSUE_TEST_KAFKA", "k".to_owned())],
        };
        let load = ["--seconds".to_owned(), "5".to_owned()];
        let lines: Vec<String> = CONTENDERS
            .iter()
            .filter_map(|contender| contender.arguments(std::slice::from_ref(&server), &load).ok())
            .map(|words| words.join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "--data target/bench-orders --output json bench orders --style choreography --seconds 5",
                "--data target/bench-orders --output json bench orders --style saga --seconds 5",
                "--seconds 5 --warm-up-seconds 10 --server 7 outbox --flush every-batch --postgres p --kafka k",
                "--seconds 5 --warm-up-seconds 10 --server 7 outbox --flush never --postgres p --kafka k",
            ]
        );
    }
}
