//! `ensue dead ls [HANDLER] [--discarded]`: what is parked, what was given up, and which lanes have stopped.

use clap::Args;
use ensue::core::{Error, Store};
use ensue::runtime::dead;

use super::row::{GivenUp, Letter};
use crate::command::Session;
use crate::failure::Failure;
use crate::find;

/// List dead letters, by handler and key
#[derive(Args)]
pub(crate) struct Ls {
    /// Only those of this handler
    handler: Option<String>,
    /// Those that were given up, with who did it, when and why
    #[arg(long)]
    discarded: bool,
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let is_meant = |handler: &str| self.handler.as_deref().is_none_or(|only| only == handler);
        if self.discarded {
            let letters = dead::discarded(&store).await?;
            let letters: Vec<GivenUp> =
                letters.into_iter().filter(|letter| is_meant(&letter.handler)).map(GivenUp).collect();
            self.check(&store, &letters).await?;
            session.output.all(&letters)?;
            return Ok(());
        }
        let letters = dead::list(&store).await?;
        let letters: Vec<Letter> =
            letters.into_iter().filter(|letter| is_meant(&letter.handler)).map(Letter).collect();
        self.check(&store, &letters).await?;
        session.output.all(&letters)?;
        for halted in dead::halted(&store).await?.iter().filter(|halted| is_meant(&halted.handler)) {
            let dead::Halted { handler, lane, code, reason, since } = halted;
            session
                .output
                .say(&format!("{handler}, lane {lane}, has stopped since {since}: {code}: {reason}"));
        }
        for outlived in dead::outlived(&store, session.host.clock.now()).await? {
            session.output.say(&format!("{outlived}"));
        }
        Ok(())
    }

    /// Nothing found is an answer for a handler that there is, and `E0414` for another.
    async fn check<L>(&self, store: &dyn Store, letters: &[L]) -> Result<(), Error> {
        match &self.handler {
            Some(handler) if letters.is_empty() => {
                find::handler(store, handler, &format!("handler {handler}")).await
            }
            _ => Ok(()),
        }
    }
}
