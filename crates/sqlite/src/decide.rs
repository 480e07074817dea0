//! What a commit does to the log, decided and written in an open write transaction.
//!
//! Invariants: everything is checked before anything is written, so a refused commit has changed nothing; what an earlier
//! commit of the same transaction wrote is seen by the next.

use std::collections::HashMap;

use ensue_core::{
    Append, AppendCondition, Appended, Change, Code, Commit, CommitError, Committed, Envelope, Error,
    Expected, Position, RecordWrite, Recorded, Revision, StreamName, Timestamp, Version,
};
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

use crate::attributes::{COLUMNS, column, data, lapse, metadata, number, recorded, signed};
use crate::error;
use crate::select::Statement;

/// What becomes of a commit.
pub(crate) type Outcome = Result<Committed, CommitError>;

/// Lapsed records that are removed with a transaction, so that none gets long.
const SWEPT_MAX: i64 = 32;

/// The log as the open transaction has it.
pub(crate) struct Log<'a> {
    connection: &'a Connection,
    now: Timestamp,
    head: Position,
    revision: Revision,
    /// Of the last event; the wall clock may jump back, the time of record must not.
    recorded_at: i64,
    is_changed: bool,
}

impl<'a> Log<'a> {
    /// Fails (`E0412`) if somebody has added or removed rows of events by hand.
    pub(crate) fn open(connection: &'a Connection, now: Timestamp) -> Result<Self, Error> {
        let sql = "SELECT head, revision, recorded_at, (SELECT coalesce(max(position), 0) FROM ensue_events) FROM ensue_log";
        let mut statement = connection.prepare_cached(sql).map_err(unreadable)?;
        let (head, revision, recorded_at, last): (i64, i64, i64, i64) = statement
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .map_err(unreadable)?;
        if head != last {
            let message =
                format!("the log ends at position {head}, but the last row of ensue_events has {last}");
            return Err(Error::new(Code::CORRUPT, message).with_fix(
                "rows of ensue_events were added or removed by hand: take that back, or restore the file from a backup",
            ));
        }
        Ok(Self {
            connection,
            now,
            head: Position(number(head)),
            revision: Revision(number(revision)),
            recorded_at,
            is_changed: false,
        })
    }

    /// Decides, and writes what is taken. After an error the transaction must be rolled back.
    pub(crate) fn take(&mut self, commit: &Commit) -> Result<Outcome, Error> {
        let mut versions = self.versions(&commit.appends)?;
        if let Some(conflict) = conflict(&commit.appends, versions.clone()) {
            let repeated = self.repeated(&commit.appends)?;
            let committed = |appended| Committed { appended, revision: self.revision, repeated: true };
            return Ok(repeated.map(committed).ok_or(conflict));
        }
        if let Some(position) =
            commit.condition.as_ref().map_or(Ok(None), |condition| self.last_match(condition))?
        {
            return Ok(Err(CommitError::ConditionFailed { position }));
        }
        for write in &commit.records {
            if let Some(conflict) = self.record_conflict(write)? {
                return Ok(Err(conflict));
            }
        }
        let mut appended = Vec::with_capacity(commit.appends.len());
        for append in &commit.appends {
            let version = versions.entry(&append.stream).or_default();
            appended.push(self.append(append, version)?);
        }
        if !commit.records.is_empty() {
            self.revision = self.revision.next();
            self.is_changed = true;
            commit.records.iter().try_for_each(|write| self.write(write)).map_err(unwritable)?;
        }
        Ok(Ok(Committed { appended, revision: self.revision, repeated: false }))
    }

    /// Takes over an event as another store has recorded it. Fails (`E0416`) if it does not come next.
    pub(crate) fn import(&mut self, event: &Recorded) -> Result<(), Error> {
        let (position, version) = (self.head.next(), self.version(&event.stream)?.next());
        if (event.position, event.version) != (position, version) {
            let message = format!(
                "position {position} and version {version} of {} come next, but the event is of {} and {}",
                event.stream, event.position, event.version
            );
            return Err(Error::new(Code::NO_COPY, message));
        }
        self.is_changed = true;
        self.head = position;
        self.recorded_at = self.recorded_at.max(event.recorded_at.as_microsecond());
        self.insert(&event.stream, version, &event.envelope).map_err(unwritable)
    }

    /// Writes down where the next transaction goes on.
    pub(crate) fn close(self) -> Result<Position, Error> {
        if self.is_changed {
            let sql = "UPDATE ensue_log SET head = ?1, revision = ?2, recorded_at = ?3";
            let values = (signed(self.head.0), signed(self.revision.0), self.recorded_at);
            self.execute(sql, values).map_err(unwritable)?;
            self.sweep().map_err(unwritable)?;
        }
        Ok(self.head)
    }

    /// The version of each stream that is appended to.
    fn versions<'c>(&self, appends: &'c [Append]) -> Result<HashMap<&'c StreamName, Version>, Error> {
        let mut versions = HashMap::with_capacity(appends.len());
        for append in appends {
            if !versions.contains_key(&append.stream) {
                versions.insert(&append.stream, self.version(&append.stream)?);
            }
        }
        Ok(versions)
    }

    fn version(&self, stream: &StreamName) -> Result<Version, Error> {
        let sql =
            "SELECT version FROM ensue_events WHERE topic = ?1 AND key = ?2 ORDER BY version DESC LIMIT 1";
        let found = self.number(sql, (stream.topic.as_str(), stream.key.as_str()))?;
        Ok(Version(found.unwrap_or_default()))
    }

    /// Where the events of these appends stand, if each of them stands exactly where it asked to go.
    fn repeated(&self, appends: &[Append]) -> Result<Option<Vec<Appended>>, Error> {
        appends.iter().map(|append| self.standing(append)).collect()
    }

    fn standing(&self, append: &Append) -> Result<Option<Appended>, Error> {
        let before = match append.expected {
            Expected::NoStream => Version::ZERO,
            Expected::Exact(version) => version,
            Expected::Any | Expected::Exists => return Ok(None),
        };
        let there = self.following(append, before)?;
        let is_same = there.len() == append.events.len()
            && there.iter().zip(&append.events).all(|(old, new)| is_same_event(&old.envelope, new));
        let (Some(first), Some(last)) = (there.first(), there.last()) else { return Ok(None) };
        Ok(is_same.then_some(Appended {
            first_version: first.version,
            last_version: last.version,
            first_position: first.position,
            last_position: last.position,
        }))
    }

    /// As many events of the stream as the append has, from the place where it asked to go.
    fn following(&self, append: &Append, before: Version) -> Result<Vec<Recorded>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ensue_events AS e WHERE e.topic = ?1 AND e.key = ?2 AND e.version > ?3 \
             ORDER BY e.version LIMIT ?4"
        );
        let values = (
            append.stream.topic.as_str(),
            append.stream.key.as_str(),
            signed(before.0),
            signed(append.events.len() as u64),
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(unreadable)?;
        let mut rows = statement.query(values).map_err(unreadable)?;
        let mut there = Vec::with_capacity(append.events.len());
        while let Some(row) = rows.next().map_err(unreadable)? {
            there.push(recorded(row)?);
        }
        Ok(there)
    }

    fn last_match(&self, condition: &AppendCondition) -> Result<Option<Position>, Error> {
        let statement = Statement::last_match(&condition.fail_if_match, condition.after.0);
        Ok(self.number(&statement.sql, params_from_iter(&statement.values))?.map(Position))
    }

    fn record_conflict(&self, write: &RecordWrite) -> Result<Option<CommitError>, Error> {
        let Some(expected) = write.expected else { return Ok(None) };
        let sql = "SELECT revision FROM ensue_records WHERE space = ?1 AND key = ?2 \
                   AND (expires_at IS NULL OR expires_at > ?3)";
        let actual = self.number(sql, (write.space.as_str(), &*write.key, lapse(self.now)))?;
        let actual = Revision(actual.unwrap_or_default());
        let conflict = || CommitError::RecordConflict { write: Box::new(write.clone()), actual };
        Ok((expected != actual).then(conflict))
    }

    fn append(&mut self, append: &Append, version: &mut Version) -> Result<Appended, Error> {
        let (first_version, first_position) = (version.next(), self.head.next());
        self.is_changed = true;
        self.recorded_at = self.recorded_at.max(self.now.as_microsecond());
        for event in &append.events {
            *version = version.next();
            self.head = self.head.next();
            self.insert(&append.stream, *version, event).map_err(unwritable)?;
        }
        Ok(Appended { first_version, last_version: *version, first_position, last_position: self.head })
    }

    fn insert(&self, stream: &StreamName, version: Version, event: &Envelope) -> rusqlite::Result<()> {
        let sql = "INSERT INTO ensue_events \
                   (position, version, recorded_at, topic, key, event_type, flow, metadata, data) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let position = signed(self.head.0);
        let values: [&dyn ToSql; 9] = [
            &position,
            &signed(version.0),
            &self.recorded_at,
            &stream.topic.as_str(),
            &stream.key.as_str(),
            &event.event_type.as_str(),
            &event.flow().as_str(),
            &metadata(event),
            &rusqlite::types::ToSqlOutput::Borrowed(data(event)),
        ];
        self.execute(sql, &values[..])?;
        event.tags.iter().try_for_each(|tag| {
            self.execute("INSERT OR IGNORE INTO ensue_tags VALUES (?1, ?2)", (tag.to_string(), position))
        })
    }

    fn write(&self, write: &RecordWrite) -> rusqlite::Result<()> {
        let (space, key) = (write.space.as_str(), &*write.key);
        match &write.change {
            Change::Delete => {
                self.execute("DELETE FROM ensue_records WHERE space = ?1 AND key = ?2", (space, key))
            }
            Change::Put { value, expires_at } => {
                let sql = "INSERT OR REPLACE INTO ensue_records (space, key, value, revision, expires_at) \
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                let expires_at = expires_at.map(lapse);
                self.execute(sql, (space, key, &**value, signed(self.revision.0), expires_at))
            }
        }
    }

    /// A lapsed record counts as absent long before; this only gives its room back.
    fn sweep(&self) -> rusqlite::Result<()> {
        let sql = "DELETE FROM ensue_records WHERE (space, key) IN \
                   (SELECT space, key FROM ensue_records WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
        self.execute(sql, (lapse(self.now), SWEPT_MAX))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// The first column of the first row, if there is one.
    fn number(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<u64>, Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(unreadable)?;
        let found = statement.query_row(values, |row| row.get::<_, i64>(0)).optional().map_err(unreadable)?;
        Ok(found.map(number))
    }
}

/// The position of the last event that can be read.
pub(crate) fn head(connection: &Connection) -> Result<Position, Error> {
    let mut statement = connection.prepare_cached("SELECT head FROM ensue_log").map_err(unreadable)?;
    let mut rows = statement.query(()).map_err(unreadable)?;
    match rows.next().map_err(unreadable)? {
        Some(row) => Ok(Position(number(column(row, 0)?))),
        None => Err(log_is_gone()),
    }
}

pub(crate) fn log_is_gone() -> Error {
    Error::new(Code::CORRUPT, "the row of ensue_log is gone")
        .with_fix("restore the file from a backup: the tables of Ensue are not changed by hand")
}

/// Each append sees the appends before it in the same commit.
fn conflict<'c>(
    appends: &'c [Append],
    mut versions: HashMap<&'c StreamName, Version>,
) -> Option<CommitError> {
    appends.iter().find_map(|append| {
        let actual = versions.entry(&append.stream).or_default();
        if !append.expected.admits(*actual) {
            let (stream, expected) = (append.stream.clone(), append.expected);
            return Some(CommitError::Conflict { stream, expected, actual: *actual });
        }
        actual.0 += append.events.len() as u64;
        None
    })
}

/// An event is known by its source and id.
fn is_same_event(old: &Envelope, new: &Envelope) -> bool {
    old.id == new.id && old.source == new.source
}

fn unreadable(cause: rusqlite::Error) -> Error {
    error::of("cannot read the log", cause)
}

fn unwritable(cause: rusqlite::Error) -> Error {
    error::of("cannot write to the log", cause)
}
