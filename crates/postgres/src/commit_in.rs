//! The transactional outbox: a commit in a transaction of the application's own.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use ensue_core::{
    Append, Change, Code, Commit, CommitError, Envelope, Error, Expected, RecordWrite, Revision, Version,
};
use serde_json::{Value, json};

use crate::attributes::attributes;
use crate::error;
use crate::foreign::{InTransaction, Refusal};
use crate::store::CAPABILITIES;

/// What [`commit_in`] did. There are no positions yet: those are given after the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staged {
    /// The first and the last version of each append, in the same order.
    pub versions: Vec<(Version, Version)>,
    /// The revision that all records of this commit now have.
    pub revision: Revision,
    /// Whether everything had been stored before by an equal commit: nothing was added.
    pub repeated: bool,
}

/// Takes the commit in this transaction, together with what the application changes in it: both are there once it commits,
/// or neither. One round trip.
///
/// The streams and records of the commit stay locked until the transaction is over, and nothing else does: nobody waits for it
/// but who writes to the same. A commit that is refused fails its transaction, as every error of PostgreSQL does, so that the
/// rest cannot be committed without it; who wants to go on sets a savepoint before. A condition is refused with `E0506`: what
/// other open transactions append cannot be seen. The schema must be there (`E0406`). Dropping the future leaves it open
/// whether the commit was taken; roll back then.
pub async fn commit_in<T>(transaction: &mut T, commit: &Commit) -> Result<Staged, CommitError>
where
    T: InTransaction + ?Sized,
{
    commit.check(&CAPABILITIES)?;
    if commit.condition.is_some() {
        let message = "a condition cannot be held in a transaction of the application's own";
        return Err(CommitError::Other(Error::new(Code::UNSUPPORTED, message).with_fix(
            "give the rule a stream of its own and expect its version, or take `Tx<Session>` in a handler",
        )));
    }
    let sql = "SELECT ensue.take($1::text::jsonb)::text";
    match transaction.text_of(sql, document(commit).to_string()).await {
        Ok(answer) => staged(&answer).ok_or_else(|| not_understood(&answer).into()),
        Err(refusal) => Err(meaning(refusal, commit)),
    }
}

/// The commit as `ensue.take` wants it. Bodies go as base64, because they have to arrive byte by byte.
fn document(commit: &Commit) -> Value {
    let appends: Vec<Value> = commit.appends.iter().map(append).collect();
    let records: Vec<Value> = commit.records.iter().map(write).collect();
    json!({ "appends": appends, "records": records })
}

fn append(append: &Append) -> Value {
    let event = |event: &Envelope| {
        json!({
            "event_type": event.event_type.as_str(),
            "metadata": attributes(event),
            "data_base64": STANDARD.encode(&event.data),
        })
    };
    let expected = match append.expected {
        Expected::Any => Value::Null,
        Expected::NoStream => json!(0),
        Expected::Exists => json!("exists"),
        Expected::Exact(version) => json!(version.0),
    };
    json!({
        "topic": append.stream.topic.as_str(),
        "key": append.stream.key.as_str(),
        "expected_version": expected,
        "events": append.events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn write(write: &RecordWrite) -> Value {
    let (value, expires_at) = match &write.change {
        Change::Delete => (None, None),
        Change::Put { value, expires_at } => (Some(STANDARD.encode(value)), *expires_at),
    };
    json!({
        "space": write.space.as_str(),
        "key_base64": STANDARD.encode(&write.key),
        "delete": value.is_none(),
        "value_base64": value,
        "expected_revision": write.expected.map(|revision| revision.0),
        "expires_at": expires_at.map(|at| at.to_string()),
    })
}

fn staged(answer: &str) -> Option<Staged> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let number = |of: &Value, name: &str| of.get(name)?.as_u64();
    let versions = answer.get("appended")?.as_array()?.iter().map(|append| {
        Some((Version(number(append, "first_version")?), Version(number(append, "last_version")?)))
    });
    Some(Staged {
        versions: versions.collect::<Option<_>>()?,
        revision: Revision(number(&answer, "revision")?),
        repeated: answer.get("repeated")?.as_bool()?,
    })
}

fn not_understood(answer: &str) -> Error {
    Error::new(Code::DATABASE_SCHEMA, format!("`ensue.take` gave an answer that is not understood: {answer}"))
}

/// The refusal in the words of the port. The detail says which append or record it was.
fn meaning(refusal: Refusal, commit: &Commit) -> CommitError {
    let known = match refusal.sqlstate.as_deref() {
        Some("EN001") => conflict(&refusal, commit),
        Some("EN002") => record_conflict(&refusal, commit),
        _ => None,
    };
    known.unwrap_or_else(|| error::of_foreign(refusal).into())
}

fn conflict(refusal: &Refusal, commit: &Commit) -> Option<CommitError> {
    let (place, actual) = refusal.place("append")?;
    let append = commit.appends.get(place)?;
    let (stream, expected) = (append.stream.clone(), append.expected);
    Some(CommitError::Conflict { stream, expected, actual: Version(actual) })
}

fn record_conflict(refusal: &Refusal, commit: &Commit) -> Option<CommitError> {
    let (place, actual) = refusal.place("record")?;
    let write = Box::new(commit.records.get(place)?.clone());
    Some(CommitError::RecordConflict { write, actual: Revision(actual) })
}
