//! `ensue dead ls|redrive|discard`: what handlers could not process.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod discard;
mod ls;
mod redrive;
mod row;

/// Look at what handlers could not process, try it again, or give it up
#[derive(Subcommand)]
pub(crate) enum Dead {
    /// List dead letters, by handler and key
    Ls(ls::Ls),
    /// Ask that the dead letters of a key be tried again, in order
    Redrive(redrive::Redrive),
    /// Give dead letters up; they are kept aside with the reason
    Discard(discard::Discard),
}

impl Dead {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Redrive(redrive) => redrive.run(session).await,
            Self::Discard(discard) => discard.run(session).await,
        }
    }
}
