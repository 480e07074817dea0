//! `ensue dead discard HANDLER KEY --reason R [--position P]`: gives up what is parked.

use clap::Args;
use ensue::core::Position;
use ensue::runtime::dead;

use super::row::{Done, count};
use crate::command::Session;
use crate::failure::Failure;

/// Give dead letters up; they are kept aside with the reason
#[derive(Args)]
pub(crate) struct Discard {
    /// The handler that parked them
    handler: String,
    /// The key
    key: String,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
    /// Only the letter of the event at this position
    #[arg(long)]
    position: Option<u64>,
    /// Only say what would be given up
    #[arg(long)]
    dry_run: bool,
}

impl Discard {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { handler, key, reason, dry_run, .. } = &self;
        let only = self.position.map(Position);
        let store = session.folder.open()?;
        let letters = if *dry_run {
            count(&store, handler, key, only).await?
        } else {
            dead::discard(&store, handler, key, only, reason).await?
        };
        let verb = if *dry_run { "would be discarded" } else { "discarded" };
        let words = format!("{letters} of {handler} under {key} {verb}");
        session.output.one(&Done { handler, key, letters, dry_run: *dry_run }, &words)?;
        Ok(())
    }
}
