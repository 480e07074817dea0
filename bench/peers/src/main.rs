//! The order of `ensue bench orders` on its peers: on Restate, and on a hand-written service of PostgreSQL and Kafka.
//!
//! `cargo xtask bench orders --peers` starts the servers, runs this program beside `ensue bench orders` and makes the table.
//! By hand: `peers outbox --postgres URL --kafka HOST:PORT`, `peers restate --ingress URL --admin URL --style saga`.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod course;
mod outbox;
/// The clock of `ensue bench orders`: peers are measured by the same one.
#[path = "../../../crates/cli/src/command/bench/pace.rs"]
mod pace;
mod restate;
mod usage;

/// What stops a measurement.
type Failure = Box<dyn Error + Send + Sync>;

/// Orders through five durable reactions, on a peer of Ensue
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    load: course::Load,
    #[command(subcommand)]
    peer: Peer,
}

#[derive(Subcommand)]
enum Peer {
    /// A hand-written service: an outbox in PostgreSQL, a relay to Kafka, five idempotent consumers
    Outbox(outbox::Outbox),
    /// Restate: a workflow of four steps, or a chain of five handlers
    Restate(restate::Restate),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = match arguments.peer {
        Peer::Outbox(outbox) => outbox.run(arguments.load).await,
        Peer::Restate(restate) => restate.run(arguments.load).await,
    };
    match measured.and_then(|figures| Ok(serde_json::to_string(&figures)?)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("peers: {failure}");
            ExitCode::FAILURE
        }
    }
}
