//! `ensue subscription ls`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod ls;

/// Look at subscriptions: how far each lane is, and who has it
#[derive(Subcommand)]
pub(crate) enum Subscription {
    /// List the lanes of every subscription
    Ls(ls::Ls),
}

impl Subscription {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
        }
    }
}
