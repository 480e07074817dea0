//! A store in a database: all that it holds is read as an application reads it, each event once.

use std::collections::HashMap;

use ensue::core::{Code, Error, Portable, Position, Read, Recorded, StreamName, Version};
use futures_util::TryStreamExt;
use serde::Serialize;

use super::{Finding, in_words};
use crate::command::store::pages::Pages;
use crate::place::Kind;
use crate::words::count;

#[derive(Serialize)]
pub(super) struct Verified {
    store: String,
    events: u64,
    streams: usize,
    records: u64,
    head: Position,
    pub(super) findings: Vec<Finding>,
}

impl Verified {
    /// Reads everything. What cannot be read for another reason than damage is an error.
    pub(super) async fn of(kind: &Kind, store: String) -> Result<Self, Error> {
        let mut verified =
            Self { store, events: 0, streams: 0, records: 0, head: Position::ZERO, findings: Vec::new() };
        if let Kind::Sqlite(file) = kind {
            let said = file.structure().await?;
            verified.findings.extend(said.into_iter().map(Finding::corrupt));
        }
        let read = verified.events(kind.portable()).await;
        verified.note(read)?;
        let read = verified.records(kind.portable()).await;
        verified.note(read)?;
        Ok(verified)
    }

    /// Damage is a finding.
    fn note(&mut self, read: Result<(), Error>) -> Result<(), Error> {
        match read {
            Err(error) if error.code() == Code::CORRUPT => self.findings.push(Finding::of(&error)),
            read => return read,
        }
        Ok(())
    }

    /// In the order of the log: no position is left out, and neither is a version of a stream.
    async fn events(&mut self, store: &dyn Portable) -> Result<(), Error> {
        let mut versions = HashMap::<StreamName, Version>::new();
        let mut events = store.read(Read::all());
        while let Some(Recorded { position, version, stream, .. }) = events.try_next().await? {
            if position.0 != self.head.0 + 1 {
                self.find(format!("position {position} follows position {}", self.head));
            }
            let before = versions.insert(stream.clone(), version).unwrap_or_default();
            if version.0 != before.0 + 1 {
                self.find(format!(
                    "at position {position}, version {version} of {stream} follows version {before}"
                ));
            }
            self.head = position;
            self.events += 1;
            self.streams = versions.len();
        }
        Ok(())
    }

    async fn records(&mut self, store: &dyn Portable) -> Result<(), Error> {
        for space in store.spaces().await? {
            self.records += Pages::new(store, &space).count().await?;
        }
        Ok(())
    }

    fn find(&mut self, message: String) {
        self.findings.push(Finding::corrupt(message));
    }

    pub(super) fn in_words(&self) -> String {
        let read = format!(
            "{} in {}, up to position {}, and {}",
            count(self.events, "event"),
            count(self.streams, "stream"),
            self.head,
            count(self.records, "record")
        );
        let mut lines = vec![read];
        lines.extend(in_words(&self.findings));
        lines.join("\n")
    }
}
