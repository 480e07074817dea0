//! What a handler causes: appended at once, or set as a timer.

use std::sync::Arc;

use ensue_core::{Draft, Envelope, Later, StreamName};

use super::{Action, Timer};
use crate::effects::Effects;
use crate::message::{Origin, appends};
use crate::subscription::Shared;

/// The effects of drafts that `origin` causes, in order. Those to be appended later become timers.
pub(crate) fn caused(shared: &Arc<Shared>, drafts: Vec<Draft>, origin: &Origin) -> Effects {
    let mut effects = Effects::default();
    let mut now = Vec::with_capacity(drafts.len());
    for (index, mut draft) in drafts.into_iter().enumerate() {
        let later = draft.later.take();
        let caused = shared.press.caused(draft, origin, index);
        match later {
            None => now.push(caused),
            Some(later) => set(shared, &mut effects, &timer_of(shared, later, caused)),
        }
    }
    effects.appends = appends(now);
    effects
}

/// Adds the writes of a timer, and wakes who fires timers once they are stored.
pub(crate) fn set(shared: &Arc<Shared>, effects: &mut Effects, timer: &Timer) {
    timer.writes().for_each(|write| effects.put(write));
    let shared = Arc::clone(shared);
    effects.after.push(Box::new(move || shared.timers.notify_one()));
}

/// The timer that appends this event later.
pub(crate) fn timer_of(shared: &Shared, later: Later, (stream, envelope): (StreamName, Envelope)) -> Timer {
    Timer {
        owner: stream.to_string().into(),
        generation: envelope.id.clone(),
        is_named: later.name.is_some(),
        name: later.name.unwrap_or_else(|| envelope.id.as_str().into()),
        due: later.due.seen_from(shared.press.host.clock.now()),
        flow: envelope.flow().clone(),
        cause: envelope.causation.clone().unwrap_or_else(|| envelope.id.clone()),
        action: Action::Append { stream, event: Box::new(envelope) },
    }
}
