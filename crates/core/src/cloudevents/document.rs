//! A JSON document as members in their order, each value still the bytes that came in.
//!
//! The text is gone through twice: once as a whole, so that an error has its line and column and no object anywhere
//! repeats a member (readers would differ in which one they take), and once to cut out the members.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::is_text_attribute;
use super::{Code, Error, invalid};

/// One object, or an array of objects.
pub(super) struct Document<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) is_array: bool,
}

/// The members of one object.
pub(super) struct Object<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl Object<'_> {
    /// Whether it has this member.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(member, _)| member == name)
    }
}

/// Cuts `bytes` into objects.
pub(super) fn read(bytes: &[u8]) -> Result<Document<'_>, Error> {
    check(bytes)?;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => Ok(Document {
            objects: vec![serde_json::from_slice(bytes).map_err(|cause| refused(&cause))?],
            is_array: false,
        }),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|cause| refused(&cause))?;
            let objects = elements.iter().enumerate().map(|(index, element)| object(index, element));
            Ok(Document { objects: objects.collect::<Result<_, _>>()?, is_array: true })
        }
        _ => Err(Error::new(
            Code::INVALID_EVENT,
            "the document is neither a JSON object nor an array of objects",
        )),
    }
}

fn object(index: usize, element: &RawValue) -> Result<Object<'_>, Error> {
    if element.get().starts_with('{') {
        return serde_json::from_str(element.get()).map_err(|cause| refused(&cause));
    }
    Err(Error::new(Code::INVALID_EVENT, format!("element {} of the array is not a JSON object", index + 1)))
}

/// Refuses what is not JSON (`E0102`) and what repeats a member (`E0103`), both with line and column.
pub(super) fn check(bytes: &[u8]) -> Result<(), Error> {
    serde_json::from_slice::<Checked>(bytes).map(|Checked| ()).map_err(|cause| refused(&cause))
}

fn refused(cause: &serde_json::Error) -> Error {
    let code = if cause.is_data() { Code::INVALID_EVENT } else { Code::INVALID_JSON };
    Error::new(code, cause.to_string())
}

/// The text of an attribute: a string, or for those that are not text by the specification a whole number or boolean
/// in its canonical form; none for `null`.
pub(super) fn attribute_text<'a>(name: &str, value: &'a RawValue) -> Result<Option<Cow<'a, str>>, Error> {
    let raw = value.get();
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => string(raw).map(Some),
        _ if is_text_attribute(name) => Err(invalid(name, "it is not text: write it as a JSON string")),
        b"true" | b"false" => Ok(Some(Cow::Borrowed(raw))),
        [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            Ok(Some(Cow::Borrowed(raw)))
        }
        [b'-' | b'0'..=b'9', ..] => Err(invalid(name, format_args!("{raw} is not a whole number"))),
        _ => {
            Err(invalid(name, "it is an object or array; an attribute is text, a whole number or a boolean"))
        }
    }
}

/// The text of a JSON string.
pub(super) fn string(raw: &str) -> Result<Cow<'_, str>, Error> {
    serde_json::from_str::<Text<'_>>(raw).map(|Text(text)| text).map_err(|cause| refused(&cause))
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A JSON value of which nothing is kept but that no object in it repeats a member.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(format_args!("the member `{name}` is given twice")));
            }
            seen.insert(name);
            map.next_value::<Self>()?;
        }
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(Self)
    }
}
