//! Which event last changed a field: the state before and after each event, compared leaf by leaf.
//!
//! A field is named by its JSON Pointer (RFC 6901), such as `/items/0/qty`. Values are kept as they are written, so
//! that a number with many digits stays what it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensue_core::{Error, EventId, EventType, Position, Recorded, StreamName, Timestamp, Version};
use serde::Serialize;
use serde_json::value::RawValue;

/// A field with the event that last changed it.
#[derive(Clone, Debug, Serialize)]
pub struct Blamed {
    /// JSON Pointer of the field; empty for a state that is no object or array.
    pub field: String,
    /// What it is; `None` if the field is gone.
    pub value: Option<Box<RawValue>>,
    /// What it was before; `None` if it did not exist.
    pub before: Option<Box<RawValue>>,
    /// How often it was changed, its first value included.
    pub changes: u64,
    /// The event that changed it last.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Its place in the stream.
    pub version: Version,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Its id.
    pub id: EventId,
    /// Its flow.
    pub flow: EventId,
    /// When the store took it.
    pub time: Timestamp,
}

/// Follows a state from event to event.
#[derive(Default)]
pub struct Blame {
    fields: BTreeMap<String, Blamed>,
}

/// The leaves of a state: pointer and value.
type Leaves = BTreeMap<String, Box<RawValue>>;

impl Blame {
    /// Takes note of the state after an event; `None` if there is none any more.
    pub fn observe(&mut self, state: Option<&[u8]>, event: &Recorded) -> Result<(), Error> {
        let mut now = state.map(leaves).transpose()?.unwrap_or_default();
        let gone: Vec<String> =
            self.fields.keys().filter(|field| !now.contains_key(*field)).cloned().collect();
        gone.into_iter().for_each(|field| self.change(field, None, event));
        while let Some((field, value)) = now.pop_first() {
            self.change(field, Some(value), event);
        }
        Ok(())
    }

    /// Every field that there ever was, by pointer.
    pub fn into_fields(self) -> Vec<Blamed> {
        self.fields.into_values().collect()
    }

    fn change(&mut self, field: String, value: Option<Box<RawValue>>, event: &Recorded) {
        let known = self.fields.get(&field);
        let before = known.and_then(|known| known.value.clone());
        if before.as_deref().map(RawValue::get) == value.as_deref().map(RawValue::get) {
            return;
        }
        let changes = known.map_or(0, |known| known.changes) + 1;
        let blamed = Blamed {
            field: field.clone(),
            value,
            before,
            changes,
            position: event.position,
            stream: event.stream.clone(),
            version: event.version,
            event_type: event.envelope.event_type.clone(),
            id: event.envelope.id.clone(),
            flow: event.envelope.flow().clone(),
            time: event.recorded_at,
        };
        self.fields.insert(field, blamed);
    }
}

/// Only the fields that a person asked for: the one with this pointer or, without a leading `/`, this top-level name,
/// and everything inside it.
pub fn select(fields: Vec<Blamed>, field: &str) -> Vec<Blamed> {
    let pointer = if field.starts_with('/') { field.to_owned() } else { format!("/{}", escaped(field)) };
    let inside = format!("{pointer}/");
    fields.into_iter().filter(|blamed| blamed.field == pointer || blamed.field.starts_with(&inside)).collect()
}

/// What differs between two states, as fields with the value before and after.
pub fn differences(before: Option<&[u8]>, after: Option<&[u8]>) -> Result<Vec<Changed>, Error> {
    let mut old = before.map(leaves).transpose()?.unwrap_or_default();
    let new = after.map(leaves).transpose()?.unwrap_or_default();
    let mut changed = Vec::new();
    for (field, value) in new {
        let was = old.remove(&field);
        if was.as_deref().map(RawValue::get) != Some(value.get()) {
            changed.push(Changed { field, before: was, after: Some(value) });
        }
    }
    changed.extend(old.into_iter().map(|(field, was)| Changed { field, before: Some(was), after: None }));
    changed.sort_by(|one, other| one.field.cmp(&other.field));
    Ok(changed)
}

/// A field that is not what it was. A side on which it does not exist is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// JSON Pointer of the field.
    pub field: String,
    /// What it was.
    pub before: Option<Box<RawValue>>,
    /// What it is.
    pub after: Option<Box<RawValue>>,
}

fn leaves(state: &[u8]) -> Result<Leaves, Error> {
    let state: Box<RawValue> = crate::spaces::decode("state", state)?;
    let mut leaves = Leaves::new();
    // Not recursive, so that no document is nested too deeply.
    let mut todo = vec![(String::new(), state)];
    while let Some((pointer, value)) = todo.pop() {
        match parts(&value) {
            Some(parts) => {
                todo.extend(
                    parts.into_iter().map(|(name, part)| (format!("{pointer}/{}", escaped(&name)), part)),
                );
            }
            None => {
                leaves.insert(pointer, value);
            }
        }
    }
    Ok(leaves)
}

/// What a value consists of; `None` for one that is a leaf. Empty objects and arrays are leaves.
fn parts(value: &RawValue) -> Option<Vec<(String, Box<RawValue>)>> {
    let text = value.get();
    let parts: Vec<(String, Box<RawValue>)> = match text.as_bytes().first()? {
        b'{' => serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text).ok()?.into_iter().collect(),
        b'[' => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
            items.into_iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        _ => return None,
    };
    Some(parts).filter(|parts| !parts.is_empty())
}

/// A name as it stands in a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A state as it is compared.
pub(crate) fn encoded<T: Serialize>(state: &T) -> Bytes {
    crate::spaces::encode(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_compared_leaf_by_leaf_and_digits_are_kept() {
        let before =
            br#"{"total":59.980000000000000000001,"items":[{"qty":1},{"qty":2}],"a/b":true,"tags":[]}"#;
        let after = br#"{"total":59.980000000000000000002,"items":[{"qty":1}],"a/b":false,"tags":["new"]}"#;
        let changed = differences(Some(before), Some(after)).expect("both are JSON");
        let fields: Vec<&str> = changed.iter().map(|changed| changed.field.as_str()).collect();
        assert_eq!(fields, ["/a~1b", "/items/1/qty", "/tags", "/tags/0", "/total"]);
        let total = changed.last().and_then(|changed| changed.after.as_ref()).expect("it is there");
        assert_eq!(total.get(), "59.980000000000000000002");
    }

    #[test]
    fn nothing_differs_from_itself_and_everything_from_nothing() {
        let state: &[u8] = br#"{"a":{"b":1}}"#;
        assert_eq!(differences(Some(state), Some(state)).expect("JSON").len(), 0);
        assert_eq!(differences(None, Some(state)).expect("JSON").len(), 1);
        assert_eq!(differences(Some(state), None).expect("JSON").len(), 1);
    }
}
