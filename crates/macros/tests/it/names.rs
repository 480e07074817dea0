//! The rules of names that the derives check are those of the core.

use ensue_core::{Event, EventType, Tag, Topic};
use ensue_macros::Event;
use serde::{Deserialize, Serialize};

/// Every byte that the derives let through, in a name of each sort.
#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, name = "!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~", topic = "azAZ09._-", key = id)]
#[event(tags(azAZ09_ = id))]
struct AllBytes {
    id: String,
}

#[test]
fn the_compiler_and_the_core_agree_on_names() {
    let event = AllBytes { id: "1".into() };
    EventType::new(AllBytes::INFO.event_type).expect("the derive took it");
    Topic::new(AllBytes::INFO.topic).expect("the derive took it");
    for (name, value) in event.tags() {
        Tag::new(name, value).expect("the derive took it");
    }
    // The longest names that the derive takes, by the numbers in its messages (pinned under `tests/ui`).
    assert!(EventType::new("t".repeat(255)).is_ok() && EventType::new("t".repeat(256)).is_err());
    assert!(Topic::new("t".repeat(249)).is_ok() && Topic::new("t".repeat(250)).is_err());
    // What the derive refuses, the core refuses too, so that no name is legal only by hand.
    for bad in ["", "a b", "é"] {
        assert!(EventType::new(bad).is_err() && Topic::new(bad).is_err(), "{bad:?}");
    }
    for reserved in ensue_core::name::RESERVED_TOPIC_PREFIXES {
        assert!(
            ["command.", "dead.", "ensue.", "saga."].contains(&reserved),
            "{reserved} is unknown to the derive"
        );
    }
}
