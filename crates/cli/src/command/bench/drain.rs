//! `ensue bench drain`: how fast one reader takes what a store holds, from the beginning to the head, as a relay does that has fallen
//! behind. Where the store gives positions only after the commit, as PostgreSQL does for what SQL appended, giving them is part of it.

use std::time::Instant;

use clap::Args;
use ensue::Read;
use futures_util::TryStreamExt;
use serde::Serialize;

use super::waiting::rate;
use crate::command::Session;
use crate::failure::Failure;

/// How fast one reader takes what the store holds, from the beginning to the head
#[derive(Args)]
pub(crate) struct Drain {}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    events: u64,
    events_per_s: f64,
    bytes: u64,
}

impl Drain {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let began = Instant::now();
        let (mut events, mut bytes) = (0, 0);
        // Its first page asks for the head, and so for the positions of all that was committed.
        let mut everything = store.read(Read::all());
        while let Some(event) = everything.try_next().await? {
            events += 1;
            bytes += event.envelope.data.len() as u64;
        }
        let measured = Measured { events, events_per_s: rate(events, began), bytes };
        let words = format!("{events} events, {bytes} bytes of data, {:.0} events/s", measured.events_per_s);
        session.output.one(&measured, &words)?;
        Ok(())
    }
}
