//! `ensue store`: what concerns a store as a whole.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod copy;
mod holds;
mod migrate;
pub(crate) mod pages;
mod retain;
mod retention;
mod trim;

/// Copy a store, make its tables, see who holds it up, or say how long topics keep their events
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy everything a store holds into another one: positions, versions and times stay
    Copy(copy::Copy),
    /// Whose open transaction keeps events from being read
    Holds,
    /// Make the tables of a database, or bring them up to date
    Migrate,
    /// Say how long a topic keeps its events
    Retain(retain::Retain),
    /// List the topics that do not keep their events for ever
    Retention,
    /// Drop events that are past their time and that no subscription needs any more
    Trim(trim::Trim),
}

impl StoreCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Copy(copy) => copy.run(session).await,
            Self::Holds => holds::run(session).await,
            Self::Migrate => migrate::run(session).await,
            Self::Retain(retain) => retain.run(session).await,
            Self::Retention => retention::run(session).await,
            Self::Trim(trim) => trim.run(session).await,
        }
    }
}
