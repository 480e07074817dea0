//! `ensue dead ls|groups|redrive|redrives|discard`: what handlers could not process.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod discard;
mod groups;
mod ls;
mod meant;
mod redrive;
mod redrives;
mod row;

/// Look at what handlers could not process, try it again, or give it up
#[derive(Subcommand)]
pub(crate) enum Dead {
    /// List dead letters, by handler and key
    Ls(ls::Ls),
    /// List dead letters by cause: one mistake is one row
    Groups,
    /// Ask that dead letters be tried again, each key in order
    Redrive(redrive::Redrive),
    /// List how redrives go on and how they ended
    Redrives,
    /// Give dead letters up; they are kept aside with the reason, and what remains is tried again
    Discard(discard::Discard),
}

impl Dead {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Groups => groups::run(session).await,
            Self::Redrive(redrive) => redrive.run(session).await,
            Self::Redrives => redrives::run(session).await,
            Self::Discard(discard) => discard.run(session).await,
        }
    }
}
