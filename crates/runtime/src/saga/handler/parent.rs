//! What other sagas ask of this one: to run an instance as a step of theirs, and to send it back.

use ensue_core::{Append, EventType, Expected, Failure, Recorded};

use super::super::child::{Birth, End, Parent};
use super::super::journal::{Ending, Entry, Journal};
use super::super::stream_of;
use super::super::turn::{Place, Turn};
use super::{SagaHandler, child_key};
use crate::effects::Effects;
use crate::message::Origin;

impl SagaHandler {
    pub(super) fn is_by_a_parent(&self, recorded: &Recorded) -> bool {
        recorded.stream.topic.is_reserved() && self.by_parents.contains(&recorded.envelope.event_type)
    }

    pub(super) async fn serve_parent(&self, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        let [run, _] = &self.by_parents;
        let Some(parent) = Parent::of(&recorded.envelope) else { return Ok(Effects::default()) };
        let stream = stream_of(self.name(), child_key(recorded)).map_err(Failure::Rejected)?;
        let instance = self.instance(stream).await?;
        let has_begun = instance.journal.start.is_some();
        if recorded.envelope.event_type != *run {
            if !has_begun {
                return self.tell(recorded, &parent, &End::empty());
            }
            let mut turn = Turn::new(self, instance, recorded, Place::OwnLane);
            turn.sent_back(&parent).map_err(Failure::Rejected)?;
            return self.play(turn, recorded, attempt).await;
        }
        if has_begun {
            return match end_for(&instance.journal, &parent, self.name()) {
                Some(end) => self.tell(recorded, &parent, &end),
                None => Ok(Effects::default()),
            };
        }
        let started = started(recorded, parent)?;
        let mut turn = Turn::new(self, instance, recorded, Place::OwnLane);
        turn.write(&started).map_err(Failure::Rejected)?;
        self.play(turn, recorded, attempt).await
    }

    fn tell(&self, recorded: &Recorded, parent: &Parent, end: &End) -> Result<Effects, Failure> {
        let origin = Origin::of(&recorded.envelope, &format!("{}.reply", self.subscription()));
        let draft = parent.answer(end).map_err(Failure::Rejected)?;
        let (stream, envelope) = self.shared().press.caused(draft, &origin, 0);
        let append = Append { stream, expected: Expected::Any, events: vec![envelope] };
        Ok(Effects { appends: vec![append], ..Effects::default() })
    }
}

/// How an instance begins that a parent starts.
fn started(recorded: &Recorded, parent: Parent) -> Result<Entry, Failure> {
    let birth: Birth = ensue_core::event::decode_body(&recorded.envelope).map_err(Failure::Rejected)?;
    Ok(Entry::Started {
        event_id: recorded.envelope.id.clone(),
        event_type: EventType::new(birth.event_type).map_err(Failure::Rejected)?,
        schema_version: birth.schema_version,
        position: recorded.position,
        event: birth.event,
        parent: Some(parent),
    })
}

/// What a parent is told that asks for an instance which is there already; `None` if it is told at the end.
fn end_for(journal: &Journal, parent: &Parent, saga: &str) -> Option<End> {
    if journal.parent.as_ref() != Some(parent) {
        return Some(End::Badly(format!(
            "saga {saga} has an instance with this key already, which others started"
        )));
    }
    match &journal.ending {
        Some(Ending::Completed) => Some(End::empty()),
        Some(Ending::Compensated(reason) | Ending::Terminated(reason)) => Some(End::Badly(reason.clone())),
        _ => None,
    }
}
