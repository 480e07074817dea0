//! How a link stands, for operators and tools.

use std::time::Duration;

use ensue_core::{Channel, Error, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Which way a link goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the log to the broker.
    Relay,
    /// From the broker to the log.
    Intake,
}

/// Whether a link works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It has not spoken to the broker yet.
    Starting,
    /// It works.
    Up,
    /// It tries again and again: the broker is away, or refuses everything.
    Waiting,
    /// An operator has paused it.
    Paused,
    /// Its process has said nothing for longer than it ever should: it was killed, or does not reach the store.
    Silent,
    /// Its process has ended, or it has never run.
    Stopped,
}

/// What went wrong last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// The code, such as `E0441`.
    pub code: String,
    /// In words.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// When.
    pub at: Timestamp,
}

impl Trouble {
    pub(super) fn new(error: &Error, at: Timestamp) -> Self {
        Self {
            code: error.code().to_string(),
            message: error.message().to_owned(),
            fix: error.fix().to_owned(),
            at,
        }
    }
}

/// How a relay or an intake stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The subscription that it is: `relay.NAME` or `intake.NAME`. Dead letters stand under it.
    pub name: SmolStr,
    /// The link it belongs to; several relays and intakes may be one link.
    pub link: SmolStr,
    /// Which way it goes.
    pub direction: Direction,
    /// The broker, as it calls itself.
    pub backend: SmolStr,
    /// Where it sends to, or takes from.
    pub channel: Channel,
    /// The consumer group of an intake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<SmolStr>,
    /// Whether it works.
    pub state: LinkState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When its process said so.
    pub as_of: Timestamp,
    /// What went wrong last, also when it works again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Events that were confirmed by the broker, or came in, since the start.
    pub passed: u64,
    /// Messages that had come before, since the start.
    pub duplicates: u64,
    /// Events that were not sent back, or had been in this log before, since the start.
    pub looped: u64,
    /// Messages that could not be read, since the start.
    pub unreadable: u64,
    /// Messages that wait in the broker, where it can say; of a relay, how much of the log there is from the first event on that it has
    /// not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Since when the first event waits that a relay has not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_since: Option<Timestamp>,
    /// Dead letters, in the whole store.
    pub parked: usize,
    /// Why an operator wants it to be paused, in the whole store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<String>,
    /// How long ids are remembered, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
}

impl LinkStatus {
    /// For how long the first event has been waiting.
    pub fn head_age(&self, now: Timestamp) -> Option<Duration> {
        self.head_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }
}
