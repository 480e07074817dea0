//! A program from a seed. What is left out keeps the end the same in whatever order things happen, so that a plain
//! model can say what it is.

use std::collections::BTreeSet;

use super::program::{
    ANSWERED, Act, Class, ENDED, Emission, Fate, How, KEYS, Lasts, Mood, OnError, Program, Reaction,
    SagaPlan, Skips, Step, TIMED_ACTS_MAX, When,
};
use crate::SeededEntropy;

impl Program {
    /// The program that belongs to this seed.
    pub fn generated(seed: u64) -> Self {
        let dice = Dice(SeededEntropy::new(seed));
        let reactions: Vec<Reaction> = (0..=dice.below(4)).map(|_| dice.reaction()).collect();
        let tainted = tainted(&reactions);
        let sagas = (0..dice.below(3)).filter_map(|_| dice.saga(&tainted)).collect();
        Self { reactions, sagas, acts: dice.acts() }
    }
}

/// Kinds whose signals may wait behind something that is parked. A saga that started with one might start before or
/// after the answer it waits for.
fn tainted(reactions: &[Reaction]) -> BTreeSet<usize> {
    let mut tainted = BTreeSet::new();
    for kind in 0..ENDED {
        for reaction in reactions.iter().filter(|reaction| reaction.consumes == kind) {
            let parks = reaction.moods.values().any(|mood| mood.lasts == Lasts::UntilMended);
            if parks || tainted.contains(&kind) {
                tainted.extend(reaction.emits.iter().map(|emission| emission.kind));
            }
        }
    }
    tainted
}

struct Dice(SeededEntropy);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn index(&self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or_default()
    }

    fn one_in(&self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn some<T>(&self, one_in: u64, value: impl FnOnce() -> T) -> Option<T> {
        self.one_in(one_in).then(value)
    }

    fn small(&self, bound: u32) -> u32 {
        u32::try_from(self.below(u64::from(bound))).unwrap_or_default()
    }

    fn reaction(&self) -> Reaction {
        let consumes = self.index(ANSWERED + 1);
        let above = ANSWERED.saturating_sub(consumes + 1);
        let emits = (0..self.below(3)).filter(|_| above > 0).map(|_| Emission {
            kind: consumes + 1 + self.index(above),
            key: self.some(2, || self.below(KEYS)),
        });
        let attempts = 1 + self.small(4);
        Reaction {
            emits: emits.collect(),
            lanes: 1 + u16::try_from(self.below(4)).unwrap_or_default(),
            batch: if self.one_in(2) { 1 } else { 128 },
            attempts,
            skips: if self.one_in(5) { Skips::WhenItGivesUp } else { Skips::Never },
            moods: (0..KEYS).filter_map(|key| Some((key, self.some(4, || self.mood(attempts))?))).collect(),
            consumes,
        }
    }

    fn mood(&self, attempts: u32) -> Mood {
        let lasts = match self.small(attempts) {
            0 => Lasts::UntilMended,
            failures => Lasts::Attempts(failures),
        };
        let how = match self.below(3) {
            0 => How::Panic,
            1 if lasts == Lasts::UntilMended => How::Refusal,
            _ => How::Error,
        };
        Mood { lasts, how, when: if self.one_in(2) { When::BeforeEffect } else { When::AfterEffect } }
    }

    fn saga(&self, tainted: &BTreeSet<usize>) -> Option<SagaPlan> {
        let clean: Vec<usize> = (1..ENDED).filter(|kind| !tainted.contains(kind)).collect();
        let starts = *clean.get(self.index(clean.len()))?;
        let before = (0..=self.below(4)).map(|_| self.step());
        let mut steps: Vec<Step> = before.collect();
        if self.one_in(3) {
            steps.push(self.pivot());
            steps.extend((0..self.below(3)).map(|_| self.forward()));
        }
        Some(SagaPlan { starts, steps })
    }

    fn step(&self) -> Step {
        let on_error = if self.one_in(4) { OnError::GoesOn } else { OnError::Fails };
        match self.below(8) {
            0 => Step::Sleep { units: 1 + self.below(3) },
            1 | 2 => Step::Wait { within: self.some(2, || 1 + self.below(4)), on_error },
            3 | 4 => {
                Step::Local { failures: self.small(3), retries: self.small(3), class: self.class(), on_error }
            }
            _ => Step::Send {
                fate: self.fate(),
                within: self.some(2, || 1 + self.below(3)),
                retries: self.small(3),
                class: self.class(),
                on_error,
            },
        }
    }

    fn fate(&self) -> Fate {
        match self.below(8) {
            0 | 1 => Fate::Refused,
            2 => Fate::Breaks(1 + self.small(3)),
            3 => Fate::Broken,
            _ => Fate::Done,
        }
    }

    fn class(&self) -> Class {
        match self.below(8) {
            0 | 1 => Class::NothingToUndo,
            2 => Class::Undo(Fate::RefusedFirst(1 + self.small(3))),
            3 => Class::Undo(self.fate()),
            _ => Class::Undo(Fate::Done),
        }
    }

    fn pivot(&self) -> Step {
        let (class, on_error) = (Class::Pivot, OnError::Fails);
        if self.one_in(2) {
            return Step::Local { failures: self.small(2), retries: self.small(2), class, on_error };
        }
        Step::Send { fate: self.fate(), within: None, retries: 0, class, on_error }
    }

    fn forward(&self) -> Step {
        let (class, on_error) = (Class::Forward, OnError::Fails);
        match self.below(4) {
            0 => Step::Sleep { units: 1 + self.below(2) },
            1 => Step::Local { failures: self.small(3), retries: 0, class, on_error },
            2 => Step::Send { fate: Fate::Broken, within: None, retries: 0, class, on_error },
            _ => {
                let fate = Fate::RefusedFirst(self.small(3));
                Step::Send { fate, within: None, retries: 0, class, on_error }
            }
        }
    }

    fn acts(&self) -> Vec<Act> {
        let mut timed = 0;
        let mut acts: Vec<Act> = (0..3 + self.below(12)).map(|_| self.act()).collect();
        acts.retain(|act| {
            timed += usize::from(act.takes_a_little());
            !act.takes_a_little() || timed <= TIMED_ACTS_MAX
        });
        acts
    }

    fn act(&self) -> Act {
        let key = self.below(KEYS);
        match self.below(16) {
            0..=5 => Act::Publish { kind: self.index(ENDED), key },
            6..=8 => Act::Move { key, cents: self.below(100).cast_signed() - 40 },
            9 | 10 => Act::Answer { key },
            11 => Act::Settle,
            12 | 13 => Act::Advance { units: 1 + self.below(3) },
            14 => Act::Restart,
            _ if self.one_in(4) => Act::Mend,
            _ => Act::Redrive,
        }
    }
}
