//! `ensue dead redrive HANDLER KEY`: the letters of a key are tried again as soon as the handler runs.

use clap::Args;
use ensue::runtime::dead;

use super::row::{Done, count};
use crate::command::Session;
use crate::failure::Failure;

/// Ask that the dead letters of a key be tried again, in order
#[derive(Args)]
pub(crate) struct Redrive {
    /// The handler that parked them
    handler: String,
    /// The key
    key: String,
    /// Only say what would be tried again
    #[arg(long)]
    dry_run: bool,
}

impl Redrive {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { handler, key, dry_run } = &self;
        let store = session.folder.open()?;
        let letters = if *dry_run {
            count(&store, handler, key, None).await?
        } else {
            dead::request_redrive(&store, handler, key).await?
        };
        let words = if *dry_run {
            format!("{letters} of {handler} under {key} would be tried again")
        } else {
            format!("{letters} of {handler} under {key} will be tried again as soon as {handler} runs")
        };
        session.output.one(&Done { handler, key, letters, dry_run: *dry_run }, &words)?;
        Ok(())
    }
}
