//! Dead letters of one cause: the same handler, the same code, the same message but for numbers, ids and keys.
//!
//! A group is worked out from the letters when somebody asks, so it never disagrees with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use ensue_core::{Code, Error, Store, Timestamp};
use serde::Serialize;
use smol_str::SmolStr;

use super::{DeadLetter, Parked};

/// What stands for a part of a message that differs from letter to letter.
const BLANK: &str = "#";

/// The name of a group: eight hexadecimal digits, the same wherever and whenever it is worked out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(u32);

/// Dead letters of one cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub group: GroupId,
    /// The handler.
    pub handler: SmolStr,
    /// Who looks after it, where somebody was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<SmolStr>,
    /// Why: the code.
    pub code: String,
    /// Why, in words, with `#` for what differs.
    pub cause: String,
    /// How many letters, with those that wait behind the failed ones.
    pub letters: usize,
    /// How many keys are held up.
    pub keys: usize,
    /// When the first of them failed.
    pub first_failed_at: Timestamp,
    /// When one of them failed last.
    pub last_failed_at: Timestamp,
    /// The code versions they failed with.
    pub code_versions: BTreeSet<SmolStr>,
    /// The oldest of the failed ones.
    pub example: DeadLetter,
}

/// Every group of dead letters, the largest first.
pub async fn groups(store: &dyn Store) -> Result<Vec<Group>, Error> {
    Ok(group(&super::list(store).await?))
}

/// Letters come by handler, key and position, so the first of a key says what the key waits for.
pub(super) fn group(letters: &[DeadLetter]) -> Vec<Group> {
    let mut groups: BTreeMap<GroupId, Group> = BTreeMap::new();
    let keys = letters.chunk_by(|a, b| (&a.handler, &a.parked.key) == (&b.handler, &b.parked.key));
    for of_one_key in keys {
        let Some(front) = of_one_key.first() else { continue };
        let fresh = Group::of(front);
        groups.entry(fresh.group).or_insert(fresh).add(front, of_one_key.len());
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| b.letters.cmp(&a.letters).then(a.group.cmp(&b.group)));
    groups
}

impl Group {
    /// The group of a letter, before anything is counted.
    fn of(front: &DeadLetter) -> Self {
        let failed_at = |time: Option<Timestamp>| time.unwrap_or(front.parked.parked_at);
        let cause = normalised(&front.parked);
        Self {
            group: GroupId::of(&front.handler, &front.parked.code, &cause),
            handler: front.handler.clone(),
            owner: front.owner.clone(),
            code: front.parked.code.clone(),
            cause,
            letters: 0,
            keys: 0,
            first_failed_at: failed_at(front.parked.first_failed_at),
            last_failed_at: failed_at(front.parked.last_failed_at),
            code_versions: BTreeSet::new(),
            example: front.clone(),
        }
    }

    fn add(&mut self, front: &DeadLetter, letters: usize) {
        let Self { first_failed_at, last_failed_at, .. } = Self::of(front);
        self.letters += letters;
        self.keys += 1;
        self.first_failed_at = self.first_failed_at.min(first_failed_at);
        self.last_failed_at = self.last_failed_at.max(last_failed_at);
        self.code_versions.extend(front.parked.code_version.clone());
        if front.parked.position < self.example.parked.position {
            self.example = front.clone();
        }
    }
}

impl GroupId {
    fn of(handler: &str, code: &str, cause: &str) -> Self {
        let text = [handler, code, cause].join("\0");
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes());
        let [a, b, c, d, ..] = id.into_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// The group that a letter belongs to by its own cause.
    pub fn of_letter(letter: &DeadLetter) -> Self {
        Self::of(&letter.handler, &letter.parked.code, &normalised(&letter.parked))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for GroupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for GroupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = Some(text).filter(|text| text.len() == 8);
        digits.and_then(|text| u32::from_str_radix(text, 16).ok()).map(Self).ok_or_else(|| {
            Error::new(Code::INVALID_NAME, format!("`{text}` is no group of dead letters"))
                .with_fix("a group is eight hexadecimal digits; `ensue dead groups` lists them")
        })
    }
}

/// The reason without what differs from letter to letter: the key, quoted text, and words that hold a digit.
fn normalised(parked: &Parked) -> String {
    let mut text = String::with_capacity(parked.reason.len());
    for (n, part) in without_key(&parked.reason, &parked.key).split('"').enumerate() {
        // What stands between two quotation marks is data.
        if n % 2 == 1 {
            text.push_str(BLANK);
        } else {
            blank_words(part, &mut text);
        }
    }
    text
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// The key is taken out where it stands for itself: key `b` is no part of `number`.
fn without_key(reason: &str, key: &str) -> String {
    if key.is_empty() {
        return reason.to_owned();
    }
    let mut text = String::with_capacity(reason.len());
    let mut rest = 0;
    for (at, found) in reason.match_indices(key) {
        let (before, behind) = (reason.get(rest..at), reason.get(at + found.len()..));
        let is_inside = reason.get(..at).is_some_and(|before| before.ends_with(is_of_word))
            || behind.is_some_and(|behind| behind.starts_with(is_of_word));
        if !is_inside {
            text.push_str(before.unwrap_or_default());
            text.push_str(BLANK);
            rest = at + found.len();
        }
    }
    text.push_str(reason.get(rest..).unwrap_or_default());
    text
}

fn blank_words(part: &str, text: &mut String) {
    for word in part.split_inclusive(|c| !is_of_word(c)) {
        let (word, end) = match word.char_indices().next_back() {
            Some((at, last)) if !is_of_word(last) => word.split_at(at),
            _ => (word, ""),
        };
        let is_data = word.chars().any(|c| c.is_ascii_digit());
        text.push_str(if is_data { BLANK } else { word });
        text.push_str(end);
    }
}

#[cfg(test)]
mod tests {
    use ensue_core::{EventId, EventType, Position};

    use super::*;

    fn letter(key: &str, position: u64, reason: &str, attempts: u32) -> DeadLetter {
        let id = EventId::new(format!("evt-{position}")).expect("valid");
        let at = Timestamp::UNIX_EPOCH;
        let failed_at = (attempts > 0).then_some(at);
        let parked = Parked {
            key: key.into(),
            position: Position(position),
            event_type: EventType::new("OrderPlaced").expect("valid"),
            event_id: id.clone(),
            source: None,
            flow: id,
            code: if attempts > 0 { "E0301" } else { "E0304" }.to_owned(),
            reason: reason.to_owned(),
            attempts,
            parked_at: at,
            first_failed_at: failed_at,
            last_failed_at: failed_at,
            code_version: None,
            edit: None,
            until: None,
        };
        DeadLetter {
            handler: "take-payment".into(),
            owner: None,
            parked,
            revision: ensue_core::Revision::ZERO,
        }
    }

    #[test]
    fn a_cause_is_the_message_without_keys_numbers_ids_and_quoted_text() {
        let cause = |key: &str, reason: &str| normalised(&letter(key, 1, reason, 1).parked);
        assert_eq!(
            cause("ORD-1", "no card for ORD-1: code 402, take 3.5"),
            "no card for #: code #, take #.#"
        );
        assert_eq!(cause("blue", "blue is sold out (try 0b5e2d1c-77aa)"), "# is sold out (try #)");
        assert_eq!(cause("k", "invalid type: string \"a b\", line 1"), "invalid type: string #, line #");
        assert_eq!(cause("b", "b is no number"), "# is no number");
        assert_eq!(cause("", "a plain sentence, nothing else."), "a plain sentence, nothing else.");
    }

    #[test]
    fn letters_that_wait_count_with_the_cause_of_their_key() {
        let letters = [
            letter("ORD-1", 4, "no card for ORD-1", 5),
            letter("ORD-1", 6, "waits behind an earlier event of ORD-1", 0),
            letter("ORD-2", 3, "no card for ORD-2", 5),
            letter("ORD-3", 9, "the bank is closed", 5),
        ];
        let groups = group(&letters);
        let counts: Vec<_> = groups.iter().map(|g| (g.cause.as_str(), g.letters, g.keys)).collect();
        assert_eq!(counts, [("no card for #", 3, 2), ("the bank is closed", 1, 1)]);
        let first = groups.first().expect("two groups");
        assert_eq!(first.example.parked.position, Position(3), "the oldest");
        assert_eq!(first.group.to_string().parse::<GroupId>().expect("it prints as it parses"), first.group);
        assert!("no group".parse::<GroupId>().is_err());
    }
}
