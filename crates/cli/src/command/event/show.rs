//! `ensue event show ID|POSITION`: everything about one event.

use clap::Args;

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::shape::{Shown, page};

/// Everything about one event
#[derive(Args)]
pub(crate) struct Show {
    /// Its id or position
    #[arg(value_name = "ID|POSITION")]
    event: String,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let found = find::event(&store, &self.event).await?;
        session.output.one(&Shown(&found), &page(&found))?;
        Ok(())
    }
}
