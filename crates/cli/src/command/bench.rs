//! `ensue bench append|orders`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod append;
mod orders;
mod scratch;

/// Measure this machine
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Durable appends per second, and how long each takes, beside what the device takes for one synced write
    Append(append::Append),
    /// Orders through five durable reactions, or a saga of four steps, with empty bodies
    Orders(orders::Orders),
}

impl Bench {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Append(append) => append.run(session).await,
            Self::Orders(orders) => orders.run(session).await,
        }
    }
}
