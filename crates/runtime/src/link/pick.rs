//! Where a value of a foreign message is found: in a header, in a field of its JSON, in its key, or nowhere because it is the
//! same for all.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use ensue_core::{Code, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::came::Came;

/// Names, of a message type, what comes before the rest of its assembly-qualified name.
const ENCLOSED_TYPES: &str = "NServiceBus.EnclosedMessageTypes";

/// Where a value is found. It parses from `header:NAME`, `field:a.b`, `key` and `const:TEXT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pick {
    /// The header of this name; the case of the name counts only where two differ by nothing else.
    Header(String),
    /// The member of the JSON body at this path, as text: a string, a number or a boolean.
    Field(String),
    /// The key by which the broker orders the message.
    Key,
    /// This text.
    Const(String),
}

impl Pick {
    /// The value, where the message has it.
    pub(super) fn of<'a>(&'a self, came: &'a Came) -> Option<Cow<'a, str>> {
        let found = match self {
            Self::Header(name) if name == ENCLOSED_TYPES => came.header(name).map(first_type),
            Self::Header(name) => came.header(name).map(Cow::Borrowed),
            Self::Field(path) => came.json().and_then(|body| text_at(body, path)),
            Self::Key => came.key.as_deref().map(Cow::Borrowed),
            Self::Const(text) => Some(Cow::Borrowed(text.as_str())),
        };
        found.filter(|text| !text.is_empty())
    }
}

/// `Shop.OrderPlaced, Shop, Version=1.0.0.0; Shop.IEvent, …` names the type and those that it is as well.
fn first_type(header: &str) -> Cow<'_, str> {
    Cow::Borrowed(header.split([',', ';']).next().unwrap_or_default().trim())
}

/// The text at a path of names, such as `order.id`.
pub(super) fn text_at<'a>(body: &'a Value, path: &str) -> Option<Cow<'a, str>> {
    match path.split('.').try_fold(body, |value, name| value.get(name))? {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(yes) => Some(Cow::Borrowed(if *yes { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl FromStr for Pick {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (sort, what) = text.split_once(':').unwrap_or((text, ""));
        match (sort, what) {
            ("key", "") if text == "key" => Ok(Self::Key),
            ("header", name) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            ("field", path) if !path.split('.').any(str::is_empty) => Ok(Self::Field(path.to_owned())),
            ("const", value) if !value.is_empty() => Ok(Self::Const(value.to_owned())),
            _ => Err(Error::new(
                Code::LINK_INVALID,
                format!("`{}` does not say where a value is found", text.escape_debug()),
            )
            .with_fix("write `header:NAME`, `field:a.b`, `key` or `const:TEXT`")),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Field(path) => write!(f, "field:{path}"),
            Self::Key => f.write_str("key"),
            Self::Const(text) => write!(f, "const:{text}"),
        }
    }
}

impl<'de> Deserialize<'de> for Pick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(format!("{error}; {}", error.fix())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["header:ce_type", "field:data.order_id", "key", "const:Order:Placed"] {
            assert_eq!(text.parse::<Pick>().expect("it is understood").to_string(), text);
        }
    }

    #[test]
    fn what_names_no_place_is_refused_and_told_what_would() {
        for text in
            ["", "key:", "key:x", "header", "header:", "field:", "field:a..b", "field:.a", "const:", "body:x"]
        {
            let error = text.parse::<Pick>().expect_err(text);
            assert_eq!(error.code(), Code::LINK_INVALID, "{text}");
            assert!(error.fix().contains("header:NAME"), "{text}");
        }
    }
}
