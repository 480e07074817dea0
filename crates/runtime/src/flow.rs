//! Flows: everything with one correlation id, folded from the log, the checkpoints, the dead letters and the heads of
//! sagas. Never from sampled traces: what is stored is what is shown, so a flow is complete by construction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ensue_core::{
    Code, Error, EventId, EventType, Position, Query, Read, Recorded, Store, StoreExt, StreamName, Timestamp,
};
use futures_util::TryStreamExt;
use serde::Serialize;
use smol_str::SmolStr;

use crate::catalogue::{Catalogue, HandlerKind};
use crate::saga::SagaHead;
use crate::timer::{Action, Timer};

mod expected;
pub(crate) mod follow;
mod index;
mod lint;
mod map;
mod nodes;
mod progress;
mod stage;
mod stats;
mod status;
mod stuck;
mod words;

pub use index::Completeness;
pub use lint::{Finding, Rule};
pub use map::{FlowMap, Link, Step};
pub use stats::{EdgeStats, FlowStats, KindStats, Percentiles, VariantStats};
pub use stuck::StuckFlow;

use index::{Figures, Index};
use nodes::reason_in;
use progress::Progress;
use status::{Alarm, Evidence, Verdict};

/// Reads the flows of a store, with or without the application running: as they stand at one moment.
pub struct Flows {
    store: Arc<dyn Store>,
    now: Timestamp,
    catalogue: Catalogue,
    progress: Progress,
    figures: BTreeMap<SmolStr, Figures>,
    /// The next timer of each flow that has one.
    timers: HashMap<EventId, Alarm>,
}

/// How a flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowStatus {
    /// A delivery is in hand or about to be.
    Running,
    /// Nothing is in hand; it waits for an event, an answer or a timer.
    Waiting,
    /// It goes on, but has taken longer than its kind may, or than is usual.
    Late,
    /// It does not go on by itself: an answer never came, nobody consumes what happened, something is parked or has
    /// stopped, or a person has to decide.
    Stuck,
    /// It has ended in a declared failure.
    Failed,
    /// It is being undone.
    Compensating,
    /// It is complete.
    Done,
}

impl FlowStatus {
    /// Whether nothing more is expected.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Done)
    }

    /// In one word, as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Late => "late",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Compensating => "compensating",
            Self::Done => "done",
        }
    }
}

/// A flow in one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowSummary {
    /// The id of the event that began it.
    pub flow: EventId,
    /// The business key of the event that began it.
    pub key: String,
    /// The declared kind, or the type of the event that began it.
    pub kind: String,
    /// How it stands.
    pub status: FlowStatus,
    /// What it waits for, or why it failed or is stuck, in words.
    pub reason: Option<String>,
    /// The error code of a failure, where there is one.
    pub code: Option<String>,
    /// The types of what it waits for, where they are known.
    pub waits_for: Option<String>,
    /// The service that it waits for, where it is known.
    pub from: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When something last happened.
    pub last_at: Timestamp,
    /// How many events and commands it holds.
    pub events: usize,
}

/// A flow in full.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowView {
    /// In one line.
    #[serde(flatten)]
    pub summary: FlowSummary,
    /// What happened, in order of position.
    pub nodes: Vec<FlowNode>,
    /// What is still to be done.
    pub open: Vec<OpenWork>,
    /// The sagas of the flow.
    pub sagas: Vec<SagaHead>,
}

/// One event or command of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowNode {
    /// Its place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Its type.
    pub event_type: EventType,
    /// Its id.
    pub id: EventId,
    /// The id of what caused it.
    pub cause: Option<EventId>,
    /// How far it is from the root: 0 for the event that began the flow.
    pub depth: usize,
    /// The service that caused it.
    pub service: String,
    /// Microseconds since the flow began.
    pub after_us: i64,
    /// What it says about why, where its data has a `reason`.
    pub reason: Option<String>,
}

/// A delivery that is not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OpenWork {
    /// The event that waits to be handled.
    pub position: Position,
    /// Its type.
    pub event_type: EventType,
    /// The handler that has it before it.
    pub handler: String,
    /// The handler's service.
    pub service: String,
    /// Why it is not done.
    pub state: OpenState,
    /// Since when it is set aside or its lane has stopped.
    pub since: Option<Timestamp>,
    /// The error code, where there is one.
    pub code: Option<String>,
    /// In words, where there is something to say.
    pub reason: Option<String>,
}

/// Why a delivery is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenState {
    /// Its turn has not come, or it is being worked on.
    Ahead,
    /// It waits for a time, or behind one of its key that does.
    Deferred,
    /// It is parked as a dead letter.
    Parked,
    /// Its lane has stopped.
    Halted,
}

impl Flows {
    /// Reads the declared topology, how far every handler is, and what usual flows take.
    pub async fn open(store: Arc<dyn Store>, now: Timestamp) -> Result<Self, Error> {
        let catalogue = Catalogue::merged(&*store).await?;
        let progress = Progress::load(&*store, &catalogue).await?;
        let figures = Index::load_figures(&*store, &catalogue).await?.kinds;
        let mut timers = HashMap::new();
        // The turn of a redrive moves nothing on: the letter says how the flow stands.
        let moves_on = |timer: &Timer| !matches!(timer.action, Action::Redrive(_));
        for timer in crate::timer::held(&*store, moves_on).await? {
            let appends = match timer.action {
                Action::Append { event, .. } => Some(event.event_type),
                Action::Wake | Action::Deliver { .. } | Action::Redrive(_) | Action::Tick => None,
            };
            // The list is by due time: the first of a flow is its next.
            timers.entry(timer.flow).or_insert(Alarm { due: timer.due, appends });
        }
        Ok(Self { store, now, catalogue, progress, figures, timers })
    }

    /// The newest flows, newest first, at most `limit`, of one status or of any. Those that are over are found by reading
    /// flow by flow from the end of the log, the others by the index.
    pub async fn list(&self, only: Option<FlowStatus>, limit: usize) -> Result<Vec<FlowSummary>, Error> {
        match only.filter(|status| !status.is_over()) {
            Some(status) => self.list_open(status, limit).await,
            None => self.list_any(only, limit).await,
        }
    }

    async fn list_open(&self, status: FlowStatus, limit: usize) -> Result<Vec<FlowSummary>, Error> {
        let index = self.index().await?;
        let mut flows: Vec<(Timestamp, &EventId)> =
            index.open.iter().map(|(id, flow)| (flow.started_at, id)).collect();
        flows.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = Vec::new();
        for (_, id) in flows {
            if found.len() >= limit {
                break;
            }
            found.extend(Some(self.view(id).await?.summary).filter(|flow| flow.status == status));
        }
        Ok(found)
    }

    async fn list_any(&self, only: Option<FlowStatus>, limit: usize) -> Result<Vec<FlowSummary>, Error> {
        let starts = self.start_types()?;
        let read = if starts.is_empty() { Read::all() } else { Read::query(Query::types(starts)) };
        let mut roots = self.store.read(read.backward());
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(root) = roots.try_next().await?
        {
            let is_inner = root.stream.topic.is_reserved() && !crate::schedule::is_tick(&root);
            if root.envelope.correlation.is_some() || is_inner {
                continue;
            }
            let view = self.view(&root.envelope.id).await?;
            if only.is_none_or(|only| view.summary.status == only) {
                found.push(view.summary);
            }
        }
        Ok(found)
    }

    /// One flow, by the id of any of its events or by the business key of the event that began it.
    pub async fn show(&self, key_or_id: &str) -> Result<FlowView, Error> {
        if let Some(flow) = self.find_by_key(key_or_id).await? {
            return self.view(&flow).await;
        }
        let flow = EventId::new(key_or_id)?;
        if self.store.collect(Read::flow(flow.clone()).limit(1)).await?.is_empty() {
            return Err(Error::new(Code::NOT_FOUND, format!("no flow has the key or id `{key_or_id}`"))
                .with_fix("`ensue flow ls` lists the newest flows"));
        }
        self.view(&flow).await
    }

    /// The newest flow that an event of this key began.
    async fn find_by_key(&self, key: &str) -> Result<Option<EventId>, Error> {
        for event_type in self.start_types()? {
            let Some(entry) = self.catalogue.events.get(event_type.as_str()) else { continue };
            let Ok(stream) = StreamName::new(&entry.topic, key) else { continue };
            let mut events = self.store.read(Read::stream(stream).backward());
            while let Some(recorded) = events.try_next().await? {
                if recorded.envelope.event_type == event_type {
                    return Ok(Some(recorded.envelope.flow().clone()));
                }
            }
        }
        Ok(None)
    }

    /// Declared starts, or whatever nothing in the catalogue causes.
    fn start_types(&self) -> Result<Vec<EventType>, Error> {
        let declared: Vec<&String> = self.catalogue.flows.iter().flat_map(|flow| &flow.starts).collect();
        if !declared.is_empty() {
            return declared.into_iter().map(EventType::new).collect();
        }
        let events = self.catalogue.events.keys();
        events.filter(|event| self.catalogue.producers(event).next().is_none()).map(EventType::new).collect()
    }

    async fn view(&self, flow: &EventId) -> Result<FlowView, Error> {
        let events = self.store.collect(Read::flow(flow.clone())).await?;
        let Some(root) = events.first() else {
            return Err(Error::new(Code::NOT_FOUND, format!("no flow has the id `{flow}`")));
        };
        let sagas = self.sagas(&events).await?;
        let open = self.open_work(&events);
        let verdict = self.judge(flow, &events, &open, &sagas);
        let summary = self.summary(flow, root, &events, verdict);
        Ok(FlowView { summary, nodes: nodes::of(&self.catalogue, &events), open, sagas })
    }

    fn judge(&self, flow: &EventId, events: &[Recorded], open: &[OpenWork], sagas: &[SagaHead]) -> Verdict {
        status::judge(&Evidence {
            catalogue: &self.catalogue,
            figures: &self.figures,
            events,
            open,
            sagas,
            progress: &self.progress,
            timer: self.timers.get(flow),
            now: self.now,
        })
    }

    fn summary(&self, flow: &EventId, root: &Recorded, events: &[Recorded], verdict: Verdict) -> FlowSummary {
        FlowSummary {
            flow: flow.clone(),
            key: root.stream.key.to_string(),
            kind: self.kind(root),
            status: verdict.status,
            reason: verdict.reason,
            code: verdict.code,
            waits_for: verdict.waits_for,
            from: verdict.from,
            started_at: root.recorded_at,
            last_at: events.last().map_or(root.recorded_at, |last| last.recorded_at),
            events: events.len(),
        }
    }

    fn kind(&self, root: &Recorded) -> String {
        let event_type = root.envelope.event_type.as_str();
        let declared = self.catalogue.flow_started_by(event_type);
        declared.map_or_else(|| event_type.to_owned(), |flow| flow.name.clone())
    }

    async fn sagas(&self, events: &[Recorded]) -> Result<Vec<SagaHead>, Error> {
        let mut streams: Vec<&StreamName> = events
            .iter()
            .map(|event| &event.stream)
            .filter(|stream| stream.topic.as_str().starts_with("saga."))
            .collect();
        streams.sort_unstable();
        streams.dedup();
        let mut heads = Vec::new();
        for stream in streams {
            let saga = stream.topic.as_str().trim_start_matches("saga.");
            heads.extend(crate::saga::head::get(&*self.store, saga, stream.key.as_str()).await?);
        }
        Ok(heads)
    }

    /// What no handler has settled yet.
    fn open_work(&self, events: &[Recorded]) -> Vec<OpenWork> {
        let of_event = |recorded| {
            let takers = self.catalogue.handlers.iter().filter(move |handler| takes(handler, recorded));
            takers.filter_map(move |handler| self.progress.open(handler, recorded))
        };
        events.iter().flat_map(of_event).collect()
    }
}

/// Whether an event is delivered to this handler.
fn takes(handler: &crate::catalogue::HandlerEntry, recorded: &Recorded) -> bool {
    let event_type = recorded.envelope.event_type.as_str();
    let topic = recorded.stream.topic.as_str();
    if handler.kind == HandlerKind::Saga && topic == handler.name {
        return crate::saga::is_waking(event_type);
    }
    handler.consumes.iter().any(|consumed| consumed == event_type)
}
