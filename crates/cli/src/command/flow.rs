//! `ensue flow ls|show|fork`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod fork;
mod ls;
mod show;

/// Look at flows: where an order is, and why it stopped
#[derive(Subcommand)]
pub(crate) enum Flow {
    /// List the newest flows and how they stand
    Ls(ls::Ls),
    /// One flow as a tree: what happened, what is open, why it stopped
    Show(show::Show),
    /// Play a flow again in a scratch store, with another event or today's code, and compare
    Fork(fork::Fork),
}

impl Flow {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::Fork(fork) => fork.run(session).await,
        }
    }
}
