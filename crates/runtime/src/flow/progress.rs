//! How far every handler is, as the store has it: checkpoints, dead letters, halted lanes.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use ensue_core::{Error, EventId, Position, Recorded, Store, Timestamp};

use super::index::Settlements;
use super::words::at;
use super::{OpenState, OpenWork};
use crate::catalogue::{Catalogue, HandlerEntry, HandlerKind};
use crate::dead::{DeadLetter, Discarded, Halted};
use crate::lane::Ahead;
use crate::pressure::{OpenBreaker, open_breakers};
use crate::spaces;
use crate::subscription::{Checkpoints, lane_key};

/// Progress of every handler of a catalogue at one moment.
pub(super) struct Progress {
    settled: HashMap<String, Settled>,
    dead: HashMap<(String, Position), DeadLetter>,
    /// Deliveries that wait for a time, with what waits behind them.
    deferred: HashMap<(String, Position), DeadLetter>,
    halted: HashMap<(String, u16), Halted>,
    /// The breaker that a handler waits for.
    breakers: HashMap<String, OpenBreaker>,
    /// Deliveries that an operator has given up.
    given_up: HashMap<(String, Position), Discarded>,
}

/// How a delivery stands, since when, and the code and the words of why.
type Standing = (OpenState, Option<Timestamp>, Option<String>, Option<String>);

struct Settled {
    floor: Position,
    lanes: Vec<Position>,
    /// What lanes that take turns have settled above their checkpoints.
    ahead: HashMap<Bytes, Ahead>,
}

impl Settled {
    /// Whether this delivery in this lane is settled.
    fn has(&self, handler: &str, lane: u16, recorded: &Recorded) -> bool {
        let settled = self.lanes.get(usize::from(lane)).copied().unwrap_or_default();
        let ahead = || self.ahead.get(&lane_key(handler, lane)).filter(|ahead| ahead.is_of(settled));
        recorded.position <= settled || ahead().is_some_and(|ahead| ahead.has_settled(recorded))
    }
}

impl Progress {
    pub(super) async fn load(store: &dyn Store, catalogue: &Catalogue) -> Result<Self, Error> {
        let mut settled = HashMap::new();
        // Checkpoints first: what is parked after they were read is not settled by them.
        for handler in &catalogue.handlers {
            let checkpoints = Checkpoints::load(store, &handler.name.as_str().into()).await?;
            let (floor, lanes) = (checkpoints.floor(), checkpoints.settled());
            let ahead = Ahead::load(store, &handler.name).await?;
            settled.insert(handler.name.clone(), Settled { floor, lanes, ahead });
        }
        let by_place = |letters: Vec<DeadLetter>| {
            let place = |letter: &DeadLetter| (letter.handler.to_string(), letter.parked.position);
            letters.into_iter().map(|letter| (place(&letter), letter)).collect()
        };
        let halted = crate::dead::halted(store).await?.into_iter();
        let breakers = open_breakers(store).await?.into_iter();
        let by_handler = |breaker: OpenBreaker| {
            let handlers = breaker.handlers.clone().into_iter();
            handlers.map(move |handler| (handler.to_string(), breaker.clone()))
        };
        let given_up = crate::dead::discarded(store).await?.into_iter();
        Ok(Self {
            settled,
            dead: by_place(crate::dead::list(store).await?),
            deferred: by_place(crate::dead::deferred(store).await?),
            breakers: breakers.flat_map(by_handler).collect(),
            halted: halted.map(|halted| ((halted.handler.to_string(), halted.lane), halted)).collect(),
            given_up: given_up
                .map(|letter| ((letter.handler.to_string(), letter.parked.position), letter))
                .collect(),
        })
    }

    /// How far those handlers are that can move a flow on. Read models hold no flow up.
    pub(super) fn settlements(&self, catalogue: &Catalogue) -> Settlements {
        let moving = catalogue.handlers.iter().filter(|handler| handler.kind != HandlerKind::Projection);
        let moving: Vec<(&String, &Settled)> =
            moving.filter_map(|handler| Some((&handler.name, self.settled.get(&handler.name)?))).collect();
        Settlements {
            floor: moving.iter().map(|(_, settled)| settled.floor).min().unwrap_or(Position::MAX),
            handlers: moving
                .into_iter()
                .map(|(name, settled)| (name.clone(), settled.lanes.clone()))
                .collect(),
        }
    }

    /// Flows of which something is parked or deferred.
    pub(super) fn held(&self) -> HashSet<EventId> {
        let waiting = self.dead.values().chain(self.deferred.values());
        waiting.map(|letter| letter.parked.flow.clone()).collect()
    }

    /// The delivery of this event to this handler, if an operator has given it up.
    pub(super) fn given_up(&self, handler: &str, recorded: &Recorded) -> Option<&Discarded> {
        self.given_up.get(&(handler.to_owned(), recorded.position))
    }

    /// What this handler has still to do with this event; `None` if nothing.
    pub(super) fn open(&self, handler: &HandlerEntry, recorded: &Recorded) -> Option<OpenWork> {
        let (state, since, code, reason) = self.standing(&handler.name, recorded)?;
        Some(OpenWork {
            position: recorded.position,
            event_type: recorded.envelope.event_type.clone(),
            handler: handler.name.clone(),
            service: handler.service.clone(),
            state,
            since,
            code,
            reason,
        })
    }

    fn standing(&self, handler: &str, recorded: &Recorded) -> Option<Standing> {
        if let Some(DeadLetter { parked, .. }) = self.dead.get(&(handler.to_owned(), recorded.position)) {
            let since = Some(parked.first_failed_at.unwrap_or(parked.parked_at));
            return Some((OpenState::Parked, since, Some(parked.code.clone()), Some(parked.reason.clone())));
        }
        if let Some(DeadLetter { parked, .. }) = self.deferred.get(&(handler.to_owned(), recorded.position)) {
            return Some((OpenState::Deferred, Some(parked.parked_at), None, Some(parked.reason.clone())));
        }
        let settled = self.settled.get(handler)?;
        let count = u16::try_from(settled.lanes.len()).unwrap_or(u16::MAX);
        let lane = spaces::spread(recorded.stream.key.as_str(), count);
        if settled.has(handler, lane, recorded) {
            return None;
        }
        Some(match self.halted.get(&(handler.to_owned(), lane)) {
            Some(Halted { since, code, reason, .. }) => {
                (OpenState::Halted, Some(*since), Some(code.clone()), Some(reason.clone()))
            }
            None => self.ahead(handler),
        })
    }

    /// Its turn has not come, or it waits for a breaker.
    fn ahead(&self, handler: &str) -> Standing {
        let Some(OpenBreaker { name, since, code, reason, .. }) = self.breakers.get(handler) else {
            return (OpenState::Ahead, None, None, None);
        };
        let why = format!("its breaker {name} is open since {} after {code}: {reason}", at(*since));
        (OpenState::Ahead, Some(*since), Some(code.clone()), Some(why))
    }
}
