//! Names and keys of the record spaces the runtime keeps in the store. Key parts are joined by a zero byte, which no
//! name can hold, so keys of one owner sort together.

use std::sync::LazyLock;

use bytes::Bytes;
use ensue_core::{Error, Position, Space, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

macro_rules! spaces {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Space> =
            LazyLock::new(|| Space::new($text).expect("a constant name is valid"));)*
    };
}

spaces! {
    /// subscription, or subscription + lane -> position.
    CHECKPOINT = "checkpoint";
    /// subscription + lane -> what is settled above its checkpoint, where values of a tag take turns.
    AHEAD = "ahead";
    /// subscription + key + position -> why it is parked.
    DEAD = "dead";
    /// What was discarded, with the reason.
    DISCARDED = "discarded";
    /// subscription + key -> somebody asked for a redrive.
    REDRIVE = "redrive";
    /// subscription + key -> how the last redrive ended.
    REDRIVEN = "redriven";
    /// subscription + lane -> why it has stopped.
    HALTED = "halted";
    /// Who the log is, for links.
    LINK = "link";
    /// process -> that it is alive, and what it mounts.
    MEMBER = "member";
    /// source + id -> what came in under it.
    INBOX = "inbox";
    /// source + id -> the process that handles the command.
    CLAIM = "claim";
    /// breaker + process -> why it is open.
    BREAKER = "breaker";
    /// due + owner + name -> what to do then.
    TIMER = "timer";
    /// owner + name -> which timer holds the name.
    TIMER_NAME = "timer.name";
    /// schedule -> when it is due, and who declares it.
    SCHEDULE = "schedule";
    /// due + owner + name -> a timer that could not fire, and why.
    TIMER_BROKEN = "timer.broken";
    /// saga + key -> its head.
    SAGA = "saga";
    /// saga + event type + key + instance -> an instance waits for it.
    WAITING = "waiting";
    /// saga -> the event types its instances have waited for.
    AWAITED = "awaited";
    /// application -> its declared topology.
    CATALOGUE = "catalogue";
    /// projection -> which generation is live; + what -> what is being built, to be removed, or wrong.
    VIEW = "view";
    /// The flow index: up to which position, and what is missing.
    FLOW_INDEX = "flow.index";
    /// kind of flow -> its figures.
    FLOW_KIND = "flow.kind";
    /// flow -> what is known of one that is not over.
    FLOW_OPEN = "flow.open";
    /// topic + key -> state of an aggregate at a version.
    SNAPSHOT = "snapshot";
}

/// Joins parts of a key.
pub(crate) fn join(parts: &[&str]) -> Bytes {
    parts.join("\0").into_bytes().into()
}

/// Everything of an owner: the joined parts and the separator.
pub(crate) fn within(parts: &[&str]) -> Bytes {
    let mut prefix = parts.join("\0").into_bytes();
    prefix.push(0);
    prefix.into()
}

/// A key that sorts by position inside its owner.
pub(crate) fn at_position(parts: &[&str], position: Position) -> Bytes {
    let mut key = within(parts).to_vec();
    key.extend_from_slice(&position.0.to_be_bytes());
    key.into()
}

/// A key that sorts by time, whatever comes behind. Times before 1970 sort as 1970.
pub(crate) fn at_time(due: Timestamp, parts: &[&str]) -> Bytes {
    let millis = u64::try_from(due.as_millisecond()).unwrap_or_default();
    let mut key = millis.to_be_bytes().to_vec();
    key.extend_from_slice(parts.join("\0").as_bytes());
    key.into()
}

/// Bytes of the time that a key of [`at_time`] begins with.
pub(crate) const TIME_BYTES: usize = 8;

/// The time that a key of [`at_time`] begins with, in whole milliseconds.
pub(crate) fn time_of(key: &[u8]) -> Timestamp {
    let millis = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

/// Values are JSON, so that a person can read them with any tool.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("our own records always encode").into()
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|cause| {
        Error::new(ensue_core::Code::CORRUPT, format!("the {what} record cannot be read: {cause}"))
            .with_fix("it was written by a newer version, or by hand; `ensue verify` checks the store")
    })
}

/// Stable spread of keys over lanes and cells: FNV-1a, 64 bit. Never change it: lanes of stored checkpoints depend on it.
pub(crate) fn spread(key: &str, cells: u16) -> u16 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits of FNV are its weak ones; folding the halves evens them out.
    let folded = (hash >> 32) ^ (hash & u64::from(u32::MAX));
    u16::try_from(folded % u64::from(cells.max(1))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_evenly_over_lanes() {
        let mut counts = [0u32; 8];
        for n in 0..8_000 {
            let lane = usize::from(spread(&format!("ORD-{n:04}"), 8));
            *counts.get_mut(lane).expect("a lane below eight") += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn timers_sort_by_time_before_owner() {
        let early = at_time(Timestamp::from_second(10).expect("in range"), &["z"]);
        let late = at_time(Timestamp::from_second(11).expect("in range"), &["a"]);
        assert!(early < late);
    }
}
