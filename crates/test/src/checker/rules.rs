//! The rules, one function each. A function appends a sentence for everything that breaks its rule.

use std::collections::{BTreeMap, BTreeSet};

use ensue_core::{Appended, CommitError, Expected, Position, Recorded, StreamName, Version};

use super::deed::{Deed, Places, Refusal, deeds, names, places};
use super::{Answer, Call, Summary, Violations};

/// All rules over all calls.
pub(super) fn check(calls: &[Call], log: &[Recorded]) -> Result<Summary, Violations> {
    let places = places(log);
    let (mut deeds, mut broken) = deeds(calls);
    for deed in &mut deeds {
        broken.extend(deed.locate(&places).err());
    }
    gapless(log, &mut broken);
    once_and_known(&places, &deeds, &mut broken);
    answers_hold(&deeds, &mut broken);
    expectations_hold(&deeds, &mut broken);
    conditions_hold(&deeds, log, &mut broken);
    real_time_holds(&deeds, &mut broken);
    refusals_are_justified(&deeds, &mut broken);
    if broken.is_empty() { Ok(summary(calls, &deeds, log)) } else { Err(Violations(broken)) }
}

fn gapless(log: &[Recorded], broken: &mut Vec<String>) {
    let mut versions: BTreeMap<&StreamName, Version> = BTreeMap::new();
    let mut last: Option<&Recorded> = None;
    for event in log {
        let due = last.map_or(Position(1), |last| last.position.next());
        if event.position != due {
            broken.push(format!("position {} where {due} was due", event.position));
        }
        if last.is_some_and(|last| last.recorded_at > event.recorded_at) {
            broken.push(format!("the time of record goes back at position {}", event.position));
        }
        let version = versions.entry(&event.stream).or_default();
        if event.version != version.next() {
            broken.push(format!("{} has version {} after {version}", event.stream, event.version));
        }
        *version = event.version;
        last = Some(event);
    }
}

fn once_and_known(places: &Places<'_>, deeds: &[Deed<'_>], broken: &mut Vec<String>) {
    let sent: BTreeSet<_> = deeds.iter().flat_map(|deed| names(deed.commit)).collect();
    for (name, events) in places {
        if events.len() > 1 {
            let positions: Vec<u64> = events.iter().map(|event| event.position.0).collect();
            broken.push(format!("event {} stands {} times, at {positions:?}", name.1, events.len()));
        }
        if !sent.contains(name) {
            broken.push(format!("event {} is in the log, but nobody sent it", name.1));
        }
    }
}

fn answers_hold(deeds: &[Deed<'_>], broken: &mut Vec<String>) {
    for deed in deeds {
        match &deed.stored {
            None if !deed.answers.is_empty() => {
                broken.push(format!("commit {} was acknowledged, but it is lost", deed.name()));
            }
            Some(_) if deed.answers.is_empty() && !deed.is_unknown => {
                broken.push(format!("commit {} was refused, but it is stored", deed.name()));
            }
            Some(stored) => {
                for answer in deed.answers.iter().filter(|answer| answer.appended != *stored) {
                    let (name, stands, told) = (deed.name(), shown(stored), shown(&answer.appended));
                    broken.push(format!("commit {name} stands at {stands}, but the answer was {told}"));
                }
            }
            None => {}
        }
        if deed.answers.iter().filter(|answer| !answer.repeated).count() > 1 {
            broken.push(format!("commit {} was twice acknowledged as new", deed.name()));
        }
    }
}

fn shown(appended: &[Appended]) -> String {
    let places = appended.iter().map(|a| {
        format!(
            "{} to {} (versions {} to {})",
            a.first_position, a.last_position, a.first_version, a.last_version
        )
    });
    places.collect::<Vec<_>>().join(", ")
}

fn expectations_hold(deeds: &[Deed<'_>], broken: &mut Vec<String>) {
    for deed in deeds {
        let appends = deed.commit.appends.iter().zip(deed.stored.iter().flatten());
        for (append, stored) in appends {
            let found = stored.first_version.previous();
            if !append.expected.admits(found) {
                let (stream, expected) = (&append.stream, append.expected);
                broken.push(format!(
                    "commit {} expected {expected} of {stream}, but was taken at version {found}",
                    deed.name()
                ));
            }
        }
    }
}

fn conditions_hold(deeds: &[Deed<'_>], log: &[Recorded], broken: &mut Vec<String>) {
    for deed in deeds {
        let (Some(condition), Some(stored)) = (&deed.commit.condition, &deed.stored) else { continue };
        let begin = stored.first().map(|appended| appended.first_position).unwrap_or_default();
        // Positions are gapless (or the first rule says otherwise), so they are places in the list.
        let skipped = usize::try_from(condition.after.0).unwrap_or(usize::MAX);
        let between = log.iter().skip(skipped).take_while(|event| event.position < begin);
        for event in between.filter(|event| condition.fail_if_match.matches(&event.envelope)) {
            broken.push(format!(
                "commit {} was taken, but its condition fails at position {}",
                deed.name(),
                event.position
            ));
        }
    }
}

/// What began after something was acknowledged stands behind it.
fn real_time_holds(deeds: &[Deed<'_>], broken: &mut Vec<String>) {
    let mut acknowledged: Vec<(u64, Position)> = deeds
        .iter()
        .filter_map(|deed| Some((deed.acknowledged?, deed.stored.as_ref()?.last()?.last_position)))
        .collect();
    let before = Highest::new(&mut acknowledged);
    for deed in deeds {
        let Some(first) = deed.stored.as_ref().and_then(|stored| stored.first()) else { continue };
        let earlier = before.until(deed.invoked);
        if first.first_position <= earlier {
            broken.push(format!(
                "commit {} stands at {}, but began after {earlier} was acknowledged",
                deed.name(),
                first.first_position
            ));
        }
    }
}

/// A refusal names a version that the stream can have had while the call was under way.
fn refusals_are_justified(deeds: &[Deed<'_>], broken: &mut Vec<String>) {
    let streams = versions_by_stream(deeds);
    let nothing = Stream::default();
    for deed in deeds {
        for refusal in &deed.refusals {
            let CommitError::Conflict { stream, expected, actual } = refusal.error else { continue };
            let known = streams.get(stream).unwrap_or(&nothing);
            let is_possible = staged_before(deed, stream, *expected).into_iter().any(|staged| {
                actual.0.checked_sub(staged).is_some_and(|version| known.had(Version(version), refusal))
            });
            if expected.admits(*actual) || !is_possible {
                broken.push(format!(
                    "commit {} was refused for version {actual} of {stream}, which was not so during the call",
                    deed.name()
                ));
            }
        }
    }
}

/// How many events of the same commit each append to this stream with this expectation sees before itself.
fn staged_before(deed: &Deed<'_>, stream: &StreamName, expected: Expected) -> Vec<u64> {
    let mut staged = 0;
    let mut seen = Vec::new();
    for append in deed.commit.appends.iter().filter(|append| append.stream == *stream) {
        if append.expected == expected {
            seen.push(staged);
        }
        staged += append.events.len() as u64;
    }
    seen
}

/// When a stream can have had which version.
#[derive(Default)]
struct Stream {
    /// Versions at which a commit ends; the stream is never seen between them.
    ends: BTreeSet<Version>,
    /// The latest version that was acknowledged by a moment.
    acknowledged: Highest<Version>,
    /// The latest version whose commit had been sent by a moment.
    sent: Highest<Version>,
}

impl Stream {
    fn had(&self, version: Version, during: &Refusal<'_>) -> bool {
        let is_end = version == Version::ZERO || self.ends.contains(&version);
        is_end
            && version >= self.acknowledged.until(during.invoked)
            && version <= self.sent.until(during.answered)
    }
}

fn versions_by_stream<'a>(deeds: &'a [Deed<'a>]) -> BTreeMap<&'a StreamName, Stream> {
    let mut moments: BTreeMap<&StreamName, Vec<(&Deed<'_>, Version)>> = BTreeMap::new();
    for deed in deeds {
        // A commit may name a stream twice; others see it only as the last of these leaves it.
        let ends: BTreeMap<&StreamName, Version> = deed
            .commit
            .appends
            .iter()
            .zip(deed.stored.iter().flatten())
            .map(|(append, stored)| (&append.stream, stored.last_version))
            .collect();
        for (stream, end) in ends {
            moments.entry(stream).or_default().push((deed, end));
        }
    }
    let stream = |ends: Vec<(&Deed<'_>, Version)>| {
        let mut acknowledged: Vec<_> =
            ends.iter().filter_map(|(deed, end)| Some((deed.acknowledged?, *end))).collect();
        let mut sent: Vec<_> = ends.iter().map(|(deed, end)| (deed.invoked, *end)).collect();
        Stream {
            ends: ends.into_iter().map(|(_, end)| end).collect(),
            acknowledged: Highest::new(&mut acknowledged),
            sent: Highest::new(&mut sent),
        }
    };
    moments.into_iter().map(|(name, ends)| (name, stream(ends))).collect()
}

/// The highest value known by a moment.
#[derive(Default)]
struct Highest<T>(Vec<(u64, T)>);

impl<T: Copy + Default + Ord> Highest<T> {
    fn new(values: &mut [(u64, T)]) -> Self {
        values.sort_unstable();
        let mut highest = T::default();
        let rising = values.iter().map(|(moment, value)| {
            highest = highest.max(*value);
            (*moment, highest)
        });
        Self(rising.collect())
    }

    fn until(&self, moment: u64) -> T {
        let known = self.0.partition_point(|(earlier, _)| *earlier < moment);
        known.checked_sub(1).and_then(|last| self.0.get(last)).map(|(_, value)| *value).unwrap_or_default()
    }
}

fn summary(calls: &[Call], deeds: &[Deed<'_>], log: &[Recorded]) -> Summary {
    let mut summary = Summary { events: log.len(), ..Summary::default() };
    for call in calls {
        match &call.answer {
            Answer::Acknowledged { committed, .. } => {
                summary.acknowledged += 1;
                summary.repeated += usize::from(committed.repeated);
            }
            Answer::Refused { .. } => summary.refused += 1,
            Answer::Unknown => summary.unknown += 1,
        }
    }
    let untold = deeds.iter().filter(|deed| deed.stored.is_some() && deed.answers.is_empty());
    summary.unknown_but_stored = untold.count();
    summary
}
