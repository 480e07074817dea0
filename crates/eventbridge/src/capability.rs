//! What `EventBridge` and SQS can do, as this adapter uses them.

use ensue_core::BusCapabilities;
use ensue_core::cloudevents::Binding;

use crate::config::Config;

/// The order of keys is never declared: Amazon promises none between an event bus and its targets, whatever the queue is.
pub(crate) fn of(config: &Config) -> BusCapabilities {
    BusCapabilities {
        name: "eventbridge",
        // There are no headers. Events of ours travel structured; those of others are told in headers of this binding.
        binding: Binding::Http,
        can_feed: true,
        can_order_by_key: false,
        can_order_alone: false,
        can_replay: false,
        can_seek: false,
        can_delay: true,
        can_reject: true,
        has_dead_letters: true,
        redelivers_after: Some(config.settle_within),
        can_count_waiting: true,
        can_detect_unroutable: true,
        can_deduplicate: false,
        can_count_attempts: true,
        can_refuse_late: false,
        message_bytes_max: config.message_bytes_max(),
    }
}
