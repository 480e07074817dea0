//! How far every handler is, as the store has it: checkpoints, dead letters, halted lanes.

use std::collections::{HashMap, HashSet};

use ensue_core::{Error, EventId, Position, Recorded, Store};

use super::OpenState;
use super::index::Settlements;
use super::words::at;
use crate::catalogue::{Catalogue, HandlerKind};
use crate::dead::{DeadLetter, Halted};
use crate::pressure::{OpenBreaker, open_breakers};
use crate::spaces;
use crate::subscription::Checkpoints;

/// Progress of every handler of a catalogue at one moment.
pub(super) struct Progress {
    settled: HashMap<String, Settled>,
    dead: HashMap<(String, Position), DeadLetter>,
    /// Deliveries that wait for a time, with what waits behind them.
    deferred: HashMap<(String, Position), DeadLetter>,
    halted: HashMap<(String, u16), Halted>,
    /// The breaker that a handler waits for.
    breakers: HashMap<String, OpenBreaker>,
}

struct Settled {
    floor: Position,
    lanes: Vec<Position>,
}

impl Progress {
    pub(super) async fn load(store: &dyn Store, catalogue: &Catalogue) -> Result<Self, Error> {
        let mut settled = HashMap::new();
        // Checkpoints first: what is parked after they were read is not settled by them.
        for handler in &catalogue.handlers {
            let checkpoints = Checkpoints::load(store, &handler.name.as_str().into()).await?;
            let (floor, lanes) = (checkpoints.floor(), checkpoints.settled());
            settled.insert(handler.name.clone(), Settled { floor, lanes });
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
        Ok(Self {
            settled,
            dead: by_place(crate::dead::list(store).await?),
            deferred: by_place(crate::dead::deferred(store).await?),
            breakers: breakers.flat_map(by_handler).collect(),
            halted: halted.map(|halted| ((halted.handler.to_string(), halted.lane), halted)).collect(),
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

    /// Why this handler is not done with this event; `None` if it is.
    pub(super) fn open(
        &self,
        handler: &str,
        recorded: &Recorded,
    ) -> Option<(OpenState, Option<String>, Option<String>)> {
        if let Some(letter) = self.dead.get(&(handler.to_owned(), recorded.position)) {
            let parked = &letter.parked;
            return Some((OpenState::Parked, Some(parked.code.clone()), Some(parked.reason.clone())));
        }
        if let Some(letter) = self.deferred.get(&(handler.to_owned(), recorded.position)) {
            return Some((OpenState::Deferred, None, Some(letter.parked.reason.clone())));
        }
        let lanes = &self.settled.get(handler)?.lanes;
        let count = u16::try_from(lanes.len()).unwrap_or(u16::MAX);
        let lane = spaces::spread(recorded.stream.key.as_str(), count);
        let settled = lanes.get(usize::from(lane)).copied().unwrap_or_default();
        if recorded.position <= settled {
            return None;
        }
        Some(match self.halted.get(&(handler.to_owned(), lane)) {
            Some(halted) => (OpenState::Halted, Some(halted.code.clone()), Some(halted.reason.clone())),
            None => self.breakers.get(handler).map_or((OpenState::Ahead, None, None), |breaker| {
                let (name, since, why) = (&breaker.name, at(breaker.since), &breaker.reason);
                let reason =
                    format!("its breaker {name} is open since {since} after {}: {why}", breaker.code);
                (OpenState::Ahead, Some(breaker.code.clone()), Some(reason))
            }),
        })
    }
}
