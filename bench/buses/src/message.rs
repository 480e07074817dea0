//! What is sent: 1 KiB of JSON that says when it was due.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ensue::Event;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// How many keys there are.
const KEYS: usize = 256;
/// Bytes of a body.
const BYTES: usize = 1024;
/// Of these, what is not the padding; a time of this century has 19 digits.
const FRAME: usize = 51;

/// The event that a message becomes, and is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Item", key = key)]
pub(crate) struct ItemMade {
    /// The stream.
    key: String,
    /// When it was due, in nanoseconds since 1970.
    pub(crate) at: u64,
    /// What makes it large.
    pad: String,
}

impl ItemMade {
    /// The message of this number, due at this time.
    pub(crate) fn new(number: usize, at: u64) -> Self {
        Self { key: format!("key-{:03}", number % KEYS), at, pad: "x".repeat(BYTES - FRAME) }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn body(&self) -> Bytes {
        // A structure of texts and a number is always JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// When a message that came was due.
pub(crate) fn due(body: &[u8]) -> Result<u64, Failure> {
    Ok(serde_json::from_slice::<ItemMade>(body)?.at)
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_kibibyte_and_says_when_it_was_due() {
        let at = now();
        let body = ItemMade::new(7, at).body();
        assert_eq!((body.len(), due(&body).expect("it reads")), (BYTES, at));
    }
}
