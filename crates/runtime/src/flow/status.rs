//! The verdict on a flow, from what happened, what is open, and how its sagas stand.

use ensue_core::Recorded;

use super::{FlowStatus, OpenState, OpenWork, reason_in};
use crate::catalogue::{Catalogue, FlowEntry, HandlerKind};
use crate::saga::{SagaHead, SagaStatus};

/// A status with its reason.
pub(super) struct Verdict {
    pub(super) status: FlowStatus,
    pub(super) reason: Option<String>,
    pub(super) code: Option<String>,
}

impl Verdict {
    fn plain(status: FlowStatus) -> Self {
        Self { status, reason: None, code: None }
    }

    fn because(status: FlowStatus, reason: String) -> Self {
        Self { status, reason: Some(reason), code: None }
    }
}

/// What the evidence says, the most urgent first.
pub(super) fn judge(
    catalogue: &Catalogue,
    events: &[Recorded],
    open: &[OpenWork],
    sagas: &[SagaHead],
) -> Verdict {
    let declared = declared(catalogue, events);
    let failure = declared.and_then(|flow| events.iter().find(|event| is_any(&flow.fails, event)));
    blocked(open)
        .or_else(|| needs_attention(sagas))
        .or_else(|| in_hand(catalogue, open, failure.is_some() || is_compensating(sagas)))
        .or_else(|| of_sagas(sagas))
        .or_else(|| failure.map(failed))
        .unwrap_or_else(|| at_rest(catalogue, declared, events))
}

fn declared<'a>(catalogue: &'a Catalogue, events: &[Recorded]) -> Option<&'a FlowEntry> {
    let root = events.first()?;
    catalogue.flows.iter().find(|flow| is_any(&flow.starts, root))
}

fn is_any(types: &[String], event: &Recorded) -> bool {
    types.iter().any(|event_type| event_type == event.envelope.event_type.as_str())
}

fn is_compensating(sagas: &[SagaHead]) -> bool {
    sagas.iter().any(|saga| saga.status == SagaStatus::Compensating)
}

/// Something is parked, or its lane has stopped: nobody goes on without a decision.
fn blocked(open: &[OpenWork]) -> Option<Verdict> {
    let work = open.iter().find(|work| work.state != OpenState::Ahead)?;
    let (code, why) = (work.code.clone().unwrap_or_default(), work.reason.clone().unwrap_or_default());
    let what = if work.state == OpenState::Parked { "has parked" } else { "has stopped at" };
    let reason = format!("{} {what} {} #{}: {code} {why}", work.handler, work.event_type, work.position);
    Some(Verdict { status: FlowStatus::Failed, reason: Some(reason), code: work.code.clone() })
}

fn needs_attention(sagas: &[SagaHead]) -> Option<Verdict> {
    let saga = sagas.iter().find(|saga| saga.status == SagaStatus::NeedsAttention)?;
    let why = saga.reason.clone().unwrap_or_default();
    let reason = format!("saga {} needs attention: {why}", saga.saga);
    Some(Verdict { status: FlowStatus::Failed, reason: Some(reason), code: saga.code.clone() })
}

/// A reaction, command or saga has something before it. Read models do not hold a flow up.
fn in_hand(catalogue: &Catalogue, open: &[OpenWork], is_undoing: bool) -> Option<Verdict> {
    let holds_up = |work: &&OpenWork| {
        catalogue.handler(&work.handler).is_some_and(|handler| handler.kind != HandlerKind::Projection)
    };
    let work = open.iter().find(holds_up)?;
    let status = if is_undoing { FlowStatus::Compensating } else { FlowStatus::Running };
    Some(Verdict::because(
        status,
        format!("{} has {} #{} before it", work.handler, work.event_type, work.position),
    ))
}

fn of_sagas(sagas: &[SagaHead]) -> Option<Verdict> {
    let with = |status: SagaStatus| sagas.iter().find(|saga| saga.status == status);
    if let Some(saga) = with(SagaStatus::Compensating) {
        let step = saga.step.clone().unwrap_or_default();
        return Some(Verdict::because(FlowStatus::Compensating, format!("saga {} is at {step}", saga.saga)));
    }
    if let Some(saga) = with(SagaStatus::Running) {
        return Some(Verdict::because(FlowStatus::Running, format!("saga {} runs a step", saga.saga)));
    }
    if let Some(saga) = with(SagaStatus::Waiting) {
        let waits_for = saga.waits_for.clone().unwrap_or_default();
        return Some(Verdict::because(
            FlowStatus::Waiting,
            format!("saga {} waits for {waits_for}", saga.saga),
        ));
    }
    let saga = with(SagaStatus::Compensated)?;
    Some(Verdict { status: FlowStatus::Failed, reason: saga.reason.clone(), code: saga.code.clone() })
}

fn failed(event: &Recorded) -> Verdict {
    let reason = reason_in(event).map_or_else(String::new, |reason| format!(": {reason}"));
    Verdict::because(FlowStatus::Failed, format!("{}{reason}", event.envelope.event_type))
}

/// Nothing is open and nothing failed: it is complete, or waits for what comes from elsewhere.
fn at_rest(catalogue: &Catalogue, declared: Option<&FlowEntry>, events: &[Recorded]) -> Verdict {
    let Some(flow) = declared else { return Verdict::plain(FlowStatus::Done) };
    if flow.ends.is_empty() || events.iter().any(|event| is_any(&flow.ends, event)) {
        return Verdict::plain(FlowStatus::Done);
    }
    let mut expected: Vec<String> = Vec::new();
    for event in events {
        for handler in catalogue.consumers(event.envelope.event_type.as_str()) {
            let missing = handler.causes.iter().filter(|caused| {
                !events.iter().any(|event| event.envelope.event_type.as_str() == caused.as_str())
            });
            expected.extend(missing.map(|caused| format!("{caused} from {}", handler.service)));
        }
    }
    expected.dedup();
    let what = if expected.is_empty() { flow.ends.join(" or ") } else { expected.join(" or ") };
    Verdict::because(FlowStatus::Waiting, format!("waits for {what}"))
}
