//! What a backend can do, as plain booleans and numbers with one grammar: `can_…`, `…_bytes_max`, `is_…`.

use std::time::Duration;

use crate::cloudevents::Binding;

/// What a store can do.
#[expect(clippy::struct_excessive_bools, reason = "capabilities are independent facts, not states")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreCapabilities {
    /// The backend's name in messages, such as `embedded log`.
    pub name: &'static str,
    /// Whether [`Durability::Durable`](crate::Durability::Durable) survives the loss of power.
    pub is_durable: bool,
    /// Whether [`Durability::Buffered`](crate::Durability::Buffered) is a weaker level, not the same.
    pub can_buffer: bool,
    /// Whether commits may carry a condition over types and tags.
    pub can_condition: bool,
    /// Whether the application can change tables of its own in the transaction of a commit.
    pub can_transact: bool,
    /// Whether several processes may share the store.
    pub can_share: bool,
    /// Largest event ([`Envelope::size`](crate::Envelope::size)).
    pub event_bytes_max: usize,
    /// Largest commit, all events and record values together.
    pub commit_bytes_max: usize,
    /// Largest value of a record.
    pub record_bytes_max: usize,
}

/// What a bus can do.
#[expect(clippy::struct_excessive_bools, reason = "capabilities are independent facts, not states")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BusCapabilities {
    /// The backend's name in messages, such as `kafka`.
    pub name: &'static str,
    /// How attributes of an event are written as headers, by us and by others on this broker.
    pub binding: Binding,
    /// Whether what is published to is told from what is consumed, so that a channel can be [fed](crate::bus::Feed) by another one.
    pub can_feed: bool,
    /// Whether messages of one key arrive in the order in which they were published.
    pub can_order_by_key: bool,
    /// Whether a member that is alone gets those of one key in that order as long as none of them comes again.
    pub can_order_alone: bool,
    /// Whether a group that comes late gets what was published before.
    pub can_replay: bool,
    /// Whether a group can [go on from elsewhere](crate::bus::Seek).
    pub can_seek: bool,
    /// Whether a message can be handed back to be delivered later; without it a message that is handed back comes at once.
    pub can_delay: bool,
    /// Whether a message can be refused for good, so that it does not come again.
    pub can_reject: bool,
    /// Whether what was refused for good can be read from the broker's dead letters.
    pub has_dead_letters: bool,
    /// After which time a delivery that was not settled is handed out again although its member lives; nothing where it stays
    /// with its member.
    pub redelivers_after: Option<Duration>,
    /// Whether the broker says how many messages wait for a group.
    pub can_count_waiting: bool,
    /// Whether publishing to nowhere is an error.
    pub can_detect_unroutable: bool,
    /// Whether the broker drops a message that is published twice.
    pub can_deduplicate: bool,
    /// Whether the broker counts deliveries.
    pub can_count_attempts: bool,
    /// Whether settling a message that was delivered again in the meantime is refused.
    pub can_refuse_late: bool,
    /// Largest message, headers and body together.
    pub message_bytes_max: usize,
}
