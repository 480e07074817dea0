//! Edited copies: the event of a letter with another body. The copy is an event of its own, in a stream that only Ensue
//! writes to and under a type that nobody subscribes to, so that only the handler whose letter it is sees it: other
//! handlers have processed the original.
//!
//! Invariant: the handler sees the copy at the place of the original, under the idempotency key of the original.

use bytes::Bytes;
use ensue_core::{
    Append, Code, ContentType, Envelope, Error, EventId, EventType, Expected, Position, Read, Recorded,
    Source, Store, StoreExt, StreamName, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::redrive::Asker;
use super::{DeadLetter, Parked};
use crate::door::Registry;
use crate::message::{EDITED_FROM, IDEMPOTENCY_KEY, extension, set_extension};

/// The type of the events that hold edited bodies.
pub(crate) const EDITED: &str = "dead.LetterEdited";

/// That a letter was edited, and which event holds the new body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Edit {
    /// The event that holds the new body.
    pub event_id: EventId,
    /// When.
    pub edited_at: Timestamp,
    /// By whom.
    pub edited_by: SmolStr,
    /// Why.
    pub edit_reason: String,
}

/// The body of the event.
#[derive(Serialize, Deserialize)]
struct Body {
    handler: SmolStr,
    key: SmolStr,
    /// Of the original.
    position: Position,
    event_type: EventType,
    by: SmolStr,
    reason: String,
    data: Box<RawValue>,
}

/// The stream of the edits of one key.
fn stream(handler: &str, key: &str) -> Result<StreamName, Error> {
    StreamName::new(format!("dead.{handler}"), key)
}

/// The event that a letter names, as it was appended.
pub(crate) async fn original(store: &dyn Store, handler: &str, letter: &Parked) -> Result<Recorded, Error> {
    let at = letter.position;
    let read = Read::all().after(at.previous()).until(at);
    store.collect(read).await?.pop().ok_or_else(|| {
        Error::new(
            Code::CORRUPT,
            format!("the dead letter at position {at} of {handler} names an event that is not in the log"),
        )
    })
}

/// The event that the handler is given: the original, or the newest edited copy at its place.
pub(crate) async fn delivered(store: &dyn Store, handler: &str, letter: &Parked) -> Result<Recorded, Error> {
    let original = original(store, handler, letter).await?;
    let Some(edit) = &letter.edit else { return Ok(original) };
    let copies = store.collect(Read::stream(stream(handler, &letter.key)?)).await?;
    let copy = copies.into_iter().find(|copy| copy.envelope.id == edit.event_id).ok_or_else(|| {
        let (id, at) = (&edit.event_id, letter.position);
        Error::new(
            Code::CORRUPT,
            format!("the edited copy {id} of the dead letter at {at} is not in the log"),
        )
    })?;
    in_place_of(original, &copy, handler)
}

/// The edited copies of the event at a position, oldest first.
pub async fn edits(store: &dyn Store, handler: &str, letter: &Parked) -> Result<Vec<Recorded>, Error> {
    let copies = store.collect(Read::stream(stream(handler, &letter.key)?)).await?;
    let is_of = |copy: &Recorded| extension(&copy.envelope, EDITED_FROM) == Some(letter.event_id.as_str());
    Ok(copies.into_iter().filter(is_of).collect())
}

fn in_place_of(original: Recorded, copy: &Recorded, handler: &str) -> Result<Recorded, Error> {
    let body: Body = serde_json::from_slice(&copy.envelope.data).map_err(|cause| {
        Error::new(Code::CORRUPT, format!("the edited copy {} cannot be read: {cause}", copy.envelope.id))
    })?;
    let before = original.envelope;
    let mut envelope = Envelope {
        id: copy.envelope.id.clone(),
        source: copy.envelope.source.clone(),
        time: copy.envelope.time,
        correlation: Some(before.flow().clone()),
        causation: copy.envelope.causation.clone(),
        data: Bytes::copy_from_slice(body.data.get().as_bytes()),
        ..before.clone()
    };
    let key = match extension(&before, IDEMPOTENCY_KEY) {
        Some(key) => key.to_owned(),
        None => format!("{handler}/{}", before.id),
    };
    set_extension(&mut envelope, IDEMPOTENCY_KEY, &key);
    set_extension(&mut envelope, EDITED_FROM, before.id.as_str());
    Ok(Recorded { envelope, ..original })
}

/// The event that holds the new body of a letter, and the letter that names it. Errors: `E0102` if the body is no JSON,
/// `E0105` if it or the original does not fit the type, `E0106` if it breaks a rule of the type or belongs to another
/// key.
pub(super) fn edited(
    letter: &DeadLetter,
    original: &Recorded,
    data: &[u8],
    asker: &Asker,
    reason: &str,
    registry: &Registry,
) -> Result<(Append, Parked), Error> {
    let handler = letter.handler.as_str();
    check(original, data, registry)?;
    let text = std::str::from_utf8(data.trim_ascii()).map_err(|cause| no_json(&cause))?;
    let body = Body {
        handler: handler.into(),
        key: letter.parked.key.clone(),
        position: letter.parked.position,
        event_type: original.envelope.event_type.clone(),
        by: asker.by().clone(),
        reason: reason.to_owned(),
        data: RawValue::from_string(text.to_owned()).map_err(|cause| no_json(&cause))?,
    };
    let before = letter.parked.edit.as_ref().map_or(&letter.parked.event_id, |edit| &edit.event_id);
    let mut envelope = Envelope {
        id: asker.request().clone(),
        source: Source::new("ensue")?,
        event_type: EventType::new(EDITED)?,
        schema_version: 1,
        time: asker.at(),
        correlation: Some(original.envelope.flow().clone()),
        causation: Some(before.clone()),
        trace: original.envelope.trace.clone(),
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: crate::spaces::encode(&body),
    };
    set_extension(&mut envelope, EDITED_FROM, original.envelope.id.as_str());
    let edit = Edit {
        event_id: envelope.id.clone(),
        edited_at: asker.at(),
        edited_by: asker.by().clone(),
        edit_reason: reason.to_owned(),
    };
    let stream = stream(handler, &letter.parked.key)?;
    let parked = Parked { edit: Some(edit), ..letter.parked.clone() };
    Ok((Append { stream, expected: Expected::Any, events: vec![envelope] }, parked))
}

/// Whether the body can stand in the place of the original.
fn check(original: &Recorded, data: &[u8], registry: &Registry) -> Result<(), Error> {
    if !original.envelope.content_type.is_json() {
        let message =
            format!("{} is {}, not JSON", original.envelope.event_type, original.envelope.content_type);
        return Err(Error::new(Code::INVALID_BODY, message)
            .with_fix("only JSON can be edited; discard the letter and emit another event"));
    }
    ensue_core::cloudevents::json::check(data)?;
    let Some(known) = registry.get(original.envelope.event_type.as_str()) else { return Ok(()) };
    let envelope = Envelope {
        schema_version: known.info.version,
        data: Bytes::copy_from_slice(data),
        ..original.envelope.clone()
    };
    let place = known.check(&envelope)?;
    if place.stream != original.stream {
        let message =
            format!("the edited body belongs to {}, the original to {}", place.stream, original.stream);
        return Err(Error::new(Code::RULE_BROKEN, message)
            .with_fix("keep the key: an edit keeps its place in the order of its key"));
    }
    Ok(())
}

fn no_json(cause: &dyn std::fmt::Display) -> Error {
    Error::new(Code::INVALID_JSON, format!("the edited body is no JSON: {cause}"))
}
