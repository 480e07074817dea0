//! `ensue dead redrive [HANDLER [KEY]] [--group G | --all] [--rate N/s]`: letters are tried again as soon as their handler runs.

use std::num::NonZeroU32;
use std::sync::Arc;

use clap::Args;
use ensue::runtime::dead::{DeadLetters, pace};

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
    /// At most so many keys a second, such as 10/s; the application that runs then keeps the pace
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<NonZeroU32>,
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
            if let Some(rate) = self.rate {
                session.output.say(&format!(
                    "{}: the last one has its turn {:.1} s after the first",
                    count(keys.len(), "key"),
                    pace(keys.len(), rate).as_secs_f64()
                ));
            }
            return Ok(());
        }
        let requested = match self.rate {
            Some(rate) => dead.redrive_at(&which, rate).await?,
            None => dead.redrive(&which).await?,
        };
        let words = format!(
            "{} of {} will be tried again as soon as their handlers run; `ensue dead redrives` shows how it goes on",
            count(requested.letters, "letter"),
            count(requested.keys, "key")
        );
        session.output.one(&requested, &words)?;
        Ok(())
    }
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "write so many keys a second, such as `10/s`".to_owned())
}
