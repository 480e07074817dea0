//! Sagas in the model: steps one after the other; if one fails for good, what is done is undone, last first.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::super::outcome::{SagaEnd, SagaEnding};
use super::super::program::{Class, ENDED, OnError, Step, UNIT};
use super::super::words::instance;
use super::{InstanceId, Model, Todo, key_name};

/// An instance under way.
#[derive(Default)]
pub(super) struct Instance {
    /// The step it is at.
    at: usize,
    waits: Waits,
    /// Answers since the start that no wait has taken yet.
    answers: u32,
    undoable: Vec<Undoable>,
    is_unwinding: bool,
    ending: Option<SagaEnding>,
    undone: Vec<usize>,
    /// Steps that were given up although their command may still be done.
    given_up: BTreeSet<usize>,
    has_late_success: bool,
    /// Raised whenever it stops waiting, so that an earlier timer is not meant for it any more.
    turn: u64,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Waits {
    #[default]
    Nothing,
    Reply {
        attempt: u32,
    },
    Answer,
    Time,
}

struct Undoable {
    step: usize,
    state: Undo,
    is_late: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Undo {
    Open,
    Sent,
    Done,
}

/// Which wait of an instance a timer is for.
pub(super) struct Wake {
    turn: u64,
}

impl Instance {
    pub(super) fn end(&self) -> SagaEnd {
        SagaEnd {
            ending: self.ending.unwrap_or(SagaEnding::Open),
            undone: self.undone.clone(),
            has_late_success: self.has_late_success,
        }
    }
}

impl Model<'_> {
    fn instance(&mut self, of: InstanceId) -> &mut Instance {
        self.instances.get_mut(&of).expect("it was started")
    }

    /// Whether an instance still waits for this timer.
    pub(super) fn is_due(&self, of: InstanceId, wake: &Wake) -> bool {
        self.instances.get(&of).is_some_and(|instance| instance.turn == wake.turn)
    }

    pub(super) fn start(&mut self, of: InstanceId) {
        // A second event for the same key is ignored.
        if let Entry::Vacant(vacant) = self.instances.entry(of) {
            vacant.insert(Instance::default());
            self.go_on(of);
        }
    }

    /// From the step it is at to where it waits, or to its end.
    fn go_on(&mut self, of: InstanceId) {
        loop {
            let at = self.instance(of).at;
            let Some(step) = self.step_of(of, at).cloned() else { return self.complete(of) };
            let result = match step {
                Step::Send { within, .. } => return self.send(of, at, within, 1),
                Step::Sleep { units } => return self.wait(of, Waits::Time, Some(units)),
                Step::Wait { within, .. } => {
                    let instance = self.instance(of);
                    if instance.answers == 0 {
                        return self.wait(of, Waits::Answer, within);
                    }
                    instance.answers -= 1;
                    Ok(())
                }
                Step::Local { .. } if step.local_failures().is_none() => Err(()),
                Step::Local { .. } => {
                    self.effect("saga", &instance(of.0, &key_name(of.1)), &format!("do {at}"));
                    Ok(())
                }
            };
            match result {
                Ok(()) => self.succeed(of, at),
                Err(()) if step.on_error() == OnError::Fails => return self.fail(of),
                Err(()) => {}
            }
            self.instance(of).at += 1;
        }
    }

    fn complete(&mut self, of: InstanceId) {
        self.instance(of).ending = Some(SagaEnding::Completed);
        self.happen(ENDED, of.1, &instance(of.0, &key_name(of.1)));
    }

    fn send(&mut self, of: InstanceId, step: usize, within: Option<u64>, attempt: u32) {
        self.queue.push_back(Todo::Order { of, step, is_undo: false });
        self.wait(of, Waits::Reply { attempt }, within);
    }

    fn wait(&mut self, of: InstanceId, waits: Waits, units: Option<u64>) {
        let instance = self.instance(of);
        instance.waits = waits;
        let turn = instance.turn;
        if let Some(units) = units {
            self.timers_set += 1;
            self.timers.insert((self.now + units * UNIT, self.timers_set), (of, Wake { turn }));
        }
    }

    fn stop_waiting(&mut self, of: InstanceId) {
        let instance = self.instance(of);
        instance.waits = Waits::Nothing;
        instance.turn += 1;
    }

    /// What it waited for came: to the next step, or back.
    fn resume(&mut self, of: InstanceId, result: Result<(), ()>) {
        self.stop_waiting(of);
        let at = self.instance(of).at;
        let on_error = self.step_of(of, at).map_or(OnError::Fails, Step::on_error);
        match result {
            Ok(()) => self.succeed(of, at),
            Err(()) if on_error == OnError::Fails => return self.fail(of),
            Err(()) => {}
        }
        self.instance(of).at += 1;
        self.go_on(of);
    }

    fn succeed(&mut self, of: InstanceId, step: usize) {
        let class = self.step_of(of, step).map(Step::class);
        if matches!(class, Some(Class::Undo(_))) {
            let undoable = Undoable { step, state: Undo::Open, is_late: false };
            self.instance(of).undoable.push(undoable);
        }
    }

    fn fail(&mut self, of: InstanceId) {
        self.instance(of).is_unwinding = true;
        self.undo(of);
    }

    pub(super) fn wake(&mut self, of: InstanceId, _wake: &Wake) {
        let Instance { at, waits, .. } = *self.instance(of);
        match waits {
            Waits::Nothing => {}
            Waits::Time => self.resume(of, Ok(())),
            Waits::Answer => self.resume(of, Err(())),
            Waits::Reply { attempt } => {
                let Some(Step::Send { within, retries, .. }) = self.step_of(of, at).cloned() else { return };
                if attempt <= retries {
                    self.stop_waiting(of);
                    return self.send(of, at, within, attempt + 1);
                }
                self.instance(of).given_up.insert(at);
                self.resume(of, Err(()));
            }
        }
    }

    /// A signal that sagas wait for.
    pub(super) fn answer(&mut self, key: u64) {
        let of_key: Vec<InstanceId> =
            self.instances.keys().filter(|(_, instance)| *instance == key).copied().collect();
        for of in of_key {
            if self.instance(of).waits == Waits::Answer {
                self.resume(of, Ok(()));
            } else {
                self.instance(of).answers += 1;
            }
        }
    }

    pub(super) fn reply(&mut self, of: InstanceId, step: usize, is_undo: bool, is_ok: bool) {
        if is_undo {
            return self.undo_answered(of, step, is_ok);
        }
        let instance = self.instance(of);
        if instance.at == step && matches!(instance.waits, Waits::Reply { .. }) {
            self.resume(of, if is_ok { Ok(()) } else { Err(()) });
        } else if is_ok && instance.given_up.remove(&step) {
            self.succeed_late(of, step);
        }
    }

    /// A step succeeded after it had been given up: it is undone all the same.
    fn succeed_late(&mut self, of: InstanceId, step: usize) {
        self.instance(of).has_late_success = true;
        if matches!(self.step_of(of, step).map(Step::class), Some(Class::Undo(_))) {
            let undoable = Undoable { step, state: Undo::Open, is_late: true };
            self.instance(of).undoable.push(undoable);
            self.undo(of);
        }
    }

    fn undo_answered(&mut self, of: InstanceId, step: usize, is_ok: bool) {
        let instance = self.instance(of);
        if instance.ending == Some(SagaEnding::NeedsAttention) {
            return;
        }
        if !is_ok {
            instance.ending = Some(SagaEnding::NeedsAttention);
            return self.stop_waiting(of);
        }
        let sent = instance.undoable.iter_mut().find(|undo| undo.step == step && undo.state == Undo::Sent);
        if let Some(sent) = sent {
            sent.state = Undo::Done;
            instance.undone.push(step);
        }
        self.undo(of);
    }

    /// Undoes the next, last first: while it goes its way only what succeeded late.
    fn undo(&mut self, of: InstanceId) {
        let instance = self.instance(of);
        if instance.ending == Some(SagaEnding::NeedsAttention) {
            return;
        }
        let is_unwinding = instance.is_unwinding;
        let next = instance
            .undoable
            .iter_mut()
            .rev()
            .find(|undo| undo.state != Undo::Done && (is_unwinding || undo.is_late));
        match next {
            Some(undo) if undo.state == Undo::Open => {
                undo.state = Undo::Sent;
                let step = undo.step;
                self.queue.push_back(Todo::Order { of, step, is_undo: true });
            }
            None if is_unwinding => instance.ending = Some(SagaEnding::Compensated),
            Some(_) | None => {}
        }
    }
}
