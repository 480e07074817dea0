//! Who would have to do what for a flow to go on, from the declared topology and what has happened.

use std::collections::{BTreeMap, VecDeque};

use ensue_core::Recorded;

use super::index::handler_name;
use super::stage::Stage;
use crate::catalogue::{Catalogue, FlowEntry, HandlerEntry, HandlerKind};
use crate::message;

/// What a flow of this kind wants to come to, seen from how far it is.
pub(super) struct Expected<'a> {
    catalogue: &'a Catalogue,
    /// Types that lead there, with how many steps are left.
    leading: BTreeMap<&'a str, usize>,
}

/// A handler was given an event and has caused nothing of what leads on.
pub(super) struct Owed<'a> {
    pub(super) event: &'a Recorded,
    pub(super) handler: &'a HandlerEntry,
}

impl<'a> Expected<'a> {
    pub(super) fn new(catalogue: &'a Catalogue, declared: Option<&'a FlowEntry>, stage: Stage) -> Self {
        let Some(declared) = declared else { return Self { catalogue, leading: BTreeMap::new() } };
        let goals: Vec<&str> = match stage {
            Stage::Undoing | Stage::Attention => declared.undone.values().map(String::as_str).collect(),
            _ => declared.ends.iter().map(String::as_str).collect(),
        };
        Self { catalogue, leading: leading_to(catalogue, goals) }
    }

    /// The types this handler can cause that lead on most directly, in words; `None` if none does.
    ///
    /// What the answer to a command leads to, only the saga that sent it knows: it is the first that the handler publishes.
    pub(super) fn of(&self, handler: &HandlerEntry) -> Option<String> {
        if handler.kind == HandlerKind::Command {
            let answer = || handler.consumes.first().map(|command| format!("the answer to {command}"));
            return handler.causes.first().cloned().or_else(answer);
        }
        let steps = |caused: &&String| self.leading.get(caused.as_str()).copied();
        let fewest = handler.causes.iter().filter_map(|caused| steps(&caused)).min()?;
        let most_direct = handler.causes.iter().filter(|caused| steps(caused) == Some(fewest));
        Some(most_direct.map(String::as_str).collect::<Vec<&str>>().join(" or "))
    }

    /// The latest event whose handler has caused nothing of what leads on.
    pub(super) fn owed<'e>(&self, events: &'e [Recorded]) -> Option<Owed<'e>>
    where
        'a: 'e,
    {
        events.iter().rev().find_map(|event| {
            let consumers = self.catalogue.handlers.iter().filter(|handler| {
                matches!(handler.kind, HandlerKind::Reaction | HandlerKind::Command)
                    && handler.consumes.iter().any(|consumed| consumed == event.envelope.event_type.as_str())
            });
            let mut silent = consumers
                .filter(|handler| self.of(handler).is_some() && !has_caused(events, event, &handler.name));
            silent.next().map(|handler| Owed { event, handler })
        })
    }

    /// The latest event that would lead on if somebody took it, but that nobody takes.
    pub(super) fn untaken<'e>(&self, events: &'e [Recorded]) -> Option<&'e Recorded> {
        let is_own = |event: &&Recorded| !event.stream.topic.is_reserved();
        events.iter().rev().filter(is_own).find(|event| {
            !self.catalogue.handlers.iter().any(|handler| {
                handler.kind != HandlerKind::Projection
                    && handler.consumes.iter().any(|known| known == event.envelope.event_type.as_str())
            })
        })
    }

    /// A type that comes from outside, leads on, and has not come yet.
    pub(super) fn awaited_from_outside(&self, declared: &FlowEntry, events: &[Recorded]) -> Option<&'a str> {
        let has_come =
            |event_type: &str| events.iter().any(|event| event.envelope.event_type.as_str() == event_type);
        let is_open = |event_type: &&&str| {
            self.catalogue.external.contains(**event_type)
                && !declared.starts.iter().any(|start| start == **event_type)
                && !has_come(event_type)
        };
        self.leading.keys().find(is_open).copied()
    }
}

/// Whether this handler has caused anything when it was given this event.
pub(super) fn has_caused(events: &[Recorded], cause: &Recorded, handler: &str) -> bool {
    events.iter().any(|event| {
        event.envelope.causation.as_ref() == Some(&cause.envelope.id)
            && message::extension(&event.envelope, message::HANDLER).map(handler_name) == Some(handler)
    })
}

/// The types from which one of the goals can be reached, and in how many steps; the goals in none.
fn leading_to<'a>(catalogue: &'a Catalogue, goals: Vec<&'a str>) -> BTreeMap<&'a str, usize> {
    let mut leading: BTreeMap<&str, usize> = goals.iter().map(|goal| (*goal, 0)).collect();
    let mut todo: VecDeque<&str> = goals.into();
    while let Some(goal) = todo.pop_front() {
        let steps = leading.get(goal).copied().unwrap_or_default() + 1;
        for handler in catalogue.producers(goal).filter(|handler| handler.kind != HandlerKind::Projection) {
            for consumed in &handler.consumes {
                leading.entry(consumed).or_insert_with(|| {
                    todo.push_back(consumed);
                    steps
                });
            }
        }
    }
    leading
}
