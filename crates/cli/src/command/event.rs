//! `ensue event show|causes|effects`.

use clap::Subcommand;

use crate::command::Session;
use crate::failure::Failure;

mod causes;
mod effects;
mod show;

/// Look at one event, what caused it, and what it caused
#[derive(Subcommand)]
pub(crate) enum Event {
    /// Everything about one event
    Show(show::Show),
    /// The chain of causes, up to the event that began the flow
    Causes(causes::Causes),
    /// Everything that followed, as a tree
    Effects(effects::Effects),
}

impl Event {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(session).await,
            Self::Causes(causes) => causes.run(session).await,
            Self::Effects(effects) => effects.run(session).await,
        }
    }
}
