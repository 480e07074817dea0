//! The event of a timer as it is stored: as `CloudEvents` writes it, so that a person can read it.

use ensue_core::Envelope;
use ensue_core::cloudevents::json;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub(super) fn serialize<S: Serializer>(event: &Envelope, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = Vec::new();
    json::write(event, None, &mut text);
    let text = String::from_utf8(text).map_err(S::Error::custom)?;
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Envelope>, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    let parsed = json::parse(text.get().as_bytes()).map_err(D::Error::custom)?;
    parsed.into_envelope().map(Box::new).map_err(D::Error::custom)
}
