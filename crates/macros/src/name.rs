//! The rules of names, as `ensue-core` checks them when a program runs, applied when it is compiled.
//!
//! The rules are written twice because a derive cannot call the crate it generates code for; the test
//! `the_compiler_and_the_core_agree_on_names` holds the two together.

use syn::{Error, LitStr};

const EVENT_TYPE_BYTES_MAX: usize = 255;
const TOPIC_BYTES_MAX: usize = 249;
const RESERVED_TOPIC_PREFIXES: [&str; 4] = ["command.", "dead.", "ensue.", "saga."];

/// Refuses what is not the name of an event or command.
pub(crate) fn check_type(name: &LitStr) -> Result<(), Error> {
    check(name, "a type", EVENT_TYPE_BYTES_MAX, "visible ASCII without spaces", |c| c.is_ascii_graphic())
}

/// Refuses what is not a topic, and the topics that only Ensue itself writes to.
pub(crate) fn check_topic(topic: &LitStr) -> Result<(), Error> {
    check(topic, "a topic", TOPIC_BYTES_MAX, "letters, digits, `.`, `_` and `-`", is_plain)?;
    let value = topic.value();
    match RESERVED_TOPIC_PREFIXES.iter().find(|prefix| value.starts_with(*prefix)) {
        Some(prefix) => Err(Error::new(
            topic.span(),
            format!("topics that begin with `{prefix}` are written by Ensue itself: use another topic"),
        )),
        None => Ok(()),
    }
}

/// Refuses what is not the name of a tag.
pub(crate) fn check_tag(name: &LitStr) -> Result<(), Error> {
    check(name, "the name of a tag", TOPIC_BYTES_MAX, "letters, digits, `.`, `_` and `-`", is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn check(
    name: &LitStr,
    what: &str,
    bytes_max: usize,
    rule: &str,
    legal: fn(char) -> bool,
) -> Result<(), Error> {
    let value = name.value();
    if (1..=bytes_max).contains(&value.len()) && value.chars().all(legal) {
        return Ok(());
    }
    Err(Error::new(name.span(), format!("`{value}` is not {what}: use 1 to {bytes_max} bytes of {rule}")))
}
