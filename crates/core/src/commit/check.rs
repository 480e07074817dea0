//! What is wrong with a commit whatever the store holds: shape, size, capability.

use std::collections::BTreeSet;

use crate::capability::StoreCapabilities;
use crate::commit::{Append, Commit};
use crate::envelope::Envelope;
use crate::error::{Code, Error};
use crate::record::{Change, RecordWrite};

/// Longest accepted key of a record.
const RECORD_KEY_BYTES_MAX: usize = 1_024;

impl Commit {
    /// Refuses what no state of a store with these capabilities could take: a condition that it cannot check (`E0506`), a
    /// wrong shape (`E0109`), too many bytes (`E0107`).
    pub fn check(&self, capabilities: &StoreCapabilities) -> Result<(), Error> {
        if self.condition.is_some() && !capabilities.can_condition {
            let message = format!("the {} store takes no commit with a condition", capabilities.name);
            return Err(Error::new(Code::UNSUPPORTED, message));
        }
        self.appends.iter().try_for_each(|append| check_append(capabilities, append))?;
        self.records.iter().try_for_each(|write| check_record(capabilities, write))?;
        check_distinct(&self.records)?;
        let bytes = self.appends.iter().flat_map(|append| &append.events).map(Envelope::size).sum::<usize>()
            + self.records.iter().map(value_bytes).sum::<usize>();
        check_size("the commit", bytes, capabilities.commit_bytes_max)
    }
}

fn check_append(capabilities: &StoreCapabilities, append: &Append) -> Result<(), Error> {
    if append.events.is_empty() {
        return Err(invalid(format!("the append to {} has no events", append.stream)));
    }
    append.events.iter().try_for_each(|event| {
        let what = format!("{} {} for {}", event.event_type, event.id, append.stream);
        check_size(&what, event.size(), capabilities.event_bytes_max)
    })
}

fn check_record(capabilities: &StoreCapabilities, write: &RecordWrite) -> Result<(), Error> {
    if write.key.is_empty() || write.key.len() > RECORD_KEY_BYTES_MAX {
        let (space, bytes) = (&write.space, write.key.len());
        return Err(invalid(format!(
            "a record key in {space} has {bytes} bytes, but 1 to {RECORD_KEY_BYTES_MAX} are allowed"
        )));
    }
    let what = format!("record {}/{}", write.space, write.key.escape_ascii());
    check_size(&what, value_bytes(write), capabilities.record_bytes_max)
}

fn check_distinct(writes: &[RecordWrite]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match writes.iter().find(|write| !seen.insert((&write.space, &write.key))) {
        None => Ok(()),
        Some(twice) => Err(invalid(format!(
            "record {}/{} is written twice in one commit",
            twice.space,
            twice.key.escape_ascii()
        ))),
    }
}

fn check_size(what: &str, bytes: usize, bytes_max: usize) -> Result<(), Error> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Error::new(Code::TOO_LARGE, format!("{what} has {bytes} bytes, at most {bytes_max} are taken")))
}

fn value_bytes(write: &RecordWrite) -> usize {
    match &write.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::INVALID_COMMIT, message)
}
