//! `ensue store`: what concerns a store as a whole.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod copy;

/// Move a store into another one
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy everything a store holds into another one: positions, versions and times stay
    Copy(copy::Copy),
}

impl StoreCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Copy(copy) => copy.run(session).await,
        }
    }
}
