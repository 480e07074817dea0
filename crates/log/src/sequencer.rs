//! The sequencer: decides which commits are taken, and gives them their numbers.
//!
//! A pure step from a proposal and the present to a verdict: no clock, no disk, no threads. What it must know of the past
//! beyond the recent changes comes with the proposal, as hints that say how fresh they are. It believes a hint unless it
//! remembers something newer, and answers "look again" if it has forgotten what may be newer.
//!
//! Invariants: positions, commits, versions and offsets have no gaps; a refused proposal changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ensue_core::{Expected, Timestamp};

use crate::mark::{EventMarks, Mark, MarkMap};

/// What one commit asks for, with the marks and hints that its caller looked up.
pub(crate) struct Proposal {
    pub(crate) appends: Vec<AppendProposal>,
    pub(crate) records: Vec<RecordProposal>,
    pub(crate) condition: Option<ConditionProposal>,
    /// All hints are at least as fresh as this commit.
    pub(crate) as_of: u64,
    /// One for each event, in order.
    pub(crate) events: Arc<[EventMarks]>,
}

pub(crate) struct AppendProposal {
    pub(crate) stream: Mark,
    pub(crate) topic: Mark,
    pub(crate) partition: u32,
    pub(crate) expected: Expected,
    pub(crate) count: u64,
    /// Hint: the version of the stream.
    pub(crate) version: u64,
}

pub(crate) struct RecordProposal {
    pub(crate) record: Mark,
    pub(crate) expected: Option<u64>,
    /// What it will be after the commit; `None`: deleted.
    pub(crate) after: Option<Lapse>,
    /// Hint: what it is.
    pub(crate) before: RecordState,
}

/// When a record lapses; `None`: never.
pub(crate) type Lapse = Option<Timestamp>;

/// A record as far as revisions go: `None` if it does not exist.
pub(crate) type RecordState = Option<(u64, Lapse)>;

pub(crate) struct ConditionProposal {
    pub(crate) query: MarkedQuery,
    pub(crate) after: u64,
    /// Hint: the position of the last match; zero if there is none.
    pub(crate) last_match: u64,
}

/// A query over marks: alternatives of (any of these types, all of these tags).
pub(crate) struct MarkedQuery(pub(crate) Vec<(Vec<Mark>, Vec<Mark>)>);

impl MarkedQuery {
    fn matches(&self, event: &EventMarks) -> bool {
        let fits = |(types, tags): &(Vec<Mark>, Vec<Mark>)| {
            (types.is_empty() || types.contains(&event.event_type))
                && tags.iter().all(|tag| event.tags.contains(tag))
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }
}

/// The answer to a proposal.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Taken(Numbers),
    Refused(Refusal),
    LookAgain,
}

/// What a taken commit got.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    pub(crate) commit: u64,
    pub(crate) first_position: u64,
    /// For each append: first version and base offset.
    pub(crate) appends: Vec<(u64, u64)>,
}

/// Which part was refused, by its index, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Version { append: usize, actual: u64 },
    Condition { position: u64 },
    Revision { record: usize, actual: u64 },
}

/// Offsets of topic-partitions: how many records each holds.
pub(crate) type Offsets = HashMap<(Mark, u32), u64>;

pub(crate) struct Sequencer {
    commit: u64,
    position: u64,
    offsets: Offsets,
    recent: Recent,
}

impl Sequencer {
    /// Goes on after this commit and position. `memory` is how many commits it remembers at least.
    pub(crate) fn new(commit: u64, position: u64, offsets: Offsets, memory: usize) -> Self {
        Self { commit, position, offsets, recent: Recent::new(commit, memory) }
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Decides on one proposal at the time `now`.
    pub(crate) fn step(&mut self, proposal: &Proposal, now: Timestamp) -> Verdict {
        if proposal.as_of < self.recent.floor() {
            return Verdict::LookAgain;
        }
        let versions = match self.versions(proposal) {
            Ok(versions) => versions,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let refusal = self.refuse_condition(proposal).or_else(|| self.refuse_revision(proposal, now));
        match refusal {
            Some(refusal) => Verdict::Refused(refusal),
            None => Verdict::Taken(self.take(proposal, &versions)),
        }
    }

    /// The version of each append's stream just before it; a stream named twice sees its own first append.
    fn versions(&self, proposal: &Proposal) -> Result<Vec<u64>, Refusal> {
        let mut versions: Vec<u64> = Vec::with_capacity(proposal.appends.len());
        for (index, append) in proposal.appends.iter().enumerate() {
            let earlier = proposal.appends.iter().zip(&versions).rev();
            let own = earlier.clone().find(|(other, _)| other.stream == append.stream);
            let actual = match own {
                Some((other, version)) => version + other.count,
                None => self.recent.version(append.stream).unwrap_or(append.version),
            };
            if !append.expected.admits(ensue_core::Version(actual)) {
                return Err(Refusal::Version { append: index, actual });
            }
            versions.push(actual);
        }
        Ok(versions)
    }

    fn refuse_condition(&self, proposal: &Proposal) -> Option<Refusal> {
        let condition = proposal.condition.as_ref()?;
        let recent = self.recent.last_match(condition, proposal.as_of);
        let position = recent.unwrap_or(condition.last_match);
        (position > condition.after).then_some(Refusal::Condition { position })
    }

    fn refuse_revision(&self, proposal: &Proposal, now: Timestamp) -> Option<Refusal> {
        proposal.records.iter().enumerate().find_map(|(record, write)| {
            let expected = write.expected?;
            let state = self.recent.record(write.record).unwrap_or(write.before);
            let live = state.filter(|(_, lapse)| lapse.is_none_or(|at| at > now));
            let actual = live.map_or(0, |(revision, _)| revision);
            (actual != expected).then_some(Refusal::Revision { record, actual })
        })
    }

    fn take(&mut self, proposal: &Proposal, versions: &[u64]) -> Numbers {
        self.commit += 1;
        let first_position = self.position + 1;
        let mut appends = Vec::with_capacity(versions.len());
        for (append, version) in proposal.appends.iter().zip(versions) {
            let offset = self.offsets.entry((append.topic, append.partition)).or_default();
            appends.push((version + 1, *offset));
            *offset += append.count;
            self.position += append.count;
            self.recent.set_version(append.stream, version + append.count);
        }
        assert_eq!(
            self.position - (first_position - 1),
            proposal.events.len() as u64,
            "every event is counted"
        );
        for write in &proposal.records {
            let state = write.after.map(|lapse| (self.commit, lapse));
            self.recent.set_record(write.record, state);
        }
        let changes = proposal.appends.len() + proposal.records.len();
        self.recent.note(self.commit, first_position, &proposal.events, changes);
        Numbers { commit: self.commit, first_position, appends }
    }
}

/// So many events and changes of one commit are remembered like one commit more.
const COUNTED_TOGETHER: usize = 16;

/// What changed lately, in two halves: the older is forgotten when the younger is full.
struct Recent {
    young: Half,
    old: Half,
    memory: usize,
}

struct Half {
    /// Everything after this commit is remembered here or in a younger half.
    after: u64,
    /// See [`Recent::note`].
    commits: usize,
    versions: MarkMap<u64>,
    records: MarkMap<RecordState>,
    events: VecDeque<(u64, u64, Arc<[EventMarks]>)>,
}

impl Half {
    fn new(after: u64) -> Self {
        Self {
            after,
            commits: 0,
            versions: MarkMap::default(),
            records: MarkMap::default(),
            events: VecDeque::new(),
        }
    }
}

impl Recent {
    fn new(commit: u64, memory: usize) -> Self {
        Self { young: Half::new(commit), old: Half::new(commit), memory }
    }

    fn floor(&self) -> u64 {
        self.old.after
    }

    fn version(&self, stream: Mark) -> Option<u64> {
        self.young.versions.get(&stream).or_else(|| self.old.versions.get(&stream)).copied()
    }

    fn record(&self, record: Mark) -> Option<RecordState> {
        self.young.records.get(&record).or_else(|| self.old.records.get(&record)).copied()
    }

    /// The last match after this commit, if there is any: what came before it is the hint's to know.
    fn last_match(&self, condition: &ConditionProposal, as_of: u64) -> Option<u64> {
        let newest_first = self.young.events.iter().rev().chain(self.old.events.iter().rev());
        newest_first.take_while(|(commit, _, _)| *commit > as_of).find_map(|(_, first, events)| {
            let index = events.iter().rposition(|event| condition.query.matches(event))?;
            Some(first + index as u64)
        })
    }

    fn set_version(&mut self, stream: Mark, version: u64) {
        self.young.versions.insert(stream, version);
    }

    fn set_record(&mut self, record: Mark, state: RecordState) {
        self.young.records.insert(record, state);
    }

    /// A commit of many events or changes counts as several, so that memory is bounded whatever commits are made of.
    fn note(&mut self, commit: u64, first_position: u64, events: &Arc<[EventMarks]>, changes: usize) {
        if !events.is_empty() {
            self.young.events.push_back((commit, first_position, Arc::clone(events)));
        }
        self.young.commits += 1 + (events.len() + changes) / COUNTED_TOGETHER;
        if self.young.commits >= self.memory {
            self.old = std::mem::replace(&mut self.young, Half::new(commit));
        }
    }
}

#[cfg(test)]
mod tests {
    use ensue_core::Space;

    use super::*;
    use crate::mark::Marker;

    fn writes(marker: &Marker, number: u64, count: u64) -> Proposal {
        let space = Space::new("view").expect("a space");
        let record = |index: u64| RecordProposal {
            record: marker.record(&space, &[number.to_be_bytes(), index.to_be_bytes()].concat()),
            expected: None,
            after: Some(None),
            before: None,
        };
        Proposal {
            appends: Vec::new(),
            records: (0..count).map(record).collect(),
            condition: None,
            as_of: number,
            events: Arc::new([]),
        }
    }

    /// The most records that are remembered at any time.
    fn remembered(records: u64) -> usize {
        let marker = Marker::new([3; 16]);
        let mut sequencer = Sequencer::new(0, 0, Offsets::new(), 1_000);
        let steps = (0..2_000).map(|number| {
            let taken = sequencer.step(&writes(&marker, number, records), Timestamp::UNIX_EPOCH);
            assert!(matches!(taken, Verdict::Taken(_)), "{taken:?}");
            sequencer.recent.young.records.len() + sequencer.recent.old.records.len()
        });
        steps.max().unwrap_or_default()
    }

    #[test]
    fn large_commits_take_no_more_memory_than_small_ones() {
        let (small, large) = (remembered(16), remembered(512));
        assert!(
            small >= 15_000 && large <= 3 * small,
            "{small} records of small commits, {large} of large ones"
        );
    }
}
