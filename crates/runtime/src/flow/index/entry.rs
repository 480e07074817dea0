//! What the index keeps of a flow that is not over.

use ensue_core::{Envelope, EventId, EventType, Position, Recorded, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::catalogue::{Catalogue, FlowEntry, HandlerEntry, HandlerKind};
use crate::flow::nodes::is_operators;
use crate::flow::stage::Stage;
use crate::saga;

/// Events of one flow that are kept for telling causes and ways; later ones are only counted.
const NODES_MAX: usize = 128;
/// The prefix of entries in journals of sagas. The commands that stand between them are no entries.
pub(super) const JOURNAL: &str = "saga.";

/// A flow that is not over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenFlow {
    /// The business key of the event that began it.
    pub(crate) key: SmolStr,
    /// The declared kind, or the type of the event that began it.
    pub(crate) kind: SmolStr,
    pub(crate) started_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) last: Position,
    pub(crate) stage: Stage,
    /// Sagas of the flow that have begun and not ended.
    pub(crate) sagas: u32,
    /// A saga of the flow cannot go on without a decision.
    pub(crate) needs_decision: bool,
    /// All its events have the key of the first, so one lane of each handler has it.
    is_one_key: bool,
    /// It was over, or its beginning is not in the log: its end is not counted.
    pub(crate) is_late: bool,
    nodes: Vec<Node>,
    /// Events that are not among the nodes.
    more: u64,
    #[serde(skip)]
    pub(super) copy: Copied,
}

/// What the store has of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Copied {
    #[default]
    Nothing,
    Older,
    Same,
}

/// One event of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
struct Node {
    id: u64,
    position: Position,
    at_us: i64,
    event_type: EventType,
    /// How far from the beginning; an entry of a journal is as far as what it stands for.
    depth: u16,
    /// For an entry of a journal and what an operator did, the node that it stands for when something is caused by it.
    stands_for: Option<u16>,
}

/// A node as it is written down.
type Packed = (u64, u64, i64, EventType, u16, Option<u16>);

impl From<Node> for Packed {
    fn from(node: Node) -> Self {
        (node.id, node.position.0, node.at_us, node.event_type, node.depth, node.stands_for)
    }
}

impl From<Packed> for Node {
    fn from((id, position, at_us, event_type, depth, stands_for): Packed) -> Self {
        Self { id, position: Position(position), at_us, event_type, depth, stands_for }
    }
}

/// How an event hangs together with what came before.
pub(super) enum Link {
    /// Nothing caused it, or what did is no part of the log, or it is an entry of a journal.
    None,
    /// This type caused it, so many microseconds before.
    Caused(EventType, i64),
    /// It names a cause that is not in its flow.
    Lost,
}

impl OpenFlow {
    /// A flow that an event shows to exist.
    pub(super) fn begin(recorded: &Recorded, declared: Option<&FlowEntry>, is_late: bool) -> Self {
        let kind = declared.map_or(recorded.envelope.event_type.as_str(), |declared| &declared.name);
        Self {
            key: recorded.stream.key.as_str().into(),
            kind: kind.into(),
            started_at: recorded.recorded_at,
            last_at: recorded.recorded_at,
            last: Position::ZERO,
            stage: Stage::at_start(declared),
            sagas: 0,
            needs_decision: false,
            is_one_key: true,
            is_late,
            nodes: Vec::new(),
            more: 0,
            copy: Copied::Nothing,
        }
    }

    /// Takes one more event, and says how it hangs together.
    pub(super) fn take(&mut self, recorded: &Recorded, declared: Option<&FlowEntry>) -> Link {
        let event_type = &recorded.envelope.event_type;
        self.last = recorded.position;
        self.last_at = recorded.recorded_at;
        let is_operators = is_operators(recorded);
        self.is_one_key &= is_operators || recorded.stream.key.as_str() == self.key;
        self.stage = self.stage.after(declared, event_type.as_str());
        let is_journal = recorded.stream.topic.is_reserved() && event_type.as_str().starts_with(JOURNAL);
        if is_journal {
            self.follow_saga(event_type.as_str());
        }
        let is_aside = is_journal || is_operators;
        let cause = recorded.envelope.causation.as_ref().map(fingerprint);
        let above = cause.and_then(|cause| self.visible(cause));
        let link = match (above.and_then(|above| self.nodes.get(usize::from(above))), cause) {
            _ if is_aside => Link::None,
            (Some(node), _) => {
                Link::Caused(node.event_type.clone(), recorded.recorded_at.as_microsecond() - node.at_us)
            }
            (None, Some(cause)) if self.is_known_to_miss(cause, &recorded.envelope) => Link::Lost,
            (None, _) => Link::None,
        };
        self.push(recorded, above, is_aside);
        link
    }

    fn follow_saga(&mut self, entry: &str) {
        self.needs_decision = saga::needs_decision(entry);
        if saga::is_start(entry) {
            self.sagas += 1;
        } else if saga::is_end(entry) {
            self.sagas = self.sagas.saturating_sub(1);
        }
        // A flow that declares no end has failed when its saga has undone everything.
        let has_failed = saga::is_undone(entry) && self.stage == Stage::Done;
        // Where an operator has ended the saga, nobody waits for an end of the flow any more.
        if has_failed || saga::is_terminated(entry) {
            self.stage = Stage::Failed;
        }
    }

    /// The place of the event with this fingerprint, or of what it stands for.
    fn visible(&self, id: u64) -> Option<u16> {
        let place = self.nodes.iter().rposition(|node| node.id == id)?;
        let node = self.nodes.get(place)?;
        node.stands_for.or(u16::try_from(place).ok())
    }

    /// Whether all events of the flow are known and the cause is not one of them. A command that was answered at the door
    /// is the cause of the first events, and no event itself.
    fn is_known_to_miss(&self, cause: u64, envelope: &Envelope) -> bool {
        self.is_whole() && !self.is_late && cause != fingerprint(envelope.flow())
    }

    fn push(&mut self, recorded: &Recorded, above: Option<u16>, is_aside: bool) {
        if self.nodes.len() >= NODES_MAX {
            self.more += 1;
            return;
        }
        let depth = above.and_then(|above| self.nodes.get(usize::from(above))).map(|node| node.depth);
        self.nodes.push(Node {
            id: fingerprint(&recorded.envelope.id),
            position: recorded.position,
            at_us: recorded.recorded_at.as_microsecond(),
            event_type: recorded.envelope.event_type.clone(),
            depth: depth.map_or(0, |depth| depth + u16::from(!is_aside)),
            stands_for: if is_aside { Some(above.unwrap_or_default()) } else { None },
        });
    }

    /// Whether every event of it is among the nodes.
    pub(super) fn is_whole(&self) -> bool {
        self.more == 0
    }

    /// The types of its events, without those of journals: by distance from the beginning, then by name.
    pub(super) fn way(&self) -> Vec<EventType> {
        let mut way: Vec<(u16, &EventType)> = self
            .nodes
            .iter()
            .filter(|node| node.stands_for.is_none())
            .map(|node| (node.depth, &node.event_type))
            .collect();
        way.sort();
        way.into_iter().map(|(_, event_type)| event_type.clone()).collect()
    }

    /// Whether by its own events nothing more is expected.
    pub(crate) fn is_at_end(&self) -> bool {
        self.stage.is_end() && self.sagas == 0 && !self.needs_decision
    }

    /// Whether every handler is past everything of it. Cautious: where it cannot tell, it says no.
    pub(super) fn is_settled(&self, catalogue: &Catalogue, settlements: &Settlements) -> bool {
        if self.last <= settlements.floor {
            return true;
        }
        self.is_one_key
            && self.is_whole()
            && settlements.handlers.iter().all(|(name, lanes)| {
                let Some(handler) = catalogue.handler(name) else { return false };
                let mut taken = self.nodes.iter().rev().filter(|node| is_taken(handler, &node.event_type));
                let lane = usize::from(crate::spaces::spread(
                    &self.key,
                    u16::try_from(lanes.len()).unwrap_or(u16::MAX),
                ));
                let settled = lanes.get(lane).copied().unwrap_or_default();
                taken.next().is_none_or(|last| last.position <= settled)
            })
    }
}

/// Whether a handler may be given events of this type.
fn is_taken(handler: &HandlerEntry, event_type: &EventType) -> bool {
    let is_own = handler.kind == HandlerKind::Saga && saga::is_waking(event_type.as_str());
    is_own || handler.consumes.iter().any(|consumed| consumed == event_type.as_str())
}

/// How far the handlers are that can move a flow on, as the store has it. Read models hold no flow up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settlements {
    /// Everything up to here is settled by all of them.
    pub(crate) floor: Position,
    /// What each lane of each handler has settled.
    pub(crate) handlers: Vec<(String, Vec<Position>)>,
}

/// Tells ids of one flow apart in eight bytes. Never change it: stored entries hold it.
fn fingerprint(id: &EventId) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let words = id
        .as_str()
        .as_bytes()
        .chunks(8)
        .map(|chunk| chunk.iter().fold(0, |word: u64, byte| (word << 8) | u64::from(*byte)));
    words.fold(FACTOR, |hash, word| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR))
}
