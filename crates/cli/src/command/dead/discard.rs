//! `ensue dead discard [HANDLER [KEY]] [--group G | --all] --reason R [--position P]`: gives up what is parked.

use std::sync::Arc;

use clap::Args;
use ensue::core::{Code, Error, Position};
use ensue::runtime::dead::{DeadLetters, Which};

use super::meant::Meant;
use super::row::Done;
use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// Give dead letters up; they are kept aside with the reason, and what remains is tried again
#[derive(Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    meant: Meant,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
    /// Who gives them up, for the record
    #[arg(long, env = "USER", default_value = "ensue-cli")]
    by: String,
    /// Only the letter of the event at this position; needs HANDLER and KEY
    #[arg(long, requires = "key")]
    position: Option<u64>,
    /// Only say how many would be given up
    #[arg(long)]
    dry_run: bool,
}

impl Discard {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let which = self.meant.which()?;
        let store = session.place.open().await?;
        let dead = DeadLetters::new(Arc::new(store), session.host.clone(), &self.by);
        let letters = if self.dry_run {
            self.count(&dead, &which).await?
        } else if let (Some(at), Which::Key { handler, key }) = (self.position, &which) {
            dead.discard_one(handler, key, Position(at), &self.reason).await?
        } else {
            dead.discard(&which, &self.reason).await?
        };
        let verb = if self.dry_run { "would be given up" } else { "given up" };
        let words = format!("{} {verb}", count(letters, "letter"));
        session.output.one(&Done { letters, dry_run: self.dry_run }, &words)?;
        Ok(())
    }

    /// How many letters would be given up. `E0414` if none.
    async fn count(&self, dead: &DeadLetters<'_>, which: &Which) -> Result<usize, Error> {
        let planned = dead.plan(which).await?;
        let count = match (self.position.map(Position), which) {
            (Some(at), _) => {
                planned.iter().flat_map(|key| &key.letters).filter(|letter| **letter == at).count()
            }
            // Of a group only what failed is given up, which is the first of each key.
            (None, Which::Group(_)) => planned.len(),
            (None, _) => planned.iter().map(|key| key.letters.len()).sum(),
        };
        match count {
            0 => Err(Error::new(Code::NOT_FOUND, "nothing is parked at that position")
                .with_fix("`ensue dead ls` lists the positions")),
            count => Ok(count),
        }
    }
}
