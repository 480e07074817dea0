//! What `JetStream` can do, as this adapter uses it.

use ensue_core::BusCapabilities;
use ensue_core::cloudevents::Binding;

use crate::config::Config;

/// Depends on how many messages of a group may be in flight: only one keeps the order through redeliveries.
pub(crate) fn of(config: &Config) -> BusCapabilities {
    BusCapabilities {
        name: "nats",
        binding: Binding::Nats,
        can_feed: false,
        can_order_by_key: config.in_flight_max == 1,
        can_order_alone: true,
        can_replay: true,
        can_seek: true,
        can_delay: true,
        can_reject: true,
        has_dead_letters: false,
        redelivers_after: Some(config.settle_within),
        can_count_waiting: true,
        can_detect_unroutable: true,
        can_deduplicate: true,
        can_count_attempts: true,
        can_refuse_late: false,
        message_bytes_max: config.message_bytes_max,
    }
}
