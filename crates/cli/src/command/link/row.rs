//! How a link is printed.

use ensue::runtime::LinkStatus;
use ensue::runtime::link::{Direction, LinkState};
use serde::Serialize;

use crate::output::{Row, short};
use crate::shape;

/// One relay or intake.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) LinkStatus);

impl Row for Shown {
    const HEADINGS: &'static [&'static str] = &[
        "name",
        "direction",
        "channel",
        "state",
        "since",
        "passed",
        "duplicates",
        "looped",
        "parked",
        "lag",
        "trouble",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(status) = self;
        let trouble = status.trouble.as_ref().map(|trouble| format!("{} {}", trouble.code, trouble.message));
        vec![
            short(&status.name, 60),
            direction(status.direction).to_owned(),
            short(status.channel.as_str(), 40),
            state(status.state).to_owned(),
            shape::time(status.since),
            status.passed.to_string(),
            status.duplicates.to_string(),
            status.looped.to_string(),
            status.parked.to_string(),
            status.lag.map(|lag| lag.to_string()).unwrap_or_default(),
            short(&trouble.unwrap_or_default(), 600),
        ]
    }
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Relay => "relay",
        Direction::Intake => "intake",
    }
}

pub(super) fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Silent => "silent",
        LinkState::Starting => "starting",
        LinkState::Up => "up",
        LinkState::Waiting => "waiting",
        LinkState::Paused => "paused",
        LinkState::Stopped => "stopped",
    }
}
