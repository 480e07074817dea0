//! What a batch of commits does to the store, decided in memory from what was loaded under the lock.
//!
//! Invariants: commits are decided in their order, each on what the ones before it leave; a refused commit has changed
//! nothing; nothing here touches the database.

use std::collections::HashMap;

use bytes::Bytes;
use ensue_core::{
    Append, Appended, Change, Commit, CommitError, Committed, Envelope, Expected, Position, RecordWrite,
    Revision, Space, StreamName, Timestamp, Version,
};

/// What was decided about a commit.
pub(crate) type Outcome = Result<Committed, CommitError>;

/// A number that the store may be about to change under us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held<T> {
    /// It is locked for us.
    Ours(T),
    /// Another transaction holds it.
    Theirs,
}

/// What stands at a place of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) position: Position,
    pub(crate) source: String,
    pub(crate) id: String,
}

/// What the batch is decided by, brought forward with each commit that is taken.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) head: Position,
    pub(crate) versions: HashMap<StreamName, Held<Version>>,
    pub(crate) records: HashMap<(Space, Bytes), Held<Revision>>,
    /// What stands where a commit of the batch asks to go.
    pub(crate) standing: HashMap<(StreamName, Version), Standing>,
    /// For the commit of this number: the last event that its condition must not meet.
    pub(crate) matches: HashMap<usize, Position>,
    /// For the commit of this number: the revision that its records get.
    pub(crate) revisions: HashMap<usize, Revision>,
    /// The events of the batch so far: conditions meet them before they are stored.
    pub(crate) planned: Vec<(Position, Envelope)>,
}

/// What is to be written.
#[derive(Default)]
pub(crate) struct Plan {
    /// Streams that grow: the version before and after.
    pub(crate) streams: HashMap<StreamName, (Version, Version)>,
    /// Events in order of position, from the one behind the head.
    pub(crate) events: Vec<(StreamName, Version, Envelope)>,
    /// The revision of each record before, zero where there was none, and its last value; `None` deletes.
    pub(crate) records: HashMap<(Space, Bytes), (Revision, Option<Value>)>,
}

/// The value of a record.
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    pub(crate) revision: Revision,
    pub(crate) expires_at: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.records.is_empty()
    }
}

/// The outcome of each commit, and what is to be written. `None`: the commit waits for somebody and is tried alone.
pub(crate) fn decide(commits: &[&Commit], mut state: State) -> (Vec<Option<Outcome>>, Plan) {
    let mut plan = Plan::default();
    let outcomes = commits.iter().enumerate().map(|(number, commit)| state.decide(number, commit, &mut plan));
    (outcomes.collect(), plan)
}

/// The places of a stream at which the events of this append would stand if it had been taken before.
pub(crate) fn places(append: &Append) -> Option<impl Iterator<Item = Version> + use<>> {
    let before = match append.expected {
        Expected::NoStream => 0,
        Expected::Exact(version) => version.0,
        Expected::Any | Expected::Exists => return None,
    };
    let events = append.events.len() as u64;
    Some((1..=events).map(move |offset| Version(before.saturating_add(offset))))
}

impl State {
    fn decide(&mut self, number: usize, commit: &Commit, plan: &mut Plan) -> Option<Outcome> {
        if self.is_held_elsewhere(commit) {
            return None;
        }
        if let Some(appended) = self.repeated(&commit.appends) {
            let revision = commit.records.iter().map(|write| self.revision(write)).max();
            return Some(Ok(Committed { appended, revision: revision.unwrap_or_default(), repeated: true }));
        }
        if let Err(refusal) = self.check(number, commit) {
            return Some(Err(refusal));
        }
        let revision = self.revisions.get(&number).copied().unwrap_or_default();
        let appended = commit.appends.iter().map(|append| self.append(append, plan)).collect();
        commit.records.iter().for_each(|write| self.write(write, revision, plan));
        Some(Ok(Committed { appended, revision, repeated: false }))
    }

    fn is_held_elsewhere(&self, commit: &Commit) -> bool {
        let streams = commit.appends.iter().map(|append| &append.stream);
        streams.into_iter().any(|stream| self.versions.get(stream) == Some(&Held::Theirs))
            || commit.records.iter().any(|write| self.records.get(&id(write)) == Some(&Held::Theirs))
    }

    fn check(&self, number: usize, commit: &Commit) -> Result<(), CommitError> {
        self.check_versions(&commit.appends)?;
        self.check_condition(number, commit)?;
        commit.records.iter().try_for_each(|write| self.check_record(write))
    }

    /// Where the events of these appends stand, if each of them stands exactly where it asked to go.
    fn repeated(&self, appends: &[Append]) -> Option<Vec<Appended>> {
        if appends.is_empty() {
            return None;
        }
        appends.iter().map(|append| self.standing(append)).collect()
    }

    fn standing(&self, append: &Append) -> Option<Appended> {
        let mut found: Option<Appended> = None;
        for (version, event) in places(append)?.zip(&append.events) {
            let there = self.standing.get(&(append.stream.clone(), version))?;
            if there.id != event.id.as_str() || there.source != event.source.as_str() {
                return None;
            }
            let first =
                found.map_or((version, there.position), |found| (found.first_version, found.first_position));
            found = Some(Appended {
                first_version: first.0,
                last_version: version,
                first_position: first.1,
                last_position: there.position,
            });
        }
        found
    }

    /// Each append sees the appends before it in the same commit.
    fn check_versions(&self, appends: &[Append]) -> Result<(), CommitError> {
        let mut versions = HashMap::new();
        for append in appends {
            let version = versions.entry(&append.stream).or_insert_with(|| self.version(&append.stream));
            if !append.expected.admits(*version) {
                let stream = append.stream.clone();
                return Err(CommitError::Conflict { stream, expected: append.expected, actual: *version });
            }
            version.0 += append.events.len() as u64;
        }
        Ok(())
    }

    fn check_condition(&self, number: usize, commit: &Commit) -> Result<(), CommitError> {
        let Some(condition) = &commit.condition else { return Ok(()) };
        let planned = self.planned.iter().rev().find(|(position, envelope)| {
            *position > condition.after && condition.fail_if_match.matches(envelope)
        });
        match planned.map(|(position, _)| *position).or(self.matches.get(&number).copied()) {
            Some(position) => Err(CommitError::ConditionFailed { position }),
            None => Ok(()),
        }
    }

    fn check_record(&self, write: &RecordWrite) -> Result<(), CommitError> {
        let actual = self.revision(write);
        if write.expected.is_none_or(|expected| expected == actual) {
            return Ok(());
        }
        Err(CommitError::RecordConflict { write: Box::new(write.clone()), actual })
    }

    fn append(&mut self, append: &Append, plan: &mut Plan) -> Appended {
        let before = self.version(&append.stream);
        let first_position = self.head.next();
        let mut version = before;
        for event in &append.events {
            version = version.next();
            self.head = self.head.next();
            let there = Standing {
                position: self.head,
                source: event.source.as_str().to_owned(),
                id: event.id.as_str().to_owned(),
            };
            self.standing.insert((append.stream.clone(), version), there);
            self.planned.push((self.head, event.clone()));
            plan.events.push((append.stream.clone(), version, event.clone()));
        }
        self.versions.insert(append.stream.clone(), Held::Ours(version));
        plan.streams.entry(append.stream.clone()).or_insert((before, version)).1 = version;
        Appended {
            first_version: before.next(),
            last_version: version,
            first_position,
            last_position: self.head,
        }
    }

    fn write(&mut self, write: &RecordWrite, revision: Revision, plan: &mut Plan) {
        let (left, value) = match &write.change {
            Change::Delete => (Held::Ours(Revision::ZERO), None),
            Change::Put { value, expires_at } => {
                let value = Value { bytes: value.clone(), revision, expires_at: *expires_at };
                // Only the server's clock says whether it has lapsed, so whoever touches it next is decided later.
                let left = if expires_at.is_some() { Held::Theirs } else { Held::Ours(revision) };
                (left, Some(value))
            }
        };
        let before = plan.records.get(&id(write)).map_or_else(|| self.revision(write), |(before, _)| *before);
        self.records.insert(id(write), left);
        plan.records.insert(id(write), (before, value));
    }

    fn version(&self, stream: &StreamName) -> Version {
        match self.versions.get(stream) {
            Some(Held::Ours(version)) => *version,
            Some(Held::Theirs) | None => Version::ZERO,
        }
    }

    fn revision(&self, write: &RecordWrite) -> Revision {
        match self.records.get(&id(write)) {
            Some(Held::Ours(revision)) => *revision,
            Some(Held::Theirs) | None => Revision::ZERO,
        }
    }
}

fn id(write: &RecordWrite) -> (Space, Bytes) {
    (write.space.clone(), write.key.clone())
}
