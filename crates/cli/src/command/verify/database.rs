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
    /// Positions whose events were dropped by retention.
    dropped: u64,
    pub(super) findings: Vec<Finding>,
}

impl Verified {
    /// Reads everything. What cannot be read for another reason than damage is an error.
    pub(super) async fn of(kind: &Kind, store: String) -> Result<Self, Error> {
        let (head, findings) = (Position::ZERO, Vec::new());
        let mut verified = Self { store, events: 0, streams: 0, records: 0, head, dropped: 0, findings };
        if let Kind::Sqlite(file) = kind {
            let said = file.structure().await?;
            verified.findings.extend(said.into_iter().map(Finding::corrupt));
        }
        let read = verified.events(kind).await;
        verified.note(read)?;
        let looked = verified.tail(kind).await;
        verified.note(looked)?;
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

    /// In the order of the log: no position is left out, and neither is a version of a stream. But for what was dropped, of which a reader knows the
    /// positions: a stream lacks at most as many versions as positions between its events.
    async fn events(&mut self, kind: &Kind) -> Result<(), Error> {
        let can_drop = matches!(kind, Kind::Postgres(_));
        // Of each stream its last version, and how much had been dropped by then.
        let mut streams = HashMap::<StreamName, (Version, u64)>::new();
        let mut events = kind.portable().read(Read::all());
        while let Some(Recorded { position, version, stream, .. }) = events.try_next().await? {
            let skipped = position.0.saturating_sub(self.head.0 + 1);
            if position <= self.head || (skipped > 0 && !can_drop) {
                self.find(format!("position {position} follows position {}", self.head));
            }
            self.dropped += skipped;
            let (before, dropped) =
                streams.insert(stream.clone(), (version, self.dropped)).unwrap_or_default();
            let lacking = version.0.checked_sub(before.0 + 1);
            if lacking.is_none_or(|lacking| lacking > self.dropped - dropped) {
                self.find(format!(
                    "at position {position}, version {version} of {stream} follows version {before}"
                ));
            }
            self.head = position;
            self.events += 1;
            self.streams = streams.len();
        }
        Ok(())
    }

    /// A reader ends where the log says that it does, and finds what is missing before. What lies beyond only the table tells.
    async fn tail(&mut self, kind: &Kind) -> Result<(), Error> {
        let (head, last) = match kind {
            // Its rows are its log.
            Kind::Log(_) => return Ok(()),
            Kind::Postgres(database) => database.tail().await.map(|tail| (tail.head, tail.last))?,
            Kind::Sqlite(file) => file.tail().await.map(|tail| (tail.head, tail.last))?,
        };
        if last > head {
            self.find(format!("position {last} was added by hand: the log ends at position {head}"));
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
        lines.extend(
            (self.dropped > 0).then(|| format!("{} dropped, past their time", count(self.dropped, "event"))),
        );
        lines.extend(in_words(&self.findings));
        lines.join("\n")
    }
}
