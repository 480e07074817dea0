//! The verdict on a flow, from what happened, what is in hand, what is parked, which timers are set, and how its sagas stand.
//!
//! The most urgent evidence decides. A healthy flow is never late or stuck; one that nobody can go on with always is.

use std::collections::BTreeMap;

use ensue_core::{EventType, Position, Recorded, Timestamp};
use smol_str::SmolStr;

use super::expected::{Expected, has_caused};
use super::index::Figures;
use super::progress::Progress;
use super::stage::Stage;
use super::words::{at, duration};
use super::{FlowStatus, OpenState, OpenWork, reason_in};
use crate::catalogue::{Catalogue, FlowEntry, HandlerEntry, HandlerKind};
use crate::dead::Discarded;
use crate::saga::{self, SagaHead, SagaStatus};

/// A delivery that takes so many times longer than 99 of 100 is late.
const LATE_FACTOR: u64 = 10;
/// But not before so much time has passed: a moment is no delay.
const LATE_AFTER_US_MIN: u64 = 10_000_000;
/// Deliveries that must be known before any is called late.
const KNOWN_MIN: u64 = 100;

/// A status with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) status: FlowStatus,
    pub(super) reason: Option<String>,
    pub(super) code: Option<String>,
    /// The types it waits for, where they are known.
    pub(super) waits_for: Option<String>,
    /// The service that it waits for.
    pub(super) from: Option<String>,
    /// When it stopped going on as it should, where it does not.
    pub(super) since: Option<Timestamp>,
    /// It is in order by itself, but will take longer than its kind may.
    pub(super) is_beyond: bool,
}

/// All that is known of one flow.
pub(super) struct Evidence<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) figures: &'a BTreeMap<SmolStr, Figures>,
    pub(super) events: &'a [Recorded],
    pub(super) open: &'a [OpenWork],
    pub(super) sagas: &'a [SagaHead],
    pub(super) progress: &'a Progress,
    /// The next of its timers.
    pub(super) timer: Option<&'a Alarm>,
    pub(super) now: Timestamp,
}

/// A timer of a flow.
pub(super) struct Alarm {
    /// When.
    pub(super) due: Timestamp,
    /// The type of the event that is appended then, if that is what the timer does.
    pub(super) appends: Option<EventType>,
}

impl Verdict {
    fn plain(status: FlowStatus) -> Self {
        Self { status, reason: None, code: None, waits_for: None, from: None, since: None, is_beyond: false }
    }

    fn because(status: FlowStatus, reason: String) -> Self {
        Self { reason: Some(reason), ..Self::plain(status) }
    }

    /// Nobody goes on with it by itself.
    fn stuck(since: Timestamp, reason: String) -> Self {
        Self { since: Some(since), ..Self::because(FlowStatus::Stuck, reason) }
    }

    fn waiting_for(self, waits_for: Option<String>, from: Option<&str>) -> Self {
        Self { waits_for, from: from.map(str::to_owned), ..self }
    }

    fn coded(self, code: Option<String>) -> Self {
        Self { code, ..self }
    }
}

/// What the evidence says.
pub(super) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let case = Case::new(evidence);
    let verdict = case
        .blocked()
        .or_else(|| case.undecided())
        .or_else(|| case.in_hand())
        .or_else(|| case.timed())
        .or_else(|| case.of_sagas())
        .or_else(|| case.ended())
        .unwrap_or_else(|| case.at_rest());
    case.overdue(verdict)
}

struct Case<'a> {
    evidence: &'a Evidence<'a>,
    declared: Option<&'a FlowEntry>,
    stage: Stage,
    expected: Expected<'a>,
}

impl<'a> Case<'a> {
    fn new(evidence: &'a Evidence<'a>) -> Self {
        let events = evidence.events;
        let types = || events.iter().map(|event| event.envelope.event_type.as_str());
        let declared = types().next().and_then(|root| evidence.catalogue.flow_started_by(root));
        let stage = types().fold(Stage::at_start(declared), |stage, event| stage.after(declared, event));
        Self { evidence, declared, stage, expected: Expected::new(evidence.catalogue, declared, stage) }
    }

    fn is_undoing(&self) -> bool {
        let is_compensating = |saga: &SagaHead| saga.status == SagaStatus::Compensating;
        self.stage == Stage::Undoing || self.evidence.sagas.iter().any(is_compensating)
    }

    fn is_moving(&self, work: &OpenWork) -> bool {
        let handler = self.evidence.catalogue.handler(&work.handler);
        handler.is_some_and(|handler| handler.kind != HandlerKind::Projection)
    }

    /// Since when nothing has happened but requests of operators.
    fn since(&self) -> Timestamp {
        let events = self.evidence.events.iter().rev();
        let mut moves = events.filter(|event| !super::nodes::is_operators(event));
        moves.next().map(|event| event.recorded_at).unwrap_or_default()
    }

    fn waits(waits_for: Option<&str>, from: &str, since: Timestamp) -> String {
        let what = waits_for.map_or_else(|| "waits for".to_owned(), |what| format!("waits for {what} from"));
        format!("{what} {from} since {}", at(since))
    }

    /// Whether it is a command of a saga that does not wait for its answer any more: nobody is held up by it.
    fn is_moot(&self, work: &OpenWork) -> bool {
        let events = self.evidence.events;
        let command = events.iter().find(|event| event.position == work.position);
        command.filter(|event| saga::is_command(event)).is_some_and(|command| {
            let head = self.evidence.sagas.iter().find(|head| saga::is_of(command, head));
            head.is_some_and(|head| saga::is_moot(command, head, events))
        })
    }

    /// Something is parked, or its lane has stopped: nobody goes on without a decision.
    fn blocked(&self) -> Option<Verdict> {
        let blocked = || {
            let is_blocked = |work: &&OpenWork| matches!(work.state, OpenState::Parked | OpenState::Halted);
            let open = self.evidence.open.iter().filter(is_blocked);
            open.filter(|work| self.is_moving(work) && !self.is_moot(work))
        };
        // What failed says more than what waits behind it.
        let behind = ensue_core::Code::KEY_PARKED.to_string();
        let work = blocked().find(|work| work.code.as_ref() != Some(&behind)).or_else(|| blocked().next())?;
        let handler = self.evidence.catalogue.handler(&work.handler)?;
        let waits_for = self.expected.of(handler);
        let verb = if work.state == OpenState::Parked { "has parked" } else { "has stopped at" };
        let (code, why) =
            (work.code.as_deref().unwrap_or_default(), work.reason.as_deref().unwrap_or_default());
        let (service, key) = (&work.service, self.key_of(work.position));
        let since = work.since.unwrap_or_else(|| self.since());
        let waits = Self::waits(waits_for.as_deref(), service, since);
        let reason = format!("{waits}; {service} {verb} {key}: {code} {why}");
        let verdict = Verdict::stuck(since, reason).coded(work.code.clone());
        Some(verdict.waiting_for(waits_for, Some(service)))
    }

    fn key_of(&self, position: Position) -> &str {
        let event = self.evidence.events.iter().find(|event| event.position == position);
        event.map(|event| event.stream.key.as_str()).unwrap_or_default()
    }

    /// A person has to decide: a saga says so, or an event that was declared to.
    fn undecided(&self) -> Option<Verdict> {
        let needs = |saga: &&SagaHead| saga.status == SagaStatus::NeedsAttention;
        if let Some(head) = self.evidence.sagas.iter().find(needs) {
            let why = head.reason.clone().unwrap_or_default();
            let code = head.code.clone().unwrap_or_default();
            // The head is as young as the last request; what asks for the decision is in the journal.
            let asked = self.evidence.events.iter().rev().find(|event| {
                saga::is_of(event, head) && saga::needs_decision(event.envelope.event_type.as_str())
            });
            let since = asked.map_or(head.since, |asked| asked.recorded_at);
            let reason = format!("saga {} needs a decision since {}: {code} {why}", head.saga, at(since));
            return Some(Verdict::stuck(since, reason).coded(head.code.clone()));
        }
        let declared = self.declared.filter(|_| self.stage == Stage::Attention)?;
        let event = self.evidence.events.iter().rev().find(|event| {
            declared.attention.iter().any(|known| known == event.envelope.event_type.as_str())
        })?;
        let service = super::nodes::service(self.evidence.catalogue, event);
        let why = reason_in(event).map_or_else(String::new, |why| format!(": {why}"));
        let reason = format!(
            "needs a decision since {}: {} from {service}{why}",
            at(event.recorded_at),
            event.envelope.event_type
        );
        Some(Verdict::stuck(event.recorded_at, reason))
    }

    /// A reaction, command or saga has something before it. Read models do not hold a flow up.
    fn in_hand(&self) -> Option<Verdict> {
        let is_ahead = |work: &&OpenWork| work.state == OpenState::Ahead && self.is_moving(work);
        let mut ahead = self.evidence.open.iter().filter(is_ahead);
        // A breaker says more than a turn that has not come.
        let work = ahead.clone().find(|work| work.reason.is_some()).or_else(|| ahead.next())?;
        let handler = self.evidence.catalogue.handler(&work.handler)?;
        let status = if self.is_undoing() { FlowStatus::Compensating } else { FlowStatus::Running };
        let reason = format!("{} has {} #{} before it", work.handler, work.event_type, work.position);
        let verdict =
            Verdict::because(status, reason).waiting_for(self.expected.of(handler), Some(&work.service));
        let verdict = verdict.coded(work.code.clone());
        let waits =
            work.reason.as_ref().map(|why| format!("{} of {} waits: {why}", work.handler, work.service));
        Some(match work.since.zip(waits).or_else(|| self.slow(work)) {
            Some((since, reason)) => {
                Verdict { status: FlowStatus::Late, since: Some(since), reason: Some(reason), ..verdict }
            }
            None => verdict,
        })
    }

    /// Since when, and in words why, a delivery takes longer than is usual.
    fn slow(&self, work: &OpenWork) -> Option<(Timestamp, String)> {
        let events = self.evidence.events;
        let kind = self.declared.map_or_else(
            || events.first().map(|root| root.envelope.event_type.as_str()).unwrap_or_default(),
            |declared| declared.name.as_str(),
        );
        let figures = self.evidence.figures.get(kind)?;
        let usual = figures.usual_micros(&work.event_type, &work.handler, KNOWN_MIN)?;
        let event = events.iter().find(|event| event.position == work.position)?;
        let waited = self.evidence.now.as_microsecond() - event.recorded_at.as_microsecond();
        let waited = u64::try_from(waited).unwrap_or_default();
        if waited <= usual.saturating_mul(LATE_FACTOR).max(LATE_AFTER_US_MIN) {
            return None;
        }
        let reason = format!(
            "{} of {} has had {} #{} before it since {}; 99 of 100 take {} at most",
            work.handler,
            work.service,
            work.event_type,
            work.position,
            at(event.recorded_at),
            duration(usual)
        );
        Some((event.recorded_at, reason))
    }

    /// It goes on when a timer goes off: its own, or that of a delivery which it waits behind.
    fn timed(&self) -> Option<Verdict> {
        let is_deferred = |work: &&OpenWork| work.state == OpenState::Deferred && self.is_moving(work);
        let work = self.evidence.open.iter().find(is_deferred);
        let status = if self.is_undoing() { FlowStatus::Compensating } else { FlowStatus::Waiting };
        let Some(Alarm { due, appends }) = self.evidence.timer else {
            let work = work?;
            let why = work.reason.as_deref().unwrap_or("deferred");
            let reason = format!("{} of {}: {why}", work.handler, work.service);
            return Some(Verdict::because(status, reason).waiting_for(None, Some(&work.service)));
        };
        let handler = work.and_then(|work| self.evidence.catalogue.handler(&work.handler));
        let what = appends.as_ref().map_or_else(|| "a timer".to_owned(), ToString::to_string);
        let who =
            handler.map_or_else(String::new, |handler| format!("{} of {} ", handler.name, handler.service));
        let verdict = self.until(status, format!("{who}waits for {what} until {}", at(*due)), *due);
        let waits_for = appends.as_ref().map(ToString::to_string);
        let service = handler.map(|handler| handler.service.as_str());
        Some(verdict.waiting_for(waits_for.or_else(|| self.expected.of(handler?)), service))
    }

    /// A wait with an end; beyond what the kind may take it is worth a look.
    fn until(&self, status: FlowStatus, reason: String, due: Timestamp) -> Verdict {
        let Some((declared, _)) = self.deadline().filter(|(_, deadline)| due > *deadline) else {
            return Verdict::because(status, reason);
        };
        let within = duration(declared.within_ms.unwrap_or_default().saturating_mul(1_000));
        let reason = format!("{reason}; {} may take {within}", declared.name);
        Verdict { is_beyond: true, since: Some(self.since()), ..Verdict::because(status, reason) }
    }

    fn deadline(&self) -> Option<(&'a FlowEntry, Timestamp)> {
        let (declared, root) = (self.declared?, self.evidence.events.first()?);
        Some((declared, declared.deadline(root.recorded_at)?))
    }

    fn of_sagas(&self) -> Option<Verdict> {
        let open = self.evidence.sagas.iter().find(|saga| !saga.status.is_over())?;
        let status = match open.status {
            SagaStatus::Compensating => FlowStatus::Compensating,
            SagaStatus::Running => FlowStatus::Running,
            _ => FlowStatus::Waiting,
        };
        let step = open.step.as_deref().unwrap_or_default();
        let what = open.waits_for.as_ref().map_or_else(
            || format!("saga {} is at {step}", open.saga),
            |waits_for| format!("saga {} waits for {waits_for}", open.saga),
        );
        if let Some(verdict) = self.unanswered(&open.saga) {
            return Some(verdict);
        }
        let verdict = match open.until {
            Some(due) => self.until(status, format!("{what} until {}", at(due)), due),
            None => Verdict::because(status, what),
        };
        Some(verdict.waiting_for(open.waits_for.clone(), None))
    }

    /// A command of the flow that was handled, or that nobody handles, and has no answer. A time limit of the step is a
    /// timer, and has been looked at before.
    fn unanswered(&self, saga: &str) -> Option<Verdict> {
        let events = self.evidence.events;
        let sent = events.iter().rev().find(|event| saga::is_command(event))?;
        let is_answer = |event: &&Recorded| {
            event.envelope.causation.as_ref() == Some(&sent.envelope.id)
                && event.stream.topic.as_str().starts_with("saga.")
        };
        if events.iter().any(|event| is_answer(&event)) {
            return None;
        }
        let command = sent.envelope.event_type.as_str();
        let waits_for = Some(format!("the answer to {command}"));
        let since = at(sent.recorded_at);
        let Some(handler) = self.evidence.catalogue.consumers(command).next() else {
            let reason =
                format!("saga {saga} waits for the answer to {command} since {since}; nobody handles it");
            return Some(Verdict::stuck(sent.recorded_at, reason).waiting_for(waits_for, None));
        };
        if has_caused(events, sent, &handler.name) {
            return None;
        }
        let is_given_up = self.evidence.progress.given_up(&handler.name, sent).is_some();
        // Whoever handles it may be at work: what it does is in another log.
        if handler.kind == HandlerKind::Relay && !is_given_up {
            return None;
        }
        let from = &handler.service;
        let (end, code) = self.end_of(handler, sent);
        let reason =
            format!("saga {saga} waits for the answer to {command} from {from} since {since}; {end}");
        Some(Verdict::stuck(sent.recorded_at, reason).coded(code).waiting_for(waits_for, Some(from)))
    }

    /// In words, how a handler came to an end with an event without an answer; with the code, where there is one.
    fn end_of(&self, handler: &HandlerEntry, event: &Recorded) -> (String, Option<String>) {
        let what = format!("{} #{}", event.envelope.event_type, event.position);
        let Some(letter) = self.evidence.progress.given_up(&handler.name, event) else {
            return (format!("{} has handled {what} and not answered", handler.service), None);
        };
        let Discarded { discarded_by, discarded_at, discard_reason, parked, .. } = letter;
        let words =
            format!("{what} was given up by {discarded_by} at {}: {discard_reason}", at(*discarded_at));
        (words, Some(parked.code.clone()))
    }

    /// It has ended, in one way or another.
    fn ended(&self) -> Option<Verdict> {
        let compensated = |saga: &&SagaHead| saga.status == SagaStatus::Compensated;
        if let Some(saga) = self.evidence.sagas.iter().find(compensated) {
            let verdict = Verdict { reason: saga.reason.clone(), ..Verdict::plain(FlowStatus::Failed) };
            return Some(verdict.coded(saga.code.clone()));
        }
        let terminated = |saga: &&SagaHead| saga.status == SagaStatus::Terminated;
        if let Some(saga) = self.evidence.sagas.iter().find(terminated) {
            let why = saga.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let reason = format!("saga {} was terminated by an operator{why}", saga.saga);
            return Some(Verdict::because(FlowStatus::Failed, reason));
        }
        match self.stage {
            Stage::Done => Some(Verdict::plain(FlowStatus::Done)),
            Stage::Failed => Some(self.failed()),
            Stage::Open | Stage::Undoing | Stage::Attention => None,
        }
    }

    fn failed(&self) -> Verdict {
        let fails = self.declared.map(|declared| declared.fails.as_slice()).unwrap_or_default();
        let is_failure =
            |event: &&Recorded| fails.iter().any(|known| known == event.envelope.event_type.as_str());
        let Some(event) = self.evidence.events.iter().find(is_failure) else {
            return Verdict::plain(FlowStatus::Failed);
        };
        let why = reason_in(event).map_or_else(String::new, |why| format!(": {why}"));
        Verdict::because(FlowStatus::Failed, format!("{}{why}", event.envelope.event_type))
    }

    /// Nothing is in hand, no timer is set, and none of its ends has come: it waits for the world outside, or in vain.
    fn at_rest(&self) -> Verdict {
        let (events, catalogue) = (self.evidence.events, self.evidence.catalogue);
        let since = at(self.since());
        let outside = self.declared.and_then(|declared| self.expected.awaited_from_outside(declared, events));
        if let Some(outside) = outside {
            let reason = format!("waits for {outside} from outside since {since}");
            return Verdict::because(FlowStatus::Waiting, reason).waiting_for(Some(outside.to_owned()), None);
        }
        if let Some(owed) = self.expected.owed(events) {
            let (waits_for, service) = (self.expected.of(owed.handler), &owed.handler.service);
            let (end, code) = self.end_of(owed.handler, owed.event);
            let since = owed.event.recorded_at;
            let reason = format!("{}; {end}", Self::waits(waits_for.as_deref(), service, since));
            return Verdict::stuck(since, reason).coded(code).waiting_for(waits_for, Some(service));
        }
        let reason = match self.expected.untaken(events) {
            Some(event) => format!(
                "nobody consumes {} #{} from {}, and nothing else is in hand since {since}",
                event.envelope.event_type,
                event.position,
                super::nodes::service(catalogue, event)
            ),
            None => format!("none of its ends has come, and nothing is in hand since {since}"),
        };
        Verdict::stuck(self.since(), reason)
    }

    /// What is not over and has taken longer than its kind may is late.
    fn overdue(&self, verdict: Verdict) -> Verdict {
        let is_open =
            matches!(verdict.status, FlowStatus::Running | FlowStatus::Waiting | FlowStatus::Compensating);
        let Some((declared, deadline)) = self.deadline().filter(|_| is_open) else { return verdict };
        if self.evidence.now <= deadline {
            return verdict;
        }
        let within = duration(declared.within_ms.unwrap_or_default().saturating_mul(1_000));
        let late = format!("late since {}: {} may take {within}", at(deadline), declared.name);
        let reason = verdict.reason.map_or(late.clone(), |reason| format!("{reason}; {late}"));
        Verdict { status: FlowStatus::Late, reason: Some(reason), since: Some(deadline), ..verdict }
    }
}
