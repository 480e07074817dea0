//! Dead letters, groups of them and redrives as they are printed.

use ensue::core::Position;
use ensue::runtime::dead::{DeadLetter, Discarded, Group, Planned, Redrive, RedriveState};
use serde::Serialize;

use crate::output::{Row, short};
use crate::shape;

/// A dead letter.
#[derive(Serialize)]
pub(super) struct Letter(pub(super) DeadLetter);

impl Row for Letter {
    const HEADINGS: &'static [&'static str] =
        &["handler", "owner", "key", "position", "type", "attempts", "since", "version", "code", "reason"];

    fn cells(&self) -> Vec<String> {
        let DeadLetter { handler, owner, parked, .. } = &self.0;
        vec![
            handler.to_string(),
            owner.as_deref().unwrap_or_default().to_owned(),
            short(&parked.key, 60),
            parked.position.to_string(),
            parked.event_type.to_string(),
            parked.attempts.to_string(),
            shape::time(parked.parked_at),
            parked.code_version.as_deref().unwrap_or_default().to_owned(),
            parked.code.clone(),
            short(&parked.reason, 80),
        ]
    }
}

/// A letter that was given up.
#[derive(Serialize)]
pub(super) struct GivenUp(pub(super) Discarded);

impl Row for GivenUp {
    const HEADINGS: &'static [&'static str] =
        &["handler", "key", "position", "type", "given up", "by", "because", "code", "reason"];

    fn cells(&self) -> Vec<String> {
        let Discarded { handler, discard_reason, discarded_by, discarded_at, parked } = &self.0;
        vec![
            handler.to_string(),
            short(&parked.key, 60),
            parked.position.to_string(),
            parked.event_type.to_string(),
            shape::time(*discarded_at),
            short(discarded_by, 30),
            short(discard_reason, 60),
            parked.code.clone(),
            short(&parked.reason, 60),
        ]
    }
}

/// Dead letters of one cause.
#[derive(Serialize)]
pub(super) struct OfOneCause(pub(super) Group);

impl Row for OfOneCause {
    const HEADINGS: &'static [&'static str] =
        &["group", "handler", "owner", "letters", "keys", "first", "last", "versions", "code", "cause"];

    fn cells(&self) -> Vec<String> {
        let group = &self.0;
        let versions: Vec<String> = group.code_versions.iter().map(ToString::to_string).collect();
        vec![
            group.group.to_string(),
            group.handler.to_string(),
            group.owner.as_deref().unwrap_or_default().to_owned(),
            group.letters.to_string(),
            group.keys.to_string(),
            shape::time(group.first_failed_at),
            shape::time(group.last_failed_at),
            versions.join(" "),
            group.code.clone(),
            short(&group.cause, 80),
        ]
    }
}

/// A key that a redrive would try.
#[derive(Serialize)]
pub(super) struct Key(pub(super) Planned);

impl Row for Key {
    const HEADINGS: &'static [&'static str] = &["handler", "key", "group", "letters", "positions"];

    fn cells(&self) -> Vec<String> {
        let Planned { handler, key, group, letters } = &self.0;
        let positions: Vec<String> = letters.iter().map(Position::to_string).collect();
        vec![
            handler.to_string(),
            short(key, 60),
            group.to_string(),
            letters.len().to_string(),
            short(&positions.join(" "), 80),
        ]
    }
}

/// The redrive of a key.
#[derive(Serialize)]
pub(super) struct UnderWay(pub(super) Redrive);

impl Row for UnderWay {
    const HEADINGS: &'static [&'static str] =
        &["handler", "key", "asked", "by", "letters", "done", "state", "reason"];

    fn cells(&self) -> Vec<String> {
        let redrive = &self.0;
        let (state, reason) = match &redrive.state {
            RedriveState::Waiting => {
                let due = redrive.due.map(|due| format!("its turn is at {}", shape::time(due)));
                ("waiting", due.unwrap_or_default())
            }
            RedriveState::Done { .. } => ("done", String::new()),
            RedriveState::FailedAgain { position, code, reason, .. } => {
                ("failed again", format!("#{position}: {code} {reason}"))
            }
        };
        vec![
            redrive.handler.to_string(),
            short(&redrive.key, 60),
            shape::time(redrive.requested_at),
            short(&redrive.requested_by, 30),
            redrive.letters.to_string(),
            redrive.done.to_string(),
            state.to_owned(),
            short(&reason, 80),
        ]
    }
}

/// What was given up, or would be.
#[derive(Serialize)]
pub(super) struct Done {
    pub(super) letters: usize,
    pub(super) dry_run: bool,
}
