//! What Kafka can do, as this adapter uses it.

use ensue_core::BusCapabilities;
use ensue_core::cloudevents::Binding;

use crate::config::Config;

pub(crate) fn of(config: &Config) -> BusCapabilities {
    BusCapabilities {
        name: "kafka",
        binding: Binding::Kafka,
        can_feed: false,
        can_order_by_key: true,
        can_order_alone: true,
        can_replay: true,
        can_seek: true,
        can_delay: true,
        can_reject: true,
        has_dead_letters: false,
        redelivers_after: Some(config.settle_within),
        can_count_waiting: true,
        can_detect_unroutable: true,
        can_deduplicate: false, // it knows its own repetitions, not a message that is published twice
        can_count_attempts: false, // the count is kept here, and begins anew with the next member
        can_refuse_late: true,
        message_bytes_max: config.message_bytes_max,
    }
}
