//! `ensue bench append|drain|read|rebuild|orders|waiting`.

use clap::Subcommand;
use ensue::core::{Code, Error};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;

mod append;
mod drain;
mod load;
mod orders;
mod pace;
mod process;
mod read;
mod rebuild;
mod storm;
mod waiting;

/// What the device takes for the smallest durable write.
#[derive(Serialize)]
struct MeasuredFloor {
    sync_write_4k_us_p50: u64,
}

/// Measure this machine
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Durable appends per second, and how long each takes, beside what the device takes for one synced write
    Append(append::Append),
    /// How fast one reader takes what the store holds, from the beginning to the head
    Drain(drain::Drain),
    /// How fast a store is read from disk: everything in order, and stream by stream
    Read(read::Read),
    /// How fast a read model is built anew, and what durable publications pay for it meanwhile
    Rebuild(rebuild::Rebuild),
    /// Orders through five durable reactions, or a saga of four steps, with empty bodies
    Orders(orders::Orders),
    /// Sagas that wait: how fast they start, and what memory they take
    Waiting(waiting::Waiting),
}

impl Bench {
    /// An interrupt ends the measurement here, so that the scratch store is removed.
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        tokio::select! {
            ended = self.measure(session) => ended,
            _ = tokio::signal::ctrl_c() => {
                Err(Error::new(Code::CLOSED, "the measurement was interrupted").with_fix("run it again").into())
            }
        }
    }

    async fn measure(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Append(append) => append.run(session).await,
            Self::Drain(drain) => drain.run(session).await,
            Self::Read(read) => read.run(session).await,
            Self::Rebuild(rebuild) => rebuild.run(session).await,
            Self::Orders(orders) => orders.run(session).await,
            Self::Waiting(waiting) => waiting.run(session).await,
        }
    }
}
