//! The model itself: a list of events, a map of records, and what a commit does to them.
//!
//! Invariants: `events[i]` has position `i + 1`; the versions of each stream are 1, 2, 3, …; a refused commit has
//! changed nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensue_core::{
    Append, AppendCondition, Appended, Change, Commit, CommitError, Committed, Direction, Envelope, Expected,
    Position, Read, Record, RecordPage, RecordScan, RecordWrite, Recorded, Revision, Select, Space,
    StreamName, Timestamp, Version,
};

#[derive(Default)]
pub(super) struct State {
    events: Vec<Recorded>,
    versions: BTreeMap<StreamName, Version>,
    records: BTreeMap<Space, BTreeMap<Bytes, Record>>,
    revision: Revision,
}

impl State {
    /// The position of the last event.
    pub(super) fn head(&self) -> Position {
        self.events.last().map(|last| last.position).unwrap_or_default()
    }

    /// Takes the whole commit, or changes nothing.
    pub(super) fn commit(&mut self, commit: &Commit, now: Timestamp) -> Result<Committed, CommitError> {
        if let Some(appended) = self.repeated(&commit.appends) {
            return Ok(Committed { appended, revision: self.revision, repeated: true });
        }
        self.check_versions(&commit.appends)?;
        commit.condition.iter().try_for_each(|condition| self.check_condition(condition))?;
        commit.records.iter().try_for_each(|write| self.check_record(write, now))?;

        // Nothing below can fail.
        let appended = commit.appends.iter().map(|append| self.append(append, now)).collect();
        if !commit.records.is_empty() {
            self.revision = self.revision.next();
            commit.records.iter().for_each(|write| self.write(write));
        }
        Ok(Committed { appended, revision: self.revision, repeated: false })
    }

    /// Where the events of these appends stand, if each of them stands exactly where it asked to go.
    fn repeated(&self, appends: &[Append]) -> Option<Vec<Appended>> {
        if appends.is_empty() {
            return None;
        }
        appends.iter().map(|append| self.standing(append)).collect()
    }

    /// Where the events of this append stand. Only an append that names its place can be recognised.
    fn standing(&self, append: &Append) -> Option<Appended> {
        let before = match append.expected {
            Expected::NoStream => Version::ZERO,
            Expected::Exact(version) => version,
            Expected::Any | Expected::Exists => return None,
        };
        let there: Vec<&Recorded> = self
            .events
            .iter()
            .filter(|event| event.stream == append.stream && event.version > before)
            .take(append.events.len())
            .collect();
        let is_same = there.len() == append.events.len()
            && there.iter().zip(&append.events).all(|(old, new)| is_same_event(&old.envelope, new));
        let (first, last) = (there.first()?, there.last()?);
        is_same.then_some(Appended {
            first_version: first.version,
            last_version: last.version,
            first_position: first.position,
            last_position: last.position,
        })
    }

    fn version(&self, stream: &StreamName) -> Version {
        self.versions.get(stream).copied().unwrap_or_default()
    }

    /// Each append sees the appends before it in the same commit.
    fn check_versions(&self, appends: &[Append]) -> Result<(), CommitError> {
        let mut versions = BTreeMap::new();
        for append in appends {
            let version = versions.entry(&append.stream).or_insert_with(|| self.version(&append.stream));
            if !append.expected.admits(*version) {
                return Err(CommitError::Conflict {
                    stream: append.stream.clone(),
                    expected: append.expected,
                    actual: *version,
                });
            }
            version.0 += append.events.len() as u64;
        }
        Ok(())
    }

    fn check_condition(&self, condition: &AppendCondition) -> Result<(), CommitError> {
        let matching = self.events.iter().rev().find(|event| {
            event.position > condition.after && condition.fail_if_match.matches(&event.envelope)
        });
        match matching {
            Some(event) => Err(CommitError::ConditionFailed { position: event.position }),
            None => Ok(()),
        }
    }

    fn check_record(&self, write: &RecordWrite, now: Timestamp) -> Result<(), CommitError> {
        let record = self.records.get(&write.space).and_then(|space| space.get(&write.key));
        let actual = record.filter(|record| !has_lapsed(record, now)).map(|record| record.revision);
        let actual = actual.unwrap_or_default();
        if write.expected.is_none_or(|expected| expected == actual) {
            return Ok(());
        }
        Err(CommitError::RecordConflict { write: Box::new(write.clone()), actual })
    }

    fn append(&mut self, append: &Append, now: Timestamp) -> Appended {
        let first_version = self.version(&append.stream).next();
        let first_position = self.head().next();
        for envelope in &append.events {
            let version = self.version(&append.stream).next();
            // The wall clock may jump back; the time of record must not.
            let recorded_at = self.events.last().map_or(now, |last| last.recorded_at.max(now));
            self.events.push(Recorded {
                position: self.head().next(),
                stream: append.stream.clone(),
                version,
                recorded_at,
                envelope: envelope.clone(),
            });
            self.versions.insert(append.stream.clone(), version);
        }
        Appended {
            first_version,
            last_version: self.version(&append.stream),
            first_position,
            last_position: self.head(),
        }
    }

    fn write(&mut self, write: &RecordWrite) {
        let space = self.records.entry(write.space.clone()).or_default();
        match &write.change {
            Change::Delete => {
                space.remove(&write.key);
            }
            Change::Put { value, expires_at } => {
                let record = Record {
                    key: write.key.clone(),
                    value: value.clone(),
                    revision: self.revision,
                    expires_at: *expires_at,
                };
                space.insert(write.key.clone(), record);
            }
        }
    }

    /// The events that a read selects, in its order.
    pub(super) fn read(&self, read: &Read) -> Vec<Recorded> {
        let selected = self.events.iter().filter(|event| {
            event.position > read.after && event.position <= read.until && is_selected(&read.select, event)
        });
        match read.direction {
            Direction::Forward => selected.take(read.limit).cloned().collect(),
            Direction::Backward => selected.rev().take(read.limit).cloned().collect(),
        }
    }

    /// A page of records as they stand at this time.
    pub(super) fn scan(&self, scan: &RecordScan, now: Timestamp) -> RecordPage {
        let is_before_end = |key: &Bytes| scan.until.as_ref().is_none_or(|until| key < until);
        let mut there = self
            .records
            .get(&scan.space)
            .into_iter()
            .flat_map(|space| space.range(scan.from.clone()..))
            .take_while(|(key, _)| is_before_end(key))
            .map(|(_, record)| record)
            .filter(|record| !has_lapsed(record, now));
        let records = there.by_ref().take(scan.limit).cloned().collect();
        RecordPage { records, next: there.next().map(|record| record.key.clone()) }
    }
}

/// An event is known by its source and id.
fn is_same_event(old: &Envelope, new: &Envelope) -> bool {
    old.id == new.id && old.source == new.source
}

fn is_selected(select: &Select, event: &Recorded) -> bool {
    match select {
        Select::All => true,
        Select::Stream { stream, from, to } => {
            event.stream == *stream && *from <= event.version && event.version <= *to
        }
        Select::Query(query) => query.matches(&event.envelope),
        Select::Flow(flow) => event.envelope.flow() == flow,
    }
}

fn has_lapsed(record: &Record, now: Timestamp) -> bool {
    record.expires_at.is_some_and(|at| at <= now)
}
