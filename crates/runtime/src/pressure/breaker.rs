//! Circuit breakers: while a dependency is down, nobody calls it but one delivery at a time that looks whether it is back.
//!
//! A [`Circuit`] is a pure state machine: it is asked before a call and told of its end, and time is handed in.
//!
//! Invariant: while it is open at most one call is under way that was let through to look.

use std::collections::VecDeque;
use std::time::Duration;

use ensue_core::{Code, Error, Failure, Position, Timestamp};
use serde::{Deserialize, Serialize};

/// How long the others wait until they ask again, while one looks whether the dependency is back.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a delivery that has looked in vain lets others go first, where others wait: it may be that only this one fails.
const LET_OTHERS: Duration = Duration::from_secs(1);

/// A circuit breaker around a dependency, shared by all handlers that name it.
///
/// It opens when 5 of the last 10 calls have failed within 30 seconds. What counts as failed is an error that is retried
/// and a time-out. A refusal of a command or [`Outcome::Reject`](ensue_core::Outcome::Reject) is an answer: the dependency
/// works. A panic, `Outcome::Retry` and `Outcome::Defer` say nothing about it.
///
/// While it is open nothing is called: deliveries wait in their lanes, and the wait counts as no attempt, so an outage
/// parks nothing. After 5 seconds one delivery is let through to look. If it fails, that counts as no attempt either, and
/// the wait doubles up to a minute; if it succeeds, everybody goes on. A command that is dispatched meanwhile is refused at once
/// with `E0310`.
///
/// Each process has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breaker {
    pub(crate) name: &'static str,
    failures: usize,
    calls: usize,
    window: Duration,
    open_for: Duration,
    open_max: Duration,
}

impl Breaker {
    /// Around the dependency of this name.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            failures: 5,
            calls: 10,
            window: Duration::from_secs(30),
            open_for: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
        }
    }

    /// Opens when so many of the last so many calls have failed. Both are at least 1.
    #[must_use]
    pub fn opens_at(self, failures: usize, calls: usize) -> Self {
        let failures = failures.max(1);
        Self { failures, calls: calls.max(failures), ..self }
    }

    /// Calls that are longer ago do not count.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// How long it stays open before one delivery looks; each time it looks in vain it is twice as long, up to `longest`.
    #[must_use]
    pub fn open_for(self, first: Duration, longest: Duration) -> Self {
        Self { open_for: first, open_max: longest.max(first), ..self }
    }
}

/// Whether calls are let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All are.
    Closed,
    /// None is.
    Open,
    /// One is under way that looks whether the dependency is back.
    HalfOpen,
}

/// Who is let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pass {
    /// One of many, in this period of calm.
    Ordinary(u64),
    /// The one that looks.
    Probe,
}

/// What the end of a call says about the dependency.
#[derive(Clone, Debug)]
pub(crate) enum Sign {
    Works,
    Fails(Error),
    Nothing,
}

impl Sign {
    pub(crate) fn of<T>(result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => Self::Works,
            Err(Failure::Failed(error)) if error.code() == Code::HANDLER_PANICKED => Self::Nothing,
            Err(Failure::Failed(error)) => Self::Fails(error.clone()),
            // What cannot be decoded is rejected too, before anything is called.
            Err(Failure::Rejected(error)) if error.code() == Code::REJECTED => Self::Works,
            Err(Failure::Rejected(_) | Failure::Later(_) | Failure::Deferred(_)) => Self::Nothing,
        }
    }
}

/// A time without calls.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) since: Timestamp,
    /// The last failure.
    pub(crate) error: Error,
    /// When the next one may look, by the monotonic clock.
    until: Duration,
    pause: Duration,
    is_probing: bool,
    /// Who has looked last.
    tried: Option<Position>,
    /// Somebody else waits as well.
    has_others: bool,
}

/// The state of a breaker.
#[derive(Default, Debug)]
pub(crate) struct Circuit {
    /// When the last calls ended, and whether they failed; at most as many as count.
    ended: VecDeque<(Duration, bool)>,
    /// How often it has closed: what was let through before says nothing about now.
    period: u64,
    outage: Option<Outage>,
}

impl Circuit {
    /// Lets a delivery through, or says how long it should wait before it asks again.
    pub(crate) fn ask(&mut self, who: Position, now: Duration) -> Result<Pass, Duration> {
        let Some(outage) = &mut self.outage else { return Ok(Pass::Ordinary(self.period)) };
        outage.has_others |= outage.tried.is_some_and(|tried| tried != who);
        if outage.is_probing {
            return Err(ASK_AGAIN);
        }
        let is_again = outage.tried == Some(who) && outage.has_others;
        let until = outage.until + if is_again { LET_OTHERS } else { Duration::ZERO };
        if let Some(wait) = until.checked_sub(now).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        outage.is_probing = true;
        outage.tried = Some(who);
        Ok(Pass::Probe)
    }

    /// Takes in how a call has ended. A time to wait means that it is open now: a failure then counts as no attempt.
    pub(crate) fn end(
        &mut self,
        breaker: &Breaker,
        (pass, sign): (Pass, Sign),
        (now, time): (Duration, Timestamp),
    ) -> Option<Duration> {
        match (pass, sign) {
            (Pass::Probe, Sign::Works) => {
                *self = Self { period: self.period + 1, ..Self::default() };
                None
            }
            (Pass::Probe, Sign::Nothing) => {
                self.abandon(pass);
                None
            }
            (Pass::Probe, Sign::Fails(error)) => {
                let outage = self.outage.as_mut()?;
                outage.pause = outage.pause.saturating_mul(2).min(breaker.open_max);
                (outage.until, outage.is_probing, outage.error) = (now + outage.pause, false, error);
                Some(outage.pause)
            }
            (Pass::Ordinary(_), Sign::Fails(_)) if self.outage.is_some() => {
                self.outage.as_ref().map(|outage| outage.until.saturating_sub(now).max(ASK_AGAIN))
            }
            (Pass::Ordinary(period), sign) if period == self.period && self.outage.is_none() => {
                self.count(breaker, sign, (now, time))
            }
            (Pass::Ordinary(_), _) => None,
        }
    }

    fn count(
        &mut self,
        breaker: &Breaker,
        sign: Sign,
        (now, time): (Duration, Timestamp),
    ) -> Option<Duration> {
        let error = match sign {
            Sign::Nothing => return None,
            Sign::Works => None,
            Sign::Fails(error) => Some(error),
        };
        self.ended.push_back((now, error.is_some()));
        let is_old = |(ended, _): &(Duration, bool)| now.saturating_sub(*ended) > breaker.window;
        while self.ended.len() > breaker.calls || self.ended.front().is_some_and(is_old) {
            self.ended.pop_front();
        }
        let failures = self.ended.iter().filter(|(_, has_failed)| *has_failed).count();
        let error = error.filter(|_| failures >= breaker.failures)?;
        self.ended.clear();
        self.outage = Some(Outage {
            since: time,
            error,
            until: now + breaker.open_for,
            pause: breaker.open_for,
            is_probing: false,
            tried: None,
            has_others: false,
        });
        Some(breaker.open_for)
    }

    /// A call that was let through has come to no end.
    pub(crate) fn abandon(&mut self, pass: Pass) {
        if let (Pass::Probe, Some(outage)) = (pass, &mut self.outage) {
            outage.is_probing = false;
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match &self.outage {
            None => BreakerState::Closed,
            Some(outage) if outage.is_probing => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    pub(crate) fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }
}

impl Outage {
    /// How long until the next one may look.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    /// A circuit at which somebody calls.
    struct Calls {
        breaker: Breaker,
        circuit: Circuit,
    }

    impl Calls {
        fn new(breaker: Breaker) -> Self {
            Self { breaker, circuit: Circuit::default() }
        }

        fn end(&mut self, pass: Pass, sign: Sign, second: u64) -> Option<Duration> {
            self.circuit.end(&self.breaker, (pass, sign), (AT(second), Timestamp::UNIX_EPOCH))
        }

        /// A call that is over at once.
        fn call(&mut self, who: u64, sign: Sign, second: u64) -> Option<Duration> {
            let pass = self.circuit.ask(Position(who), AT(second)).expect("it is let through");
            self.end(pass, sign, second)
        }

        fn wait(&mut self, who: u64, second: u64) -> Duration {
            self.circuit.ask(Position(who), AT(second)).expect_err("it waits")
        }
    }

    fn fails() -> Sign {
        Sign::Fails(Error::new(Code::HANDLER_FAILED, "connection refused"))
    }

    fn opened() -> Calls {
        let mut calls = Calls::new(Breaker::new("payments-api").opens_at(2, 4));
        assert_eq!(calls.call(1, fails(), 0), None);
        assert_eq!(calls.call(1, fails(), 0), Some(AT(5)), "the failure that opens it is no attempt");
        calls
    }

    #[test]
    fn it_opens_by_a_share_of_the_last_calls_and_forgets_old_ones() {
        let mut calls = Calls::new(Breaker::new("payments-api").opens_at(2, 3).window(AT(10)));
        // Every third fails: never two of three.
        for second in 0..3 {
            assert_eq!(calls.call(1, fails(), second), None);
            assert_eq!(calls.call(1, Sign::Works, second), None);
            assert_eq!(calls.call(1, Sign::Works, second), None);
        }
        assert_eq!(calls.call(1, fails(), 20), None);
        assert_eq!(calls.call(1, fails(), 31), None, "the one before is too long ago");
        assert_eq!(calls.call(1, Sign::Nothing, 31), None);
        assert!(calls.circuit.ended.len() <= 3);
        assert_eq!(calls.call(1, fails(), 32), Some(AT(5)));
    }

    #[test]
    fn one_at_a_time_looks_and_success_lets_everybody_go_on() {
        let mut calls = opened();
        assert_eq!(calls.wait(1, 1), AT(4));
        let probe = calls.circuit.ask(Position(1), AT(5)).expect("the time is over");
        assert_eq!((probe, calls.circuit.state()), (Pass::Probe, BreakerState::HalfOpen));
        assert_eq!((calls.wait(2, 5), calls.wait(3, 60)), (ASK_AGAIN, ASK_AGAIN));
        assert_eq!(calls.end(probe, Sign::Works, 61), None);
        assert_eq!(calls.circuit.state(), BreakerState::Closed);
        assert_eq!(calls.call(2, fails(), 61), None, "it begins to count anew");
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_the_start_of_the_outage_stays() {
        let mut calls = opened();
        let mut pauses = Vec::new();
        let mut second = 5;
        for _ in 0..5 {
            let pause = calls.call(1, fails(), second).expect("it stays open");
            pauses.push(pause.as_secs());
            second += pause.as_secs();
        }
        assert_eq!(pauses, [10, 20, 40, 60, 60]);
        assert_eq!(calls.circuit.outage().map(|outage| outage.since), Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn who_has_looked_in_vain_lets_others_go_first() {
        let mut calls = opened();
        assert_eq!(calls.call(1, fails(), 5), Some(AT(10)));
        // Alone it is the next one to look.
        assert_eq!(calls.call(1, fails(), 15), Some(AT(20)));
        assert_eq!(calls.wait(2, 16), AT(19));
        assert_eq!(calls.wait(1, 35), LET_OTHERS);
        assert_eq!(calls.circuit.ask(Position(2), AT(35)), Ok(Pass::Probe));
    }

    #[test]
    fn what_was_under_way_when_it_opened_neither_closes_it_nor_counts() {
        let mut calls = Calls::new(Breaker::new("payments-api").opens_at(1, 1));
        let before = [1, 2].map(|who| calls.circuit.ask(Position(who), AT(0)).expect("it is closed"));
        assert!(calls.call(3, fails(), 0).is_some());
        assert_eq!(calls.end(before[0], Sign::Works, 1), None);
        assert_eq!(calls.circuit.state(), BreakerState::Open);
        assert!(calls.end(before[1], fails(), 1).is_some(), "no attempt while it is open");
        assert_eq!(calls.call(3, Sign::Works, 5), None);
        assert_eq!(calls.end(before[1], fails(), 6), None, "it says nothing about now");
        assert_eq!(calls.circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn a_look_without_an_end_leaves_room_for_the_next() {
        let mut calls = opened();
        let probe = calls.circuit.ask(Position(1), AT(5)).expect("the time is over");
        calls.circuit.abandon(probe);
        assert_eq!(calls.circuit.state(), BreakerState::Open);
        assert_eq!(calls.call(2, Sign::Nothing, 5), None);
        assert_eq!(calls.circuit.state(), BreakerState::Open);
        assert_eq!(calls.circuit.ask(Position(3), AT(5)), Ok(Pass::Probe));
    }

    #[test]
    fn answers_and_panics_are_no_failures_of_the_dependency() {
        let failed = |code| Err::<(), _>(Failure::Failed(Error::new(code, "why")));
        assert!(matches!(Sign::of(&failed(Code::HANDLER_FAILED)), Sign::Fails(_)));
        assert!(matches!(Sign::of(&failed(Code::HANDLER_TIMED_OUT)), Sign::Fails(_)));
        assert!(matches!(Sign::of(&failed(Code::HANDLER_PANICKED)), Sign::Nothing));
        let rejected = |code| Err::<(), _>(Failure::Rejected(Error::new(code, "why")));
        assert!(matches!(Sign::of(&rejected(Code::REJECTED)), Sign::Works));
        assert!(matches!(Sign::of(&rejected(Code::INVALID_BODY)), Sign::Nothing));
        assert!(matches!(Sign::of(&Err::<(), _>(Failure::Later(AT(1)))), Sign::Nothing));
    }
}
