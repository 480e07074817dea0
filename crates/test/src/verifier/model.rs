//! What a program must come to, worked out one thing after the other, in the order of the acts. It knows nothing of
//! logs, lanes, commits, attempts in flight or crashes: that none of these can be seen at the end is what is verified.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::application::key_name;
use super::outcome::Outcome;
use super::program::{
    A_LITTLE, ANSWERED, Act, Fate, How, Lasts, Mood, Program, Reaction, Skips, Step, UNIT, When,
};
use super::words::instance;

mod saga;

use saga::{Instance, Wake};

/// The program under way.
pub(super) struct Model<'a> {
    program: &'a Program,
    /// Seconds since the start.
    now: u64,
    is_mended: bool,
    queue: VecDeque<Todo>,
    /// By handler and key: what waits there, the first of which has failed.
    parked: BTreeMap<(String, String), VecDeque<Todo>>,
    /// By due time, then in the order in which they were set.
    timers: BTreeMap<(u64, u64), (InstanceId, Wake)>,
    timers_set: u64,
    instances: BTreeMap<InstanceId, Instance>,
    balances: BTreeMap<u64, i64>,
    done: BTreeSet<(String, String, String)>,
    outcome: Outcome,
}

/// An instance of a saga: which saga, and its key.
type InstanceId = (usize, u64);

/// Something on its way to a handler.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Todo {
    React { reaction: usize, key: u64, path: String },
    Order { of: InstanceId, step: usize, is_undo: bool },
    Reply { of: InstanceId, step: usize, is_undo: bool, is_ok: bool },
}

/// What became of an attempt.
#[derive(PartialEq, Eq)]
enum Attempted {
    Settled,
    GivenUp,
}

/// The end of a program.
pub(super) fn outcome_of(program: &Program) -> Outcome {
    let mut model = Model {
        program,
        now: 0,
        is_mended: false,
        queue: VecDeque::new(),
        parked: BTreeMap::new(),
        timers: BTreeMap::new(),
        timers_set: 0,
        instances: BTreeMap::new(),
        balances: BTreeMap::new(),
        done: BTreeSet::new(),
        outcome: Outcome::default(),
    };
    for (index, act) in program.acts.iter().chain(&Program::ending()).enumerate() {
        model.act(index, *act);
    }
    model.finish()
}

impl Model<'_> {
    fn act(&mut self, index: usize, act: Act) {
        if act.takes_a_little() {
            let units = if let Act::Advance { units } = act { units } else { 0 };
            self.pass(units * UNIT + A_LITTLE);
        }
        match act {
            Act::Publish { kind, key } => self.happen(kind, key, &format!("p{index}")),
            Act::Answer { key } => self.happen(ANSWERED, key, &format!("a{index}")),
            Act::Move { key, cents } => self.move_cents(index, key, cents),
            Act::Mend => self.is_mended = true,
            Act::Redrive => self.redrive(),
            Act::Settle | Act::Advance { .. } | Act::Restart => {}
        }
        self.work();
    }

    fn finish(mut self) -> Outcome {
        self.outcome.balances =
            self.balances.iter().map(|(key, balance)| (key_name(*key), *balance)).collect();
        self.outcome.parked = self.parked.values().map(VecDeque::len).sum();
        self.outcome.sagas = self
            .instances
            .iter()
            .map(|((saga, key), found)| (instance(*saga, &key_name(*key)), found.end()))
            .collect();
        self.outcome
    }

    /// A signal: everyone who consumes it gets it.
    fn happen(&mut self, kind: usize, key: u64, path: &str) {
        self.outcome.signals.entry((kind, key_name(key))).or_default().push(path.to_owned());
        for (reaction, plan) in self.program.reactions.iter().enumerate() {
            if plan.consumes == kind {
                self.queue.push_back(Todo::React { reaction, key, path: path.to_owned() });
            }
        }
        for (saga, plan) in self.program.sagas.iter().enumerate() {
            if plan.starts == kind {
                self.start((saga, key));
            }
        }
        if kind == ANSWERED {
            self.answer(key);
        }
    }

    fn move_cents(&mut self, index: usize, key: u64, cents: i64) {
        let balance = self.balances.entry(key).or_default();
        let is_refused = *balance + cents < 0;
        self.outcome.moves.push(!is_refused);
        if !is_refused {
            *balance += cents;
            self.happen(0, key, &format!("m{index}"));
        }
    }

    /// Time passes; what is due by then happens at its moment.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds;
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((due, _), (of, wake)) = entry.remove_entry();
            if self.is_due(of, &wake) {
                self.now = due;
                self.wake(of, &wake);
                self.work();
            }
        }
        self.now = end;
    }

    fn work(&mut self) {
        while let Some(todo) = self.queue.pop_front() {
            self.deliver(todo);
        }
    }

    fn deliver(&mut self, todo: Todo) {
        if let Todo::Reply { of, step, is_undo, is_ok } = todo {
            return self.reply(of, step, is_undo, is_ok);
        }
        let place = place_of(&todo);
        if let Some(waiting) = self.parked.get_mut(&place) {
            return waiting.push_back(todo);
        }
        if self.attempt(&todo, Tries::All) == Attempted::GivenUp {
            self.parked.insert(place, VecDeque::from([todo]));
        }
    }

    /// Works off what is parked, each key until its first failure.
    fn redrive(&mut self) {
        let places: Vec<(String, String)> = self.parked.keys().cloned().collect();
        for place in places {
            let mut waiting = self.parked.get(&place).cloned().unwrap_or_default();
            while let Some(todo) = waiting.pop_front() {
                if self.attempt(&todo, Tries::One) == Attempted::GivenUp {
                    waiting.push_front(todo);
                    break;
                }
            }
            if waiting.is_empty() {
                self.parked.remove(&place);
            } else {
                self.parked.insert(place, waiting);
            }
            self.work();
        }
    }

    fn attempt(&mut self, todo: &Todo, tries: Tries) -> Attempted {
        match todo {
            Todo::React { reaction, key, path } => self.react(*reaction, *key, path, tries),
            Todo::Order { of, step, is_undo } => self.order(*of, *step, *is_undo),
            Todo::Reply { .. } => unreachable!("a reply has no handler"),
        }
    }

    fn react(&mut self, number: usize, key: u64, path: &str, tries: Tries) -> Attempted {
        let Some(plan) = self.program.reactions.get(number) else { return Attempted::Settled };
        let handler = format!("r{number}");
        let mood = plan.moods.get(&key).copied();
        let is_hopeless = mood.is_some_and(|mood| mood.lasts == Lasts::UntilMended && !self.is_mended);
        *self.outcome.calls.entry((handler.clone(), key_name(key))).or_default() +=
            calls(plan, mood, is_hopeless, tries);
        if !is_hopeless || mood.is_some_and(|mood| mood.when == When::AfterEffect) {
            self.effect(&handler, &key_name(key), path);
        }
        if is_hopeless {
            return if plan.skips == Skips::WhenItGivesUp { Attempted::Settled } else { Attempted::GivenUp };
        }
        for (index, emission) in plan.emits.iter().enumerate() {
            self.happen(emission.kind, emission.key.unwrap_or(key), &format!("{path}>{handler}.{index}"));
        }
        Attempted::Settled
    }

    /// A command of a saga reaches its handler.
    fn order(&mut self, of: InstanceId, step: usize, is_undo: bool) -> Attempted {
        let Some(plan) = self.step_of(of, step) else { return Attempted::Settled };
        let fate = if is_undo { plan.undo_fate().unwrap_or(Fate::Done) } else { plan.fate() };
        if fate == Fate::Broken && !self.is_mended {
            return Attempted::GivenUp;
        }
        let is_ok = fate != Fate::Refused;
        if is_ok {
            let what = format!("{} {step}", if is_undo { "undo" } else { "do" });
            self.effect("saga", &instance(of.0, &key_name(of.1)), &what);
        }
        self.queue.push_back(Todo::Reply { of, step, is_undo, is_ok });
        Attempted::Settled
    }

    fn step_of(&self, (saga, _): InstanceId, step: usize) -> Option<&Step> {
        self.program.sagas.get(saga)?.steps.get(step)
    }

    /// Something is done outside, once.
    fn effect(&mut self, handler: &str, key: &str, what: &str) {
        if self.done.insert((handler.to_owned(), key.to_owned(), what.to_owned())) {
            let effects = self.outcome.effects.entry((handler.to_owned(), key.to_owned())).or_default();
            effects.push(what.to_owned());
        }
    }
}

/// How often a delivery is tried before it is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    All,
    /// Of a redrive.
    One,
}

/// Redrives that one [`Act::Redrive`] is made of.
pub(super) const REDRIVES: u32 = 4;

/// How often the handler is called for a delivery where nothing goes wrong.
fn calls(plan: &Reaction, mood: Option<Mood>, is_hopeless: bool, tries: Tries) -> u32 {
    match mood {
        Some(_) if is_hopeless && tries == Tries::One => REDRIVES,
        Some(Mood { how: How::Refusal, .. }) if is_hopeless => 1,
        Some(_) if is_hopeless => plan.attempts,
        Some(Mood { lasts: Lasts::Attempts(failures), .. }) => failures + 1,
        _ => 1,
    }
}

/// Which handler, and which of its keys.
fn place_of(todo: &Todo) -> (String, String) {
    match todo {
        Todo::React { reaction, key, .. } => (format!("r{reaction}"), key_name(*key)),
        Todo::Order { of: (saga, key), is_undo, .. } | Todo::Reply { of: (saga, key), is_undo, .. } => {
            let handler = if *is_undo { "handle.Undo" } else { "handle.Do" };
            (handler.to_owned(), instance(*saga, &key_name(*key)))
        }
    }
}
