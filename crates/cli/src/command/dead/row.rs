//! A dead letter as it is printed, and those that a command is about.

use ensue::core::{Code, Error, Position, Store};
use ensue::runtime::dead::{self, DeadLetter};
use serde::Serialize;

use crate::output::{Row, short};
use crate::shape;

/// A dead letter.
#[derive(Serialize)]
pub(super) struct Letter(pub(super) DeadLetter);

impl Row for Letter {
    const HEADINGS: &'static [&'static str] =
        &["handler", "key", "position", "type", "attempts", "since", "code", "reason"];

    fn cells(&self) -> Vec<String> {
        let DeadLetter { handler, parked } = &self.0;
        vec![
            handler.to_string(),
            short(&parked.key, 60),
            parked.position.to_string(),
            parked.event_type.to_string(),
            parked.attempts.to_string(),
            shape::time(parked.parked_at),
            parked.code.clone(),
            short(&parked.reason, 80),
        ]
    }
}

/// What became of the letters of one key.
#[derive(Serialize)]
pub(super) struct Done<'a> {
    pub(super) handler: &'a str,
    pub(super) key: &'a str,
    pub(super) letters: usize,
    pub(super) dry_run: bool,
}

/// How many letters a redrive or discard would take. `E0414` if none.
pub(super) async fn count(
    store: &dyn Store,
    handler: &str,
    key: &str,
    only: Option<Position>,
) -> Result<usize, Error> {
    let letters = dead::list(store).await?;
    let meant = letters.iter().filter(|letter| {
        letter.handler == handler
            && letter.parked.key == key
            && only.is_none_or(|position| letter.parked.position == position)
    });
    match meant.count() {
        0 => Err(Error::new(Code::NOT_FOUND, format!("{handler} has nothing parked under {key}"))
            .with_fix("`ensue dead ls` lists handlers and keys")),
        count => Ok(count),
    }
}
