//! A business with a ledger: it answers each idempotency key once, remembers the answer, and counts.
//!
//! What is traded is the business of a [`Trade`]; this is only the part that they have in common. The order of lines in the
//! file is the order of decisions, so a ledger that is opened again comes to the same state.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ensue::{Code, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lines::{Lines, Written};
use super::{Config, Trouble};
use crate::dice::Dice;

/// After so many calls of one key without an answer the next one is answered: trouble that passes does pass.
const UNANSWERED_MAX: u32 = 2;

/// A business outside: its books and its rules.
pub(super) trait Trade: Send + 'static {
    /// Who it is, in messages.
    const NAME: &'static str;
    /// What can be asked of it.
    type Request: Serialize + DeserializeOwned + PartialEq + Clone + Send + 'static;
    /// What it then did.
    type Effect: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// What it does, or the reason why not. Changes nothing.
    fn decide(&self, request: &Self::Request) -> Result<Self::Effect, String>;

    /// Enters what was done into the books.
    fn apply(&mut self, request: &Self::Request, effect: &Self::Effect);
}

/// The calls a business got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Calls {
    /// All that arrived.
    pub calls: u64,
    /// Those whose key had been answered before: the first answer was given again.
    pub repeats: u64,
    /// Those that took effect.
    pub effects: u64,
    /// Those that were refused.
    pub refusals: u64,
}

/// One call that was answered for the first time.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Answered<R, E> {
    /// The caller's idempotency key.
    pub(super) key: String,
    /// What was asked.
    pub(super) request: R,
    /// What was answered.
    pub(super) outcome: Result<E, String>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<R, E> {
    Answered(Answered<R, E>),
    Repeated { key: String },
}

pub(super) type AnsweredBy<T> = Answered<<T as Trade>::Request, <T as Trade>::Effect>;
type LineOf<T> = Line<<T as Trade>::Request, <T as Trade>::Effect>;

/// The ledger of one business.
pub(super) struct Ledger<T: Trade> {
    books: Mutex<Books<T>>,
    lines: Lines,
    luck: Luck,
}

struct Books<T: Trade> {
    trade: T,
    answered: HashMap<String, AnsweredBy<T>>,
    calls: Calls,
    /// How often a key was left without an answer since the ledger was opened.
    unanswered: HashMap<String, u32>,
}

/// Which calls get lost.
struct Luck {
    seed: u64,
    unanswered_percent: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
}

impl<T: Trade> Ledger<T> {
    /// Opens the ledger in `dir` and enters everything it holds into the books of `trade`.
    pub(super) fn open(dir: &Path, trade: T, config: Config) -> Result<Self, Error> {
        let mut books =
            Books { trade, answered: HashMap::new(), calls: Calls::default(), unanswered: HashMap::new() };
        let lines = Lines::open(dir, |text| {
            // The answer was given long ago.
            books.enter(parse::<T>(dir, text)?).ok();
            Ok(())
        })?;
        let luck = Luck { seed: config.seed, unanswered_percent: config.unanswered_percent };
        Ok(Self { books: Mutex::new(books), lines, luck })
    }

    /// Asks under an idempotency key. The answer is safe on the disk before it is given. A dropped future takes nothing
    /// back: the call may have taken effect, as with a lost answer.
    pub(super) async fn call(&self, key: &str, request: T::Request) -> Result<T::Effect, Trouble> {
        let fate = self.fate(key);
        if fate == Fate::RequestLost {
            return Err(Trouble::NoAnswer { who: T::NAME });
        }
        let outcome = self.answer(key, request).await.map_err(Trouble::Broken)?;
        if fate == Fate::AnswerLost {
            return Err(Trouble::NoAnswer { who: T::NAME });
        }
        outcome.map_err(Trouble::Refused)
    }

    /// As [`Ledger::call`], without misfortune.
    pub(super) async fn answer(
        &self,
        key: &str,
        request: T::Request,
    ) -> Result<Result<T::Effect, String>, Error> {
        let (outcome, written) = self.decide(key, request)?;
        written.wait().await?;
        Ok(outcome)
    }

    /// Looks into the books.
    pub(super) fn inspect<R>(&self, look: impl FnOnce(&T, Calls) -> R) -> R {
        let books = self.books();
        look(&books.trade, books.calls)
    }

    /// All first answers, read again from the disk.
    pub(super) fn history(&self) -> Result<Vec<AnsweredBy<T>>, Error> {
        let mut history = Vec::new();
        self.lines.read_again(|text| {
            if let Line::Answered(answered) = parse::<T>(Path::new(T::NAME), text)? {
                history.push(answered);
            }
            Ok(())
        })?;
        Ok(history)
    }

    /// Decides and enters under one lock, so that the file has the order of the decisions.
    fn decide(&self, key: &str, request: T::Request) -> Result<(Result<T::Effect, String>, Written), Error> {
        let mut books = self.books();
        let line = books.line(key, request)?;
        let text = serde_json::to_string(&line).map_err(|cause| {
            Error::new(Code::INVALID_BODY, format!("{} cannot write its answer", T::NAME)).with_source(cause)
        })?;
        let written = self.lines.append(&text);
        let outcome = books.enter(line);
        Ok((outcome, written))
    }

    fn fate(&self, key: &str) -> Fate {
        let mut books = self.books();
        let unanswered = books.unanswered.get(key).copied().unwrap_or_default();
        let fate = self.luck.fate(T::NAME, key, unanswered);
        if fate != Fate::Answered {
            books.unanswered.insert(key.to_owned(), unanswered + 1);
        }
        fate
    }

    /// The books are changed only after everything that can fail, so a panic elsewhere leaves them whole.
    fn books(&self) -> MutexGuard<'_, Books<T>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Trade> Books<T> {
    fn line(&self, key: &str, request: T::Request) -> Result<LineOf<T>, Error> {
        match self.answered.get(key) {
            None => {
                let outcome = self.trade.decide(&request);
                Ok(Line::Answered(Answered { key: key.to_owned(), request, outcome }))
            }
            Some(first) if first.request == request => Ok(Line::Repeated { key: key.to_owned() }),
            Some(_) => Err(Error::new(
                Code::DUPLICATE_ID,
                format!("{} has answered the idempotency key `{key}` for another request", T::NAME),
            )
            .with_fix("a key stands for one request: derive it from what is asked for")),
        }
    }

    fn enter(&mut self, line: LineOf<T>) -> Result<T::Effect, String> {
        self.calls.calls += 1;
        match line {
            Line::Repeated { key } => {
                self.calls.repeats += 1;
                let first = self.answered.get(&key).map(|answered| answered.outcome.clone());
                first.unwrap_or_else(|| Err(format!("the first answer to `{key}` is missing")))
            }
            Line::Answered(answered) => {
                if let Ok(effect) = &answered.outcome {
                    self.calls.effects += 1;
                    self.trade.apply(&answered.request, effect);
                } else {
                    self.calls.refusals += 1;
                }
                let outcome = answered.outcome.clone();
                self.answered.insert(answered.key.clone(), answered);
                outcome
            }
        }
    }
}

impl Luck {
    /// The same key has the same fate in every run.
    fn fate(&self, who: &str, key: &str, unanswered: u32) -> Fate {
        let mut dice = Dice::new(self.seed, &["luck", who, key, &unanswered.to_string()]);
        if unanswered >= UNANSWERED_MAX || !dice.happens(self.unanswered_percent) {
            Fate::Answered
        } else if dice.happens(50) {
            Fate::AnswerLost
        } else {
            Fate::RequestLost
        }
    }
}

/// Keys that took effect more than once.
pub(super) fn doubled_keys<R, E>(who: &str, history: &[Answered<R, E>]) -> Vec<String> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for answered in history.iter().filter(|answered| answered.outcome.is_ok()) {
        *times.entry(&answered.key).or_default() += 1;
    }
    let mut findings: Vec<String> = times
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(key, times)| format!("{who}: key `{key}` took effect {times} times"))
        .collect();
    findings.sort_unstable();
    findings
}

fn parse<T: Trade>(place: &Path, text: &str) -> Result<LineOf<T>, Error> {
    serde_json::from_str(text).map_err(|cause| {
        let message = format!("a line of the ledger in {} is whole but not understood", place.display());
        Error::new(Code::CORRUPT, message).with_source(cause)
    })
}
