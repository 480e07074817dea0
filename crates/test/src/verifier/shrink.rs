//! Makes a failing trial smaller: leaves out one part after the other, and keeps what still fails.

use super::program::Program;
use super::{Disagreement, Trial};

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 2_000;

/// The smallest trial found that still fails.
pub(super) async fn shrink(trial: Trial, differences: Vec<String>) -> Disagreement {
    let mut smallest = Disagreement { trial, differences };
    let mut runs = 0;
    'smaller: loop {
        for candidate in candidates(&smallest.trial) {
            runs += 1;
            if runs > RUNS_MAX {
                return smallest;
            }
            if let Err(differences) = candidate.run().await
                && sort(&differences) == sort(&smallest.differences)
            {
                smallest = Disagreement { trial: candidate, differences };
                continue 'smaller;
            }
        }
        return smallest;
    }
}

/// What sort of failure it is, so that shrinking does not go from one to another.
fn sort(differences: &[String]) -> &str {
    let first = differences.first().map(String::as_str).unwrap_or_default();
    first
        .split([' ', ':'])
        .find(|word| !word.contains(|letter: char| letter.is_ascii_digit()))
        .unwrap_or_default()
}

/// Trials that are smaller by one part.
fn candidates(trial: &Trial) -> Vec<Trial> {
    let Trial { program, misfortunes } = trial;
    let with = |program: Program| Trial { program, misfortunes: misfortunes.clone() };
    let mut all: Vec<Trial> =
        without_one(misfortunes).map(|misfortunes| Trial { program: program.clone(), misfortunes }).collect();
    all.extend(without_one(&program.sagas).map(|sagas| with(Program { sagas, ..program.clone() })));
    all.extend(without_one(&program.acts).map(|acts| with(Program { acts, ..program.clone() })));
    all.extend(smaller_reactions(program).map(with));
    all.extend(smaller_sagas(program).map(with));
    all
}

/// Reactions are only emptied, not removed: their numbers are in the paths.
fn smaller_reactions(program: &Program) -> impl Iterator<Item = Program> {
    (0..program.reactions.len()).flat_map(move |at| {
        let with = |change: &dyn Fn(&mut super::program::Reaction)| {
            let mut smaller = program.clone();
            smaller.reactions.get_mut(at).into_iter().for_each(change);
            (smaller != *program).then_some(smaller)
        };
        [
            (at + 1 == program.reactions.len()).then(|| {
                let mut smaller = program.clone();
                smaller.reactions.truncate(at);
                smaller
            }),
            with(&|reaction| reaction.emits.truncate(reaction.emits.len().saturating_sub(1))),
            with(&|reaction| reaction.moods.clear()),
            with(&|reaction| {
                reaction.moods.pop_last();
            }),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
    })
}

fn smaller_sagas(program: &Program) -> impl Iterator<Item = Program> {
    program.sagas.iter().enumerate().flat_map(move |(at, saga)| {
        without_one(&saga.steps).map(move |steps| {
            let mut smaller = program.clone();
            smaller.sagas.get_mut(at).into_iter().for_each(|saga| saga.steps.clone_from(&steps));
            smaller
        })
    })
}

/// The list without each of its parts in turn.
fn without_one<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    (0..list.len()).map(|at| {
        list.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, part)| part.clone()).collect()
    })
}
