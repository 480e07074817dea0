//! The log as a part of a move: which record spaces there are, and events as another store has recorded them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ensue_core::{
    Append, BoxFuture, Code, Commit, Durability, Error, Expected, Portable, Position, Recorded, Space,
    StoreExt,
};

use crate::commit::commit_as_of;
use crate::engine::Engine;
use crate::store::Log;

/// Events that are imported in one commit, at most.
const RUN_MAX: usize = 1_000;

impl Portable for Log {
    fn spaces(&self) -> BoxFuture<'_, Result<Vec<Space>, Error>> {
        let engine = Arc::clone(self.engine());
        Box::pin(blocking::unblock(move || spaces(&engine)))
    }

    fn import(&self, events: Vec<Recorded>) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(async move {
            let head = self.head().await?;
            follows(head, &events)?;
            let mut rest = events.as_slice();
            while !rest.is_empty() {
                let (run, later) = rest.split_at(run_length(rest));
                let durability = if later.is_empty() { Durability::Durable } else { Durability::Buffered };
                let commit = Commit { appends: appends(run), durability, ..Commit::default() };
                let recorded_at = run.first().map(|event| event.recorded_at);
                commit_as_of(self.engine(), commit, recorded_at).await?;
                rest = later;
            }
            Ok(events.last().map_or(head, |event| event.position))
        })
    }
}

/// A frame has one time, so a run ends where the time changes; and it has a bound.
fn run_length(events: &[Recorded]) -> usize {
    let at = events.first().map(|event| event.recorded_at);
    events.iter().take(RUN_MAX).take_while(|event| Some(event.recorded_at) == at).count()
}

/// One append for neighbours of one stream. Each expects the version before it, so that nothing lands elsewhere.
fn appends(events: &[Recorded]) -> Vec<Append> {
    let runs = events.chunk_by(|one, next| one.stream == next.stream);
    let appends = runs.filter_map(|run| {
        let first = run.first()?;
        let expected = Expected::Exact(first.version.previous());
        let events = run.iter().map(|event| event.envelope.clone()).collect();
        Some(Append { stream: first.stream.clone(), expected, events })
    });
    appends.collect()
}

fn follows(head: Position, events: &[Recorded]) -> Result<(), Error> {
    let expected = (head.0 + 1..).zip(events);
    let stray = expected.into_iter().find(|(position, event)| event.position.0 != *position);
    stray.map_or(Ok(()), |(position, event)| {
        let message =
            format!("position {position} comes next, but the event is of position {}", event.position);
        Err(Error::new(Code::NO_COPY, message))
    })
}

/// From one space to the next by looking for the first key behind all of the space before.
fn spaces(engine: &Engine) -> Result<Vec<Space>, Error> {
    let mut names = BTreeSet::new();
    let index = engine.index()?;
    let view = {
        let window = engine.window();
        window.generations().flat_map(|generation| generation.records.keys()).for_each(|key| {
            names.insert(space_of(key).to_vec());
        });
        index.snapshot()
    };
    let mut from = Vec::new();
    loop {
        let next = index.records(&view, &from, &[u8::MAX]).next().transpose()?;
        let Some((key, _)) = next else { break };
        let name = space_of(&key).to_vec();
        // A space ends with the byte 0 in a key, so nothing of it is behind its name and the byte 1.
        from = [name.as_slice(), &[1]].concat();
        names.insert(name);
    }
    names.iter().map(|name| Space::new(String::from_utf8_lossy(name))).collect()
}

fn space_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().unwrap_or_default()
}
