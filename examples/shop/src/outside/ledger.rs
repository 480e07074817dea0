//! A business with a ledger: it answers each idempotency key once, remembers the answer, and counts.
//!
//! What is traded is the business of a [`Trade`]; this is only the part that they have in common. Any number of processes share
//! a ledger: a thread takes all calls that wait, holds the file, reads what others have answered meanwhile, decides, writes
//! once, syncs once, and only then answers.
//!
//! Invariant: the order of lines in the file is the order of decisions, so all who read it come to the same state.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use ensue::{Code, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::lines::{Lines, framed};
use super::{Config, Trouble};
use crate::dice::Dice;

/// After so many calls of one key without an answer the next one is answered: trouble that passes does pass.
const UNANSWERED_MAX: u32 = 2;
/// Bounds what one write holds in memory.
const TOGETHER_MAX: usize = 4_096;

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

type OutcomeOf<T> = Result<<T as Trade>::Effect, String>;

/// The ledger of one business, as one process has it.
pub(super) struct Ledger<T: Trade> {
    open: Arc<Mutex<Open<T>>>,
    /// Taken when the ledger closes, which ends the thread.
    queue: Option<Sender<Call<T>>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<OnceLock<Error>>,
    luck: Luck,
}

/// The file, and what it comes to as far as it was read.
struct Open<T: Trade> {
    lines: Lines,
    books: Books<T>,
}

struct Books<T: Trade> {
    trade: T,
    answered: HashMap<String, AnsweredBy<T>>,
    calls: Calls,
}

/// A call that waits for its answer.
struct Call<T: Trade> {
    key: String,
    request: T::Request,
    repetition: Repetition,
    reply: oneshot::Sender<Result<OutcomeOf<T>, Error>>,
}

/// What a call does whose key was answered before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repetition {
    /// It is counted.
    Counts,
    /// It leaves no trace, whatever was asked first.
    IsNothing,
}

/// Which calls get lost.
struct Luck {
    seed: u64,
    unanswered_percent: u8,
    /// How often a key was left without an answer since the ledger was opened here.
    unanswered: Mutex<HashMap<String, u32>>,
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
        let mut books = Books { trade, answered: HashMap::new(), calls: Calls::default() };
        let lines = Lines::open(dir, |text| books.enter_text(text))?;
        let open = Arc::new(Mutex::new(Open { lines, books }));
        let failure = Arc::new(OnceLock::new());
        let (queue, waiting) = mpsc::channel();
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn({
            let (open, failure) = (Arc::clone(&open), Arc::clone(&failure));
            move || {
                if let Err(error) = answer_waiting(&open, &waiting) {
                    // The first failure is the one that counts; there is one thread, so there is no second.
                    failure.get_or_init(|| error);
                }
            }
        });
        let thread = thread.map_err(|cause| {
            Error::new(Code::IO, format!("cannot start a thread for {}", T::NAME)).with_source(cause)
        })?;
        let luck = Luck::new(config);
        Ok(Self { open, queue: Some(queue), thread: Some(thread), failure, luck })
    }

    /// Asks under an idempotency key. The answer is safe on the disk before it is given. A dropped future takes nothing
    /// back: the call may have taken effect, as with a lost answer.
    pub(super) async fn call(&self, key: &str, request: T::Request) -> Result<T::Effect, Trouble> {
        let fate = self.luck.next_fate(T::NAME, key);
        if fate == Fate::RequestLost {
            return Err(Trouble::NoAnswer { who: T::NAME });
        }
        let outcome = self.answer(key, request, Repetition::Counts).await.map_err(Trouble::Broken)?;
        if fate == Fate::AnswerLost {
            return Err(Trouble::NoAnswer { who: T::NAME });
        }
        outcome.map_err(Trouble::Refused)
    }

    /// Asks without misfortune, and only if the key was never answered: whoever begins a ledger does so once.
    pub(super) async fn once(&self, key: &str, request: T::Request) -> Result<OutcomeOf<T>, Error> {
        self.answer(key, request, Repetition::IsNothing).await
    }

    async fn answer(
        &self,
        key: &str,
        request: T::Request,
        repetition: Repetition,
    ) -> Result<OutcomeOf<T>, Error> {
        let (reply, answer) = oneshot::channel();
        if let Some(queue) = &self.queue {
            // Fails only after the thread has stopped; then `reply` is dropped and the caller is told why.
            queue.send(Call { key: key.to_owned(), request, repetition, reply }).ok();
        }
        answer.await.unwrap_or_else(|_| Err(self.why_closed()))
    }

    /// Looks into the books as far as they were read: what other processes did since the last call or the last reading of
    /// the history is not in them.
    pub(super) fn inspect<R>(&self, look: impl FnOnce(&T, Calls) -> R) -> R {
        let Open { books, .. } = &*locked(&self.open);
        look(&books.trade, books.calls)
    }

    /// All first answers, read again from the disk. The books are then those of all processes.
    pub(super) fn history(&self) -> Result<Vec<AnsweredBy<T>>, Error> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let Open { lines, books } = &mut *locked(&self.open);
        let mut held = lines.hold()?;
        held.read_on(|text| books.enter_text(text))?;
        let mut history = Vec::new();
        held.read_again(|text| {
            if let Line::Answered(answered) = parse::<T>(text)? {
                history.push(answered);
            }
            Ok(())
        })?;
        Ok(history)
    }

    fn why_closed(&self) -> Error {
        let closed = || Error::new(Code::CLOSED, format!("{} closed before it answered", T::NAME));
        self.failure.get().cloned().unwrap_or_else(closed)
    }
}

impl<T: Trade> Drop for Ledger<T> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has nobody left to be reported to.
            thread.join().ok();
        }
    }
}

/// Answers until the queue closes; returns how many times it had to sync.
fn answer_waiting<T: Trade>(open: &Mutex<Open<T>>, waiting: &Receiver<Call<T>>) -> Result<u64, Error> {
    let mut syncs = 0;
    while let Ok(first) = waiting.recv() {
        let calls: Vec<_> = std::iter::once(first).chain(waiting.try_iter().take(TOGETHER_MAX - 1)).collect();
        let outcomes = locked(open).answer(&calls)?;
        syncs += 1;
        for (call, outcome) in calls.into_iter().zip(outcomes) {
            // A caller that went away does not need the answer; the line stands.
            call.reply.send(outcome).ok();
        }
    }
    Ok(syncs)
}

/// The books are changed only after everything that can fail, so a panic elsewhere leaves them whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Trade> Open<T> {
    /// Decides and enters while the file is held, so that it has the order of the decisions. Nothing is answered that is not
    /// safe; after a failure the books are not to be used.
    fn answer(&mut self, calls: &[Call<T>]) -> Result<Vec<Result<OutcomeOf<T>, Error>>, Error> {
        let Self { lines, books } = self;
        let mut held = lines.hold()?;
        held.read_on(|text| books.enter_text(text))?;
        let mut written = String::new();
        let outcomes = calls.iter().map(|call| books.answer(call, &mut written)).collect();
        held.append(written.as_bytes())?;
        Ok(outcomes)
    }
}

impl<T: Trade> Books<T> {
    fn answer(&mut self, call: &Call<T>, written: &mut String) -> Result<OutcomeOf<T>, Error> {
        if call.repetition == Repetition::IsNothing
            && let Some(first) = self.answered.get(&call.key)
        {
            return Ok(first.outcome.clone());
        }
        let line = self.line(&call.key, &call.request)?;
        let text = serde_json::to_string(&line).map_err(|cause| {
            Error::new(Code::INVALID_BODY, format!("{} cannot write its answer", T::NAME)).with_source(cause)
        })?;
        written.push_str(&framed(&text));
        Ok(self.enter(line))
    }

    fn line(&self, key: &str, request: &T::Request) -> Result<LineOf<T>, Error> {
        match self.answered.get(key) {
            None => {
                let (request, outcome) = (request.clone(), self.trade.decide(request));
                Ok(Line::Answered(Answered { key: key.to_owned(), request, outcome }))
            }
            Some(first) if first.request == *request => Ok(Line::Repeated { key: key.to_owned() }),
            Some(_) => Err(Error::new(
                Code::DUPLICATE_ID,
                format!("{} has answered the idempotency key `{key}` for another request", T::NAME),
            )
            .with_fix("a key stands for one request: derive it from what is asked for")),
        }
    }

    /// Enters a line that was written before or by another process.
    fn enter_text(&mut self, text: &str) -> Result<(), Error> {
        // The answer was given there.
        self.enter(parse::<T>(text)?).ok();
        Ok(())
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
    fn new(config: Config) -> Self {
        let Config { seed, unanswered_percent, .. } = config;
        Self { seed, unanswered_percent, unanswered: Mutex::default() }
    }

    /// What happens to the next call of this key.
    fn next_fate(&self, who: &str, key: &str) -> Fate {
        let mut times = locked(&self.unanswered);
        let unanswered = times.get(key).copied().unwrap_or_default();
        let fate = self.fate(who, key, unanswered);
        if fate != Fate::Answered {
            times.insert(key.to_owned(), unanswered + 1);
        }
        fate
    }

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

fn parse<T: Trade>(text: &str) -> Result<LineOf<T>, Error> {
    serde_json::from_str(text).map_err(|cause| {
        let message = format!("a line in the ledger of {} is whole but not understood", T::NAME);
        Error::new(Code::CORRUPT, message).with_source(cause)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Gives out numbers.
    #[derive(Default)]
    struct Numbers(u64);

    impl Trade for Numbers {
        const NAME: &'static str = "the counter";
        type Request = ();
        type Effect = u64;

        fn decide(&self, (): &()) -> Result<u64, String> {
            Ok(self.0 + 1)
        }

        fn apply(&mut self, (): &(), number: &u64) {
            self.0 = *number;
        }
    }

    type Reply = oneshot::Receiver<Result<OutcomeOf<Numbers>, Error>>;

    fn call(key: &str) -> (Call<Numbers>, Reply) {
        let (reply, answer) = oneshot::channel();
        (Call { key: key.to_owned(), request: (), repetition: Repetition::Counts, reply }, answer)
    }

    #[test]
    fn callers_that_wait_together_share_one_sync_and_are_answered_in_their_order() {
        let dir = std::env::temp_dir().join(format!("ensue-ledger-{}", std::process::id()));
        let lines = Lines::open(&dir, |_| Ok(())).expect("a new file");
        let books = Books { trade: Numbers::default(), answered: HashMap::new(), calls: Calls::default() };
        let (queue, waiting) = mpsc::channel();
        let mut answers: Vec<Reply> = (0..100)
            .map(|number| {
                let (call, answer) = call(&number.to_string());
                queue.send(call).expect("it listens");
                answer
            })
            .collect();
        drop(queue);
        let syncs = answer_waiting(&Mutex::new(Open { lines, books }), &waiting);
        fs::remove_dir_all(&dir).expect("it is ours");
        assert_eq!(syncs.expect("a writable folder"), 1);
        let mut numbers = Vec::new();
        for answer in &mut answers {
            numbers.push(answer.try_recv().expect("everybody is told").expect("decided").expect("a number"));
        }
        assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    }
}
