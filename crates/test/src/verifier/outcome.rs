//! What is left when a program is over, and how two such ends differ: what was lost, doubled, or done in another order.

use std::collections::{BTreeMap, BTreeSet};

use ensue_runtime::saga::SagaStatus;

/// The end of a program.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    /// By kind and key, the paths of the signals.
    pub(super) signals: BTreeMap<(usize, String), Vec<String>>,
    /// By handler and key, what was done outside, in order.
    pub(super) effects: BTreeMap<(String, String), Vec<String>>,
    /// By handler and key, how often a reaction was called.
    pub(super) calls: BTreeMap<(String, String), u32>,
    pub(super) balances: BTreeMap<String, i64>,
    /// Which moves of the account were accepted.
    pub(super) moves: Vec<bool>,
    pub(super) sagas: BTreeMap<String, SagaEnd>,
    /// How much is parked.
    pub(super) parked: usize,
}

/// How an instance ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SagaEnd {
    pub(super) ending: SagaEnding,
    /// Steps in the order in which they were undone.
    pub(super) undone: Vec<usize>,
    /// A step succeeded after it had been given up: when it is undone is then left open.
    pub(super) has_late_success: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SagaEnding {
    Open,
    Completed,
    Compensated,
    NeedsAttention,
}

impl From<SagaStatus> for SagaEnding {
    fn from(status: SagaStatus) -> Self {
        match status {
            SagaStatus::Completed => Self::Completed,
            SagaStatus::Compensated => Self::Compensated,
            // No program of the verifier has an operator, so nothing is paused or terminated but by a defect.
            SagaStatus::NeedsAttention | SagaStatus::Paused | SagaStatus::Terminated => Self::NeedsAttention,
            SagaStatus::Running | SagaStatus::Waiting | SagaStatus::Compensating => Self::Open,
        }
    }
}

impl Outcome {
    /// Where this end of a run is not as the model says; empty if it is.
    pub(super) fn differences(&self, model: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare_bags("signal", &self.signals, &model.signals, &mut found);
        compare_bags("effect", &self.effects, &model.effects, &mut found);
        self.compare_sagas(model, &mut found);
        if self.balances != model.balances {
            found.push(format!("balances are {:?} instead of {:?}", self.balances, model.balances));
        }
        if self.moves != model.moves {
            found.push(format!("moves were taken as {:?} instead of {:?}", self.moves, model.moves));
        }
        if self.parked != model.parked {
            found.push(format!("{} are parked instead of {}", self.parked, model.parked));
        }
        found
    }

    /// Where handlers were called more or less often than the model says: only where nothing went wrong.
    pub(super) fn differing_calls(&self, model: &Self) -> Vec<String> {
        let places: BTreeSet<_> = self.calls.keys().chain(model.calls.keys()).collect();
        let calls = |of: &Self, place| of.calls.get(place).copied().unwrap_or_default();
        places
            .into_iter()
            .filter(|place| calls(self, place) != calls(model, place))
            .map(|place| {
                let (handler, key) = place;
                let (is, should) = (calls(self, place), calls(model, place));
                format!("{handler} was called {is} times for {key} instead of {should}")
            })
            .collect()
    }

    fn compare_sagas(&self, model: &Self, found: &mut Vec<String>) {
        let names: BTreeSet<&String> = self.sagas.keys().chain(model.sagas.keys()).collect();
        for name in names {
            let (is, should) = (self.sagas.get(name), model.sagas.get(name));
            let key = ("saga".to_owned(), name.clone());
            let (did, should_do) = (self.effects.get(&key), model.effects.get(&key));
            match (is, should) {
                (Some(is), Some(should)) if is.ending != should.ending => {
                    found.push(format!("{name} ended as {:?} instead of {:?}", is.ending, should.ending));
                }
                (Some(_), Some(should)) if should.has_late_success => {}
                (Some(is), Some(should)) if is.undone != should.undone => {
                    found.push(format!("{name} undid {:?} instead of {:?}", is.undone, should.undone));
                }
                (Some(_), Some(_)) if did != should_do => {
                    found.push(format!("reordered: {name} did {did:?} instead of {should_do:?}"));
                }
                (None, _) => found.push(format!("lost: {name} never started")),
                (_, None) => found.push(format!("doubled: {name} should not have started")),
                (Some(_), Some(_)) => {}
            }
        }
    }
}

/// Compares what there is under each key, in whatever order.
fn compare_bags<K: Ord + Clone + std::fmt::Debug>(
    what: &str,
    is: &BTreeMap<K, Vec<String>>,
    should: &BTreeMap<K, Vec<String>>,
    found: &mut Vec<String>,
) {
    let keys: BTreeSet<&K> = is.keys().chain(should.keys()).collect();
    for key in keys {
        let count = |of: &BTreeMap<K, Vec<String>>| {
            let mut counts = BTreeMap::<String, usize>::new();
            for one in of.get(key).into_iter().flatten() {
                *counts.entry(one.clone()).or_default() += 1;
            }
            counts
        };
        let (is, should) = (count(is), count(should));
        let all: BTreeSet<&String> = is.keys().chain(should.keys()).collect();
        for one in all {
            let (times, should) = (is.get(one).unwrap_or(&0), should.get(one).unwrap_or(&0));
            if times != should {
                let verdict = if times < should { "lost" } else { "doubled" };
                found.push(format!(
                    "{verdict}: {what} {one} of {key:?} is there {times} times instead of {should}"
                ));
            }
        }
    }
}
