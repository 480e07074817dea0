//! The one seam through which time and randomness enter.
//!
//! Production code and tests run the same paths: a test hands in a clock that only moves when told to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::name::EventId;

/// Wall clock, monotonic clock and sleep.
pub trait Clock: Send + Sync {
    /// Wall time. May jump; never used for order.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Resolves when `duration` has passed on this clock. Dropping the future cancels the sleep.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Randomness.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// What a process gets from its surroundings.
#[derive(Clone)]
pub struct Host {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Host {
    /// A new time-ordered id (`UUIDv7`, RFC 9562).
    pub fn event_id(&self) -> EventId {
        let mut random = [0u8; 10];
        self.entropy.fill(&mut random);
        let millis = u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        EventId::from_uuid(id)
    }

    /// A random number below `bound`, for jitter.
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0u8; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or_default()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

impl EventId {
    /// The usual text form of a UUID.
    pub fn from_uuid(id: Uuid) -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut buffer);
        Self::new(&*text).expect("a UUID is a valid id")
    }

    /// The id of the `index`-th event that `handler` causes in answer to `cause`: the same each time the delivery is
    /// repeated, so that a repeated emission is recognised (`UUIDv5`, RFC 9562).
    pub fn derived(cause: &EventId, handler: &str, index: usize) -> Self {
        Self::from_uuid(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{cause}\0{handler}\0{index}").as_bytes()))
    }
}
