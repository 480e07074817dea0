//! Where a value of a foreign message is found: in a header, in a field of its JSON, in its key, or nowhere because it is the
//! same for all.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use ensue_core::{Code, Error};
use serde::{Deserialize, Deserializer};

use super::came::Came;

/// Names, of a message type, what comes before the rest of its assembly-qualified name.
const ENCLOSED_TYPES: &str = "NServiceBus.EnclosedMessageTypes";

/// Where a value is found. It parses from `header:NAME`, `field:a.b`, `key` and `const:TEXT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pick {
    /// The header of this name; the case of the name counts only where two differ by nothing else.
    Header(String),
    /// The member of the JSON body at this path, as text: a string, a number as it is written, or a boolean.
    Field(String),
    /// The key by which the broker orders the message.
    Key,
    /// This text.
    Const(String),
}

impl Pick {
    /// Why there is no value.
    pub(super) fn absence(&self, came: &Came) -> String {
        match self {
            Self::Field(_) if came.json().is_none() => {
                format!("`{self}` looks into JSON, and the body is none")
            }
            _ => format!("nothing is found at `{self}`"),
        }
    }

    /// The value, where the message has it.
    pub(super) fn of<'a>(&'a self, came: &'a Came) -> Option<Cow<'a, str>> {
        let found = match self {
            Self::Header(name) if name == ENCLOSED_TYPES => came.header(name).map(first_type),
            Self::Header(name) => came.header(name).map(Cow::Borrowed),
            Self::Field(path) => came.text_at(path),
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
        text.parse()
            .map_err(|error: Error| serde::de::Error::custom(format!("{}; {}", error.message(), error.fix())))
    }
}

#[cfg(test)]
mod tests {
    use ensue_core::Channel;
    use ensue_core::bus::Message;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["header:ce_type", "field:data.order_id", "key", "const:Order:Placed"] {
            assert_eq!(text.parse::<Pick>().expect("it is understood").to_string(), text);
        }
    }

    fn found(at: &str, body: &'static str) -> Option<String> {
        let headers = vec![("Kind".into(), "placed".into()), ("kind".into(), "other".into())];
        let message = Message { headers, content_type: None, body: body.into() };
        let from = Channel::new("orders").expect("a valid name");
        let came = Came::new(from, Some("K-1".into()), None, None, message);
        at.parse::<Pick>().expect("it is understood").of(&came).map(Cow::into_owned)
    }

    #[test]
    fn values_are_found_and_numbers_are_as_they_are_written() {
        let body =
            r#"{"a":{"b":"text","n":17,"big":89440000000000000011,"part":1.50,"yes":true,"no":null},"e":""}"#;
        let cases = [
            ("field:a.b", Some("text")),
            ("field:a.n", Some("17")),
            ("field:a.big", Some("89440000000000000011")),
            ("field:a.part", Some("1.50")),
            ("field:a.yes", Some("true")),
            ("field:a.no", None),
            ("field:a", None),
            ("field:e", None),
            ("field:x.y", None),
            ("header:kind", Some("other")),
            ("header:KIND", Some("placed")),
            ("key", Some("K-1")),
            ("const:Order", Some("Order")),
        ];
        for (at, value) in cases {
            assert_eq!(found(at, body).as_deref(), value, "{at}");
        }
        assert_eq!(found("field:a", "no JSON"), None);
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
