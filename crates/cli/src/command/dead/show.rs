//! `ensue dead show HANDLER KEY POSITION`: one letter, the event it names, and the edited copies of it.

use clap::Args;
use ensue::core::{Position, Recorded};
use ensue::runtime::dead::{DeadLetter, DeadLetters, edits};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::shape::{self, Shown};

/// One dead letter with its event, and the edited copies of it
#[derive(Args)]
pub(crate) struct Show {
    /// The handler that parked it
    handler: String,
    /// The key
    key: String,
    /// The position of its event
    position: u64,
}

#[derive(Serialize)]
struct Page<'a> {
    letter: &'a DeadLetter,
    event: Shown<'a>,
    edits: Vec<Shown<'a>>,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let dead = DeadLetters::new(store.clone(), session.host.clone(), "ensue-cli");
        let letter = dead.letter(&self.handler, &self.key, Position(self.position)).await?;
        let event = find::event(&*store, &self.position.to_string()).await?;
        let copies = edits(&*store, &self.handler, &letter.parked).await?;
        let words = in_words(&letter, &event, &copies);
        let edits = copies.iter().map(Shown).collect();
        session.output.one(&Page { letter: &letter, event: Shown(&event), edits }, &words)?;
        Ok(())
    }
}

fn in_words(letter: &DeadLetter, event: &Recorded, copies: &[Recorded]) -> String {
    let DeadLetter { handler, parked, .. } = letter;
    let mut lines = vec![format!(
        "{handler} {}: parked since {}, tried {} times: {}: {}",
        parked.key,
        shape::time(parked.parked_at),
        parked.attempts,
        parked.code,
        parked.reason
    )];
    lines.push(shape::page(event));
    for copy in copies {
        lines.push(format!("edited at {}:\n{}", shape::time(copy.envelope.time), shape::page(copy)));
    }
    lines.join("\n")
}
