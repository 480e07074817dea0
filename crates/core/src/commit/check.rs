//! What is wrong with a commit whatever the store holds: shape, size, capability.

use std::collections::BTreeSet;

use crate::capability::StoreCapabilities;
use crate::cloudevents;
use crate::commit::{Append, Commit};
use crate::envelope::Envelope;
use crate::error::{Code, Error};
use crate::record::{Change, RecordWrite};

/// Longest accepted key of a record.
const RECORD_KEY_BYTES_MAX: usize = 1_024;

impl Commit {
    /// Refuses what no state of a store with these capabilities could take: a condition that it cannot check (`E0506`), a
    /// wrong shape (`E0109`), an extension of a name that has another meaning (`E0103`), too many bytes (`E0107`).
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
        check_extensions(event)?;
        let what = format!("{} {} for {}", event.event_type, event.id, append.stream);
        check_size(&what, event.size(), capabilities.event_bytes_max)
    })
}

fn check_extensions(event: &Envelope) -> Result<(), Error> {
    match event.extensions.iter().find(|(name, _)| cloudevents::has_own_place(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let message =
                format!("{} {} carries the attribute `{name}` as an extension", event.event_type, event.id);
            Err(Error::new(Code::INVALID_EVENT, message))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::name::{ContentType, EventId, EventType, Source, StreamName};
    use crate::{Expected, Timestamp};

    fn commit_of_extension(name: &str) -> Commit {
        let event = Envelope {
            id: EventId::new("e1").expect("a valid id"),
            source: Source::new("test").expect("a valid source"),
            event_type: EventType::new("Happened").expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: vec![(name.into(), "x".into())],
            content_type: ContentType::json(),
            data: "{}".into(),
        };
        let stream = StreamName::new("Test", "a").expect("a valid name");
        let appends = vec![Append { stream, expected: Expected::Any, events: vec![event] }];
        Commit { appends, ..Commit::default() }
    }

    #[test]
    fn an_extension_must_not_have_the_name_of_an_attribute() {
        let capabilities = StoreCapabilities {
            name: "test",
            is_durable: true,
            can_buffer: false,
            can_condition: true,
            can_transact: false,
            can_share: false,
            event_bytes_max: 1_000,
            commit_bytes_max: 1_000,
            record_bytes_max: 1_000,
        };
        for name in ["id", "tags", "correlationid", "streamversion"] {
            let error = commit_of_extension(name).check(&capabilities).expect_err(name);
            assert_eq!(error.code(), Code::INVALID_EVENT, "{name}");
        }
        for name in ["dataschema", "tenant"] {
            commit_of_extension(name).check(&capabilities).expect(name);
        }
    }
}
