//! What Pub/Sub can do, as this adapter uses it.

use ensue_core::BusCapabilities;
use ensue_core::cloudevents::Binding;

use crate::config::{Config, Guarantee, Order};

/// Depends on how subscriptions are made: with the order of keys, dead letters and exactly-once delivery, or without.
pub(crate) fn of(config: &Config) -> BusCapabilities {
    let has_dead_letters = config.delivery_limit.is_some();
    BusCapabilities {
        name: "pubsub",
        binding: Binding::Pubsub,
        can_feed: true,
        can_order_by_key: config.order == Order::ByKey,
        can_order_alone: config.order == Order::ByKey,
        can_replay: false,
        can_seek: false,
        can_delay: true,
        can_reject: true,
        has_dead_letters,
        redelivers_after: Some(config.settle_within),
        can_count_waiting: false,
        can_detect_unroutable: true,
        can_deduplicate: false,
        can_count_attempts: has_dead_letters,
        can_refuse_late: config.guarantee == Guarantee::ExactlyOnce,
        message_bytes_max: config.message_bytes_max,
    }
}
