//! The one atomic unit: everything that must happen together is one [`Commit`].

use std::fmt;

use crate::envelope::Envelope;
use crate::error::{Code, Error};
use crate::name::{Position, Revision, StreamName, Version};
use crate::query::Query;
use crate::record::RecordWrite;

mod check;

/// All of it, or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Commit {
    /// Events, in the order in which they get their positions. One stream may be named twice; the second then
    /// sees the first.
    pub appends: Vec<Append>,
    /// Checked against everything stored before this commit.
    pub condition: Option<AppendCondition>,
    /// Changes to records. One key may be written once per commit.
    pub records: Vec<RecordWrite>,
    /// When it counts as done.
    pub durability: Durability,
}

/// Events for one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// Where they go.
    pub stream: StreamName,
    /// What the stream must look like before.
    pub expected: Expected,
    /// At least one.
    pub events: Vec<Envelope>,
}

/// What a stream must look like for an append to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expected {
    /// It does not matter.
    #[default]
    Any,
    /// It must not exist.
    NoStream,
    /// It must exist.
    Exists,
    /// It must have exactly this version.
    Exact(Version),
}

impl Expected {
    /// Whether a stream at `actual` (zero: it does not exist) will do.
    pub fn admits(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == Version::ZERO,
            Self::Exists => actual > Version::ZERO,
            Self::Exact(version) => actual == version,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::Exists => f.write_str("an existing stream"),
            Self::Exact(version) => write!(f, "version {version}"),
        }
    }
}

/// "Nothing new matches the query after the position I read."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendCondition {
    /// What must not have happened.
    pub fail_if_match: Query,
    /// Events up to here, inclusive, do not count.
    pub after: Position,
}

/// When a commit counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When it survives the loss of power.
    #[default]
    Durable,
    /// When it is written to the operating system; the last moments before a power loss may be lost.
    Buffered,
}

/// What a commit did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// One for each append, in the same order.
    pub appended: Vec<Appended>,
    /// The revision that all records of this commit now have.
    pub revision: Revision,
    /// Whether everything had been stored before by an equal commit: nothing was added.
    pub repeated: bool,
}

impl Committed {
    /// The position of the last event; [`Position::ZERO`] for a commit without events.
    pub fn position(&self) -> Position {
        self.appended.iter().map(|appended| appended.last_position).max().unwrap_or_default()
    }
}

/// Where the events of one append went. Positions and versions of an append are consecutive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Of its first event.
    pub first_version: Version,
    /// Of its last event.
    pub last_version: Version,
    /// Of its first event.
    pub first_position: Position,
    /// Of its last event.
    pub last_position: Position,
}

/// Why a commit was not taken. Nothing of it was stored, but for [`CommitError::Other`] with a time-out or a
/// poisoned writer, where the outcome is unknown: repeat the same commit to learn it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// A stream is not as expected.
    Conflict {
        /// Which.
        stream: StreamName,
        /// What the append asked for.
        expected: Expected,
        /// What it is.
        actual: Version,
    },
    /// An event matches the condition.
    ConditionFailed {
        /// The last one that does.
        position: Position,
    },
    /// A record is not as expected.
    RecordConflict {
        /// The write that was refused.
        write: Box<RecordWrite>,
        /// The revision it has.
        actual: Revision,
    },
    /// No room; nothing was stored.
    Full(Error),
    /// The writer has stopped; the outcome of this commit is unknown.
    Poisoned(Error),
    /// Anything else; `Error::kind` says what.
    Other(Error),
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { stream, expected, actual } => Error::new(
                Code::STALE_VERSION,
                format!("{stream} is at version {actual}, but {expected} was expected"),
            ),
            CommitError::ConditionFailed { position } => Error::new(
                Code::CONDITION_FAILED,
                format!("the event at position {position} matches what must not have happened"),
            ),
            CommitError::RecordConflict { write, actual } => Error::new(
                Code::STALE_RECORD,
                format!(
                    "record {}/{} is at revision {actual}, but {} was expected",
                    write.space,
                    write.key.escape_ascii(),
                    write.expected.unwrap_or_default(),
                ),
            ),
            CommitError::Full(error) | CommitError::Poisoned(error) | CommitError::Other(error) => error,
        }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        match error.kind() {
            crate::Kind::Full => Self::Full(error),
            crate::Kind::Poisoned => Self::Poisoned(error),
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Error::from(self.clone()), f)
    }
}

impl std::error::Error for CommitError {}
