//! Names and numbers: validated newtypes, so that a wrong one cannot travel.
//!
//! Parsing is the only way in; its error quotes the input and states the rule. Names are cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::error::{Code, Error};

/// Longest accepted name of each sort, in bytes.
const EVENT_TYPE_BYTES_MAX: usize = 255;
const TOPIC_BYTES_MAX: usize = 249; // the limit Kafka sets, so a topic can always be relayed under its own name
const KEY_BYTES_MAX: usize = 512;
const TEXT_BYTES_MAX: usize = 1024;

/// Topics that only Ensue itself writes to start with one of these.
pub const RESERVED_TOPIC_PREFIXES: [&str; 4] = ["command.", "dead.", "ensue.", "saga."];

fn shown(input: &str) -> String {
    let mut quoted: String = input.chars().take(60).flat_map(char::escape_debug).collect();
    if input.chars().count() > 60 {
        quoted.push('…');
    }
    quoted
}

fn check(
    what: &str,
    input: &str,
    bytes_max: usize,
    rule: &str,
    legal: impl Fn(char) -> bool,
) -> Result<SmolStr, Error> {
    let reason = if input.is_empty() {
        "it is empty".to_owned()
    } else if input.len() > bytes_max {
        format!("it has {} bytes, at most {bytes_max} are allowed", input.len())
    } else if let Some(bad) = input.chars().find(|c| !legal(*c)) {
        format!("it holds {bad:?}")
    } else {
        return Ok(SmolStr::new(input));
    };
    Err(Error::new(Code::INVALID_NAME, format!("`{}` is not {what}: {reason}", shown(input)))
        .with_fix(format!("use 1 to {bytes_max} bytes of {rule}")))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $rule:literal, $legal:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks the rule; the error quotes the input and names the rule (`E0101`).
            pub fn new(input: impl AsRef<str>) -> Result<Self, Error> {
                check($what, input.as_ref(), $max, $rule, $legal).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(input: &str) -> Result<Self, Error> {
                Self::new(input)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = SmolStr::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_type(c: char) -> bool {
    c.is_ascii_graphic()
}

fn is_key(c: char) -> bool {
    c != '/' && !c.is_control()
}

fn is_text(c: char) -> bool {
    !c.is_control()
}

name!(
    /// The type of an event or command, set by attribute (`OrderPlaced`), never by the path of a Rust type.
    EventType, "an event type", EVENT_TYPE_BYTES_MAX, "visible ASCII without spaces", is_type
);
name!(
    /// The category a stream belongs to, such as `Order`.
    Topic, "a topic", TOPIC_BYTES_MAX, "letters, digits, `.`, `_` and `-`", is_plain
);
name!(
    /// The business id inside a topic, such as `ORD-5001`.
    Key, "a key", KEY_BYTES_MAX, "any text without `/` and control characters", is_key
);
name!(
    /// The id of an event; unique together with its [`Source`].
    EventId, "an event id", TEXT_BYTES_MAX, "any text without control characters", is_text
);
name!(
    /// Who produced an event: the application's name, or a foreign system's URI.
    Source, "a source", TEXT_BYTES_MAX, "any text without control characters", is_text
);
name!(
    /// The media type of an event's data.
    ContentType, "a content type", EVENT_TYPE_BYTES_MAX, "any text without control characters", is_text
);
name!(
    /// What a broker calls the place a message is published to or consumed from: a topic, an exchange, a queue, a subject.
    Channel, "a channel", KEY_BYTES_MAX, "any text without control characters", is_text
);
name!(
    /// The name of a handler, projection or saga: it owns checkpoints, so it outlives code changes.
    SubscriptionName, "a subscription name", EVENT_TYPE_BYTES_MAX, "letters, digits, `.`, `_` and `-`", is_plain
);
name!(
    /// A family of keyed records, such as `checkpoint` or `view.orders.1`.
    Space, "a record space", EVENT_TYPE_BYTES_MAX, "letters, digits, `.`, `_` and `-`", is_plain
);

impl Topic {
    /// Whether only Ensue itself writes to this topic (commands in flight, journals of sagas, edited dead letters).
    pub fn is_reserved(&self) -> bool {
        RESERVED_TOPIC_PREFIXES.iter().any(|prefix| self.as_str().starts_with(prefix))
    }
}

impl ContentType {
    /// `application/json`.
    pub fn json() -> Self {
        Self(SmolStr::new_static("application/json"))
    }

    /// Whether data of this type is a JSON text (`*/json` or a `+json` suffix).
    pub fn is_json(&self) -> bool {
        let essence = self.0.split(';').next().unwrap_or_default().trim();
        let suffix = essence.rfind(['/', '+']).and_then(|at| essence.get(at + 1..));
        suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
    }
}

/// The name of a stream: its topic and key. Prints and parses as `Order/ORD-5001`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The category.
    pub topic: Topic,
    /// The business id.
    pub key: Key,
}

impl StreamName {
    /// Checks both parts.
    pub fn new(topic: impl AsRef<str>, key: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self { topic: Topic::new(topic)?, key: Key::new(key)? })
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.key)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for StreamName {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self, Error> {
        let Some((topic, key)) = input.split_once('/') else {
            return Err(Error::new(
                Code::INVALID_NAME,
                format!("`{}` is not a stream name: it has no `/`", shown(input)),
            )
            .with_fix("write TOPIC/KEY, such as `Order/ORD-5001`"));
        };
        Self::new(topic, key)
    }
}

impl Serialize for StreamName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SmolStr::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name and value by which events can be found, such as `customer_id:CUST-3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    name: SmolStr,
    value: SmolStr,
}

impl Tag {
    /// The name is letters, digits, `.`, `_`, `-`; the value any text without control characters.
    pub fn new(name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self {
            name: check(
                "a tag name",
                name.as_ref(),
                TOPIC_BYTES_MAX,
                "letters, digits, `.`, `_` and `-`",
                is_plain,
            )?,
            value: check(
                "a tag value",
                value.as_ref(),
                KEY_BYTES_MAX,
                "any text without control characters",
                is_text,
            )?,
        })
    }

    /// What the tag is about, such as `customer_id`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which one, such as `CUST-3`.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.value)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self, Error> {
        let Some((name, value)) = input.split_once(':') else {
            return Err(Error::new(
                Code::INVALID_NAME,
                format!("`{}` is not a tag: it has no `:`", shown(input)),
            )
            .with_fix("write NAME:VALUE, such as `customer_id:CUST-3`"));
        };
        Self::new(name, value)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);
            /// After the last.
            pub const MAX: Self = Self(u64::MAX);

            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The number before this one; before zero is zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Place of an event in the whole log: global, without gaps, from 1.
    Position
);
number!(
    /// Place of an event in its stream: without gaps, from 1. Zero is the version of a stream that does not exist.
    Version
);
number!(
    /// Change counter of a keyed record. Grows over the life of the store, so that a re-created key never repeats one.
    /// Zero is the revision of a key that does not exist.
    Revision
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_prints_as_it_parses() {
        let name: StreamName = "Order/ORD-5001".parse().expect("a plain name");
        assert_eq!((name.topic.as_str(), name.key.as_str()), ("Order", "ORD-5001"));
        assert_eq!(name.to_string(), "Order/ORD-5001");
    }

    #[test]
    fn a_bad_name_is_quoted_with_its_rule() {
        for (input, reason) in [
            ("Order", "has no `/`"),
            ("Order/", "it is empty"),
            ("Order/a/b", "it holds '/'"),
            ("Or der/1", "it holds ' '"),
            ("Order/a\nb", "it holds '\\n'"),
        ] {
            let error = input.parse::<StreamName>().expect_err(input);
            assert_eq!(error.code(), Code::INVALID_NAME);
            assert!(error.to_string().contains(reason), "{input}: {error}");
        }
        let long = StreamName::new("Order", "k".repeat(10_000)).expect_err("10 kB key");
        assert!(long.to_string().contains("10000 bytes, at most 512"), "{long}");
        assert!(long.to_string().len() < 200, "the whole key is not repeated: {long}");
    }
}
