//! Fingerprints: what must be equal for a repetition to count as one. Two that differ are two; of JSON only what it says counts, not how it
//! is spaced and ordered.

use std::fmt;
use std::hash::Hasher;

use ensue_core::{Envelope, StreamName};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use smol_str::{SmolStr, format_smolstr};

/// Of an event or a command that came in. Kept with its id, so how it is made never changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fingerprint(SmolStr);

impl Fingerprint {
    /// Of an event: its type, where it goes, what it says.
    pub(crate) fn of_event(stream: &StreamName, envelope: &Envelope) -> Self {
        let json = if envelope.content_type.is_json() { canonical(&envelope.data) } else { None };
        let mut hasher = begun(envelope);
        for name in [stream.topic.as_str(), stream.key.as_str()] {
            hasher.write(name.as_bytes());
            hasher.write(&[0]);
        }
        match json {
            Some(said) => hasher.write(&said.to_be_bytes()),
            None => hasher.write(&envelope.data),
        }
        Self::ended(&hasher)
    }

    /// Of a command, or of an event that is set for later: its type and its bytes, which the same program makes the same.
    pub(crate) fn of_bytes(envelope: &Envelope, bytes: &[u8]) -> Self {
        let mut hasher = begun(envelope);
        hasher.write(bytes);
        Self::ended(&hasher)
    }

    fn ended(hasher: &SipHasher13) -> Self {
        Self(format_smolstr!("{:032x}", hasher.finish128().as_u128()))
    }
}

fn begun(envelope: &Envelope) -> SipHasher13 {
    let mut hasher = SipHasher13::new();
    hasher.write(envelope.event_type.as_str().as_bytes());
    hasher.write(&[0]);
    hasher
}

/// What a document says; `None` if it is no JSON.
fn canonical(json: &[u8]) -> Option<u128> {
    let mut reading = serde_json::Deserializer::from_slice(json);
    let said = Said.deserialize(&mut reading).ok()?;
    reading.end().ok()?;
    Some(said)
}

/// Hashes a value while it is read: nothing of it is kept.
struct Said;

impl Said {
    /// Values of different sorts are different.
    fn hash(sort: u8, bytes: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write(&[sort]);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }
}

impl<'de> DeserializeSeed<'de> for Said {
    type Value = u128;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u128, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Said {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<u128, E> {
        Ok(Self::hash(0, &[]))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<u128, E> {
        Ok(Self::hash(1, &[value.into()]))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u128, E> {
        Ok(Self::hash(2, &value.to_be_bytes()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u128, E> {
        Ok(Self::hash(3, &value.to_be_bytes()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u128, E> {
        Ok(Self::hash(4, &value.to_bits().to_be_bytes()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<u128, E> {
        Ok(Self::hash(5, value.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u128, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = values.next_element_seed(Self)? {
            all.extend_from_slice(&value.to_be_bytes());
        }
        Ok(Self::hash(6, &all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u128, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = fields.next_entry_seed(Self, Self)? {
            all.push(field);
        }
        all.sort_unstable();
        let bytes: Vec<u8> = all
            .iter()
            .flat_map(|(name, value)| [name.to_be_bytes(), value.to_be_bytes()])
            .flatten()
            .collect();
        Ok(Self::hash(7, &bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(one: &str, other: &str) -> bool {
        let [one, other] = [one, other].map(|text| canonical(text.as_bytes()).expect("it is JSON"));
        one == other
    }

    #[test]
    fn space_and_order_of_fields_count_for_nothing() {
        assert!(says(r#"{"a":1,"b":[true,null]}"#, "{ \"b\": [ true, null ],\n\"a\": 1 }"));
        assert!(says(r#""\u00fc""#, "\"ü\""));
    }

    #[test]
    fn everything_else_counts() {
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":1}"#, r#"{"a":1.0}"#),
            (r#"{"a":null}"#, "{}"),
            ("[1,2]", "[2,1]"),
            ("[[1],2]", "[1,[2]]"),
            (r#"{"a":{"b":1},"c":2}"#, r#"{"a":{"c":2},"b":1}"#),
            (r#"["a","b"]"#, r#"{"a":"b"}"#),
            ("0", "false"),
            ("-1", "18446744073709551615"),
        ] {
            assert!(!says(one, other), "{one} is not {other}");
        }
    }

    #[test]
    fn what_is_no_json_is_no_document() {
        assert_eq!(canonical(b"{} {}"), None);
        assert_eq!(canonical(b"nearly"), None);
    }
}
