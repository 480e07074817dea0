//! `ensue dead redrive [HANDLER [KEY]] [--group G | --all]`: letters are tried again as soon as their handler runs.

use std::sync::Arc;

use clap::Args;
use ensue::runtime::dead::DeadLetters;

use super::meant::Meant;
use super::row::Key;
use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// Ask that dead letters be tried again, each key in order
#[derive(Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    meant: Meant,
    /// Who asks, for the record
    #[arg(long, env = "USER", default_value = "ensue-cli")]
    by: String,
    /// Only list what would be tried, in order
    #[arg(long)]
    dry_run: bool,
}

impl Redrive {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let which = self.meant.which()?;
        let store = session.place.open().await?;
        let dead = DeadLetters::new(Arc::new(store), session.host.clone(), &self.by);
        if self.dry_run {
            let keys: Vec<Key> = dead.plan(&which).await?.into_iter().map(Key).collect();
            session.output.all(&keys)?;
            return Ok(());
        }
        let requested = dead.redrive(&which).await?;
        let words = format!(
            "{} of {} will be tried again as soon as their handlers run; `ensue dead redrives` shows how it goes on",
            count(requested.letters, "letter"),
            count(requested.keys, "key")
        );
        session.output.one(&requested, &words)?;
        Ok(())
    }
}
