//! What RabbitMQ can do, as this adapter uses it.

use ensue_core::BusCapabilities;
use ensue_core::cloudevents::Binding;

use crate::config::Config;

/// Depends on how many messages of a queue may be in flight: only one keeps the order through redeliveries.
pub(crate) fn of(config: &Config) -> BusCapabilities {
    BusCapabilities {
        name: "rabbitmq",
        binding: Binding::Amqp,
        can_feed: true,
        can_order_by_key: config.in_flight_max == 1,
        can_order_alone: true,
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
        can_refuse_late: true,
        message_bytes_max: config.message_bytes_max,
    }
}
