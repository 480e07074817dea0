//! `ensue stream ls|read|state|diff|blame`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod blame;
mod diff;
mod ls;
mod read;
mod state;

/// Look at streams
#[derive(Subcommand)]
pub(crate) enum Stream {
    /// List streams
    Ls(ls::Ls),
    /// Print the events of a stream
    Read(read::Read),
    /// The state of a stream: the data of its events, merged
    State(state::State),
    /// What changed between two versions of a stream
    Diff(diff::Diff),
    /// Which event last changed a field of a stream's state
    Blame(blame::Blame),
}

impl Stream {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Read(read) => read.run(session).await,
            Self::State(state) => state.run(session).await,
            Self::Diff(diff) => diff.run(session).await,
            Self::Blame(blame) => blame.run(session).await,
        }
    }
}
