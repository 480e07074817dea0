//! `Order*`, `Payment/*`: which events or streams are meant. With a `/` it is about the stream, else about the type.

use ensue::core::{EventType, Query, Recorded, Select, StreamName, Version};

/// A glob: `*` stands for any text, `?` for one character.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// The smallest selection of the store that holds everything that matches.
    pub(crate) fn select(&self) -> Select {
        if self.is_literal() {
            if let Ok(stream) = self.0.parse::<StreamName>() {
                return Select::Stream { stream, from: Version(1), to: Version::MAX };
            }
            if let Ok(event_type) = EventType::new(&self.0) {
                return Select::Query(Query::types([event_type]));
            }
        }
        Select::All
    }

    /// Whether this event is meant.
    pub(crate) fn matches(&self, recorded: &Recorded) -> bool {
        if self.0.contains('/') {
            self.matches_stream(&recorded.stream)
        } else {
            glob(&self.0, recorded.envelope.event_type.as_str())
        }
    }

    /// Whether this stream is meant; a pattern without `/` is about its topic.
    pub(crate) fn matches_stream(&self, stream: &StreamName) -> bool {
        match self.0.split_once('/') {
            Some((topic, key)) => glob(topic, stream.topic.as_str()) && glob(key, stream.key.as_str()),
            None => glob(&self.0, stream.topic.as_str()),
        }
    }
}

/// Matches from the left; where it fails, the last `*` takes one character more. Linear but for nested repetitions.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(c) if *c == '?' || text.get(read) == Some(c) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                read = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("Order*", "OrderPlaced", true),
            ("Order*", "PaymentCompleted", false),
            ("*Failed", "PaymentFailed", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("ORD-?", "ORD-1", true),
            ("ORD-?", "ORD-12", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("é*", "etat", false),
            ("é*", "école", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_slash_makes_it_about_the_stream() {
        let stream = StreamName::new("Payment", "ORD-1").expect("a name");
        for (pattern, expected) in [
            ("Payment/*", true),
            ("*/ORD-1", true),
            ("Payment", true),
            ("Order/*", false),
            ("P*/ORD-2", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches_stream(&stream), expected, "{pattern}");
        }
    }

    #[test]
    fn a_literal_asks_the_store_for_no_more_than_it_needs() {
        assert!(matches!(Pattern::new("OrderPlaced").select(), Select::Query(_)));
        assert!(matches!(Pattern::new("Order/1").select(), Select::Stream { .. }));
        assert_eq!(Pattern::new("Order*").select(), Select::All);
    }
}
