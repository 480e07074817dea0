//! Random programs on the runtime, compared with a plain model.
//!
//! A program is an application of random reactions and sagas with handlers that fail in random ways, and what is done
//! to it from outside: events, commands, time, restarts, redrives. It runs on the runtime that ships while the process
//! crashes, replies are lost and deliveries come twice. The model works the same program out one thing after the
//! other. At the end nothing may be lost, doubled, or in another order than that of its key: in the log, in the read
//! model, in the world outside, in the ends of the sagas.

use std::fmt;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::{Crash, Misfortune, SeededEntropy};

mod application;
mod generate;
mod model;
mod outcome;
mod program;
mod run;
mod shrink;
mod words;
mod world;

use model::outcome_of;
pub use program::Program;

/// A program, and what goes wrong while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// What runs.
    pub program: Program,
    /// What goes wrong.
    pub misfortunes: Vec<Misfortune>,
}

/// What a trial has gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Commits, over all lives of the process.
    pub commits: u64,
    /// Crashes.
    pub crashes: u32,
    /// Replies that were lost.
    pub replies_lost: u32,
}

impl std::ops::AddAssign for Passed {
    fn add_assign(&mut self, more: Self) {
        self.commits += more.commits;
        self.crashes += more.crashes;
        self.replies_lost += more.replies_lost;
    }
}

/// A trial whose end is not that of the model.
#[derive(Debug)]
pub struct Disagreement {
    /// The trial, as small as it could be made.
    pub trial: Trial,
    /// What differs.
    pub differences: Vec<String>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.differences.join("\n"))?;
        for misfortune in &self.trial.misfortunes {
            write!(f, "{misfortune} ")?;
        }
        writeln!(f, "\n{:#?}", self.trial.program)
    }
}

/// Commits within which crashes and lost replies are strewn.
const COMMITS: u64 = 50;

impl Trial {
    /// The program and the misfortunes that belong to this seed. About one in five has no misfortunes: there, handlers
    /// must be called exactly as often as the model says.
    pub fn generated(seed: u64) -> Self {
        let dice = SeededEntropy::new(!seed);
        let mut misfortunes = Vec::new();
        if dice.below(5) > 0 {
            misfortunes.extend((dice.below(4) == 0).then_some(Misfortune::DeliverTwice));
            misfortunes
                .extend((dice.below(2) == 0).then(|| Misfortune::ReorderAcrossKeys(dice.next() % 1_000)));
            misfortunes.extend((0..dice.below(4)).map(|_| {
                let number = 1 + dice.below(COMMITS);
                Misfortune::Crash(if dice.below(2) == 0 {
                    Crash::Before(number)
                } else {
                    Crash::After(number)
                })
            }));
            misfortunes.extend((0..dice.below(4)).map(|_| Misfortune::LoseReply(1 + dice.below(COMMITS))));
        }
        Self { program: Program::generated(seed), misfortunes }
    }

    /// Runs the program and compares.
    pub async fn run(&self) -> Result<Passed, Vec<String>> {
        let ran = AssertUnwindSafe(run::run(&self.program, &self.misfortunes)).catch_unwind().await;
        let ran = ran.map_err(|panic| vec![format!("it panicked: {}", said(&*panic))])?;
        let model = outcome_of(&self.program);
        let mut differences = ran.contradictions;
        differences.extend(ran.outcome.differences(&model));
        if self.misfortunes.is_empty() {
            differences.extend(ran.outcome.differing_calls(&model));
        }
        let passed = Passed { commits: ran.commits, crashes: ran.crashes, replies_lost: ran.replies_lost };
        if differences.is_empty() { Ok(passed) } else { Err(differences) }
    }

    /// Runs it, and makes it smaller as long as it still fails.
    pub async fn verify(self) -> Result<Passed, Disagreement> {
        match self.run().await {
            Ok(passed) => Ok(passed),
            Err(differences) => Err(shrink::shrink(self, differences).await),
        }
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
