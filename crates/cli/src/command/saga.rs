//! `ensue saga ls|show`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod ls;
mod show;

/// Look at sagas
#[derive(Subcommand)]
pub(crate) enum Saga {
    /// List instances and how they stand
    Ls(ls::Ls),
    /// One instance with its journal
    Show(show::Show),
}

impl Saga {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Show(show) => show.run(session).await,
        }
    }
}
