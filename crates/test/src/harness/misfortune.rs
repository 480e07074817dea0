//! What can go wrong, as values: so that a search can combine them, leave some out, and write down what is left.

use std::fmt;
use std::time::Duration;

use super::Crash;

/// One thing that goes wrong while a scenario runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misfortune {
    /// See [`Harness::deliver_twice`](crate::Harness::deliver_twice).
    DeliverTwice,
    /// See [`Harness::reorder_across_keys`](crate::Harness::reorder_across_keys).
    ReorderAcrossKeys(u64),
    /// See [`Harness::crash_at`](crate::Harness::crash_at).
    Crash(Crash),
    /// See [`Harness::lose_reply_at`](crate::Harness::lose_reply_at).
    LoseReply(u64),
    /// See [`Harness::slow`](crate::Harness::slow).
    Slow(Duration),
}

impl Misfortune {
    /// The commit at which it strikes, if it strikes at one.
    pub fn commit(self) -> Option<u64> {
        match self {
            Self::Crash(crash) => Some(crash.number()),
            Self::LoseReply(number) => Some(number),
            Self::DeliverTwice | Self::ReorderAcrossKeys(_) | Self::Slow(_) => None,
        }
    }

    /// The same at another commit.
    #[must_use]
    pub fn at_commit(self, number: u64) -> Self {
        match self {
            Self::Crash(Crash::Before(_)) => Self::Crash(Crash::Before(number)),
            Self::Crash(Crash::After(_)) => Self::Crash(Crash::After(number)),
            Self::LoseReply(_) => Self::LoseReply(number),
            elsewhere => elsewhere,
        }
    }
}

/// As the call of the harness that brings it about.
impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeliverTwice => f.write_str(".deliver_twice()"),
            Self::ReorderAcrossKeys(seed) => write!(f, ".reorder_across_keys({seed})"),
            Self::Crash(crash) => write!(f, ".crash_at(Crash::{crash:?})"),
            Self::LoseReply(number) => write!(f, ".lose_reply_at({number})"),
            Self::Slow(by) => write!(f, ".slow(Duration::from_millis({}))", by.as_millis()),
        }
    }
}
