//! `ensue dead edit HANDLER KEY POSITION -d @FILE|-|LITERAL --reason R`: gives a letter another body.

use std::sync::Arc;

use clap::Args;
use ensue::core::{EventId, Position};
use ensue::runtime::dead::DeadLetters;
use serde::Serialize;

use crate::command::Session;
use crate::document::Document;
use crate::failure::Failure;
use crate::known;

/// Give a dead letter another body; only its handler sees the copy, at the original's place
#[derive(Args)]
pub(crate) struct Edit {
    /// The handler that parked it
    handler: String,
    /// The key
    key: String,
    /// The position of its event
    position: u64,
    /// The new body, as JSON: a literal, @FILE, or - for standard input
    #[arg(short = 'd', long = "document", value_name = "@FILE|-|LITERAL", allow_hyphen_values = true)]
    document: String,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
    /// Who edits it, for the record
    #[arg(long, env = "USER", default_value = "ensue-cli")]
    by: String,
}

#[derive(Serialize)]
struct Edited<'a> {
    handler: &'a str,
    key: &'a str,
    position: u64,
    copy: EventId,
}

impl Edit {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { handler, key, position, .. } = &self;
        let document = Document::read(&self.document)?;
        let store = session.place.open().await?;
        let dead = DeadLetters::new(Arc::new(store), session.host.clone(), &self.by);
        let dead = dead.registry(known::registry());
        let edited = dead.edit(handler, key, Position(*position), &document.bytes, &self.reason).await;
        let copy = edited.map_err(|error| document.blame(error))?;
        let words = format!(
            "{copy} takes the place of the event at {position}; `ensue dead redrive {handler} {key}` tries it"
        );
        session.output.one(&Edited { handler, key, position: *position, copy }, &words)?;
        Ok(())
    }
}
