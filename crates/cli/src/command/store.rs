//! `ensue store`: what concerns a store as a whole.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod copy;
mod holds;
mod migrate;
pub(crate) mod pages;

/// Copy a store, make its tables, or see who holds it up
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy everything a store holds into another one: positions, versions and times stay
    Copy(copy::Copy),
    /// Whose open transaction keeps events from being read
    Holds,
    /// Make the tables of a database, or bring them up to date
    Migrate,
}

impl StoreCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Copy(copy) => copy.run(session).await,
            Self::Holds => holds::run(session).await,
            Self::Migrate => migrate::run(session).await,
        }
    }
}
