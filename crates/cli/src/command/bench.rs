//! `ensue bench append|orders|waiting`.

use clap::Subcommand;
use ensue::core::{Code, Error};

use crate::command::Session;
use crate::failure::Failure;

mod append;
mod load;
mod orders;
mod scratch;
mod waiting;

/// Measure this machine
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Durable appends per second, and how long each takes, beside what the device takes for one synced write
    Append(append::Append),
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
            Self::Orders(orders) => orders.run(session).await,
            Self::Waiting(waiting) => waiting.run(session).await,
        }
    }
}
