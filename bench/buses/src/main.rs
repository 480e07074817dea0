//! Brokers by their own clients, links of Ensue over them, and Ensue's own log as a bus: messages of 1 KiB, everything confirmed and
//! settled, in one process beside the broker.
//!
//! `cargo xtask bench buses` starts the brokers, runs this program for each and makes the tables. By hand:
//! `buses nats --url nats://…`, `buses kafka --url …`, `buses rabbitmq --url …`, `buses log`. It prints one line of JSON.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod client;
mod kafka;
mod link;
mod log;
mod measure;
mod message;
mod nats;
mod rabbitmq;

/// What stops a measurement.
type Failure = Box<dyn Error + Send + Sync>;

/// What a broker carries by its own client, and what it carries over links of Ensue
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    load: measure::Load,
    #[command(subcommand)]
    of: Contender,
}

#[derive(Subcommand)]
enum Contender {
    /// Apache Kafka, with four partitions for a topic
    Kafka(Address),
    /// The same, with each batch synced before it is acknowledged
    KafkaFlushed(Address),
    /// NATS `JetStream`, streams in files
    Nats(Address),
    /// `RabbitMQ`, quorum queues
    Rabbitmq(Address),
    /// Ensue's log in a folder, without a broker
    Log,
}

#[derive(clap::Args)]
struct Address {
    /// Where the broker is
    #[arg(long)]
    url: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { load, of } = Arguments::parse();
    let measured = match of {
        Contender::Kafka(at) => link::measure::<kafka::AsItComes>(&at.url, load).await,
        Contender::KafkaFlushed(at) => link::measure::<kafka::Flushed>(&at.url, load).await,
        Contender::Nats(at) => link::measure::<nats::Nats>(&at.url, load).await,
        Contender::Rabbitmq(at) => link::measure::<rabbitmq::Rabbitmq>(&at.url, load).await,
        Contender::Log => log::measure(load).await,
    };
    match measured.and_then(|figures| Ok(serde_json::to_string(&figures)?)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("buses: {failure}");
            ExitCode::FAILURE
        }
    }
}
