//! The store against plain lists, over random commits, reads, flushes and restarts; and writers that race.

use std::collections::BTreeMap;
use std::sync::Arc;

use ensue_core::{
    AppendCondition, Commit, CommitError, EventType, Expected, Position, Query, QueryItem, Read, RecordScan,
    RecordWrite, Recorded, Space, Store, StoreExt, Version,
};
use ensue_log::{Config, Log};

use crate::given::{append, block_on, commit, config, event, stream};

/// A generator that is the same everywhere.
struct Seed(u64);

impl Seed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    /// Stream and id, by position.
    events: Vec<(String, String, String)>,
    records: BTreeMap<String, String>,
    next: u64,
}

impl Model {
    fn version(&self, name: &str) -> u64 {
        self.events.iter().filter(|(stream, _, _)| stream == name).count() as u64
    }

    fn last_of_type(&self, event_type: &str) -> u64 {
        let index = self.events.iter().rposition(|(_, _, found)| found == event_type);
        index.map_or(0, |index| index as u64 + 1)
    }

    /// One random commit; returns it with whether it must be taken.
    fn propose(&mut self, seed: &mut Seed) -> (Commit, bool) {
        let mut commit = Commit::default();
        let mut is_right = true;
        for _ in 0..=seed.below(2) {
            let name = format!("{}/{}", ["A", "B"][usize::from(seed.below(2) == 0)], seed.below(6));
            if commit.appends.iter().any(|append: &ensue_core::Append| append.stream == stream(&name)) {
                continue;
            }
            let (expected, fits) = match (seed.below(4), self.version(&name)) {
                (0, version) => (Expected::Exact(Version(version)), true),
                (1, version) => (Expected::Exact(Version(version + 1)), false),
                (2, version) => (Expected::NoStream, version == 0),
                _ => (Expected::Any, true),
            };
            is_right &= fits;
            let ids: Vec<String> = (0..=seed.below(3)).map(|_| self.id()).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut one = append(&name, expected, &ids);
            for event in &mut one.events {
                event.event_type = EventType::new(format!("T{}", seed.below(3))).expect("a type");
            }
            commit.appends.push(one);
        }
        if seed.below(3) == 0 {
            let key = format!("k{}", seed.below(20));
            let space = Space::new("model").expect("a space");
            commit.records.push(match seed.below(3) {
                0 => RecordWrite::delete(space, key),
                _ => RecordWrite::put(space, key, format!("v{}", self.next)),
            });
        }
        if seed.below(5) == 0 {
            let after = self.events.len() as u64 - seed.below(3).min(self.events.len() as u64);
            let fail_if_match = Query::types([EventType::new("T1").expect("a type")]);
            is_right &= self.last_of_type("T1") <= after;
            commit.condition = Some(AppendCondition { fail_if_match, after: Position(after) });
        }
        (commit, is_right)
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("e{}", self.next)
    }

    fn take(&mut self, commit: &Commit) {
        for append in &commit.appends {
            for event in &append.events {
                let id = event.id.as_str().to_owned();
                self.events.push((append.stream.to_string(), id, event.event_type.as_str().to_owned()));
            }
        }
        for write in &commit.records {
            let key = String::from_utf8_lossy(&write.key).into_owned();
            match &write.change {
                ensue_core::Change::Put { value, .. } => {
                    self.records.insert(key, String::from_utf8_lossy(value).into_owned());
                }
                ensue_core::Change::Delete => drop(self.records.remove(&key)),
            }
        }
    }

    fn check(&self, log: &Log, seed: &mut Seed, case: &str) {
        let name = format!("A/{}", seed.below(6));
        let kind = format!("T{}", seed.below(3));
        let after = seed.below(self.events.len() as u64 + 1);
        let limit = 1 + usize::try_from(seed.below(40)).expect("small");
        let numbered = || (1u64..).zip(&self.events).filter(|(position, _)| *position > after);
        let of_stream = numbered().filter(|(_, event)| event.0 == name);
        let of_type = numbered().filter(|(_, event)| event.2 == kind);
        let both = numbered().filter(|(_, event)| event.2 == kind || event.1 == "e7");
        let tagged = QueryItem { types: Vec::new(), tags: event("e7", "x").tags };
        let types = Query::types([EventType::new(&kind).expect("a type")]);
        let reads = [
            (Read::all(), numbered().collect::<Vec<_>>()),
            (Read::stream(stream(&name)), of_stream.collect()),
            (Read::query(types.clone()), of_type.collect()),
            (Read::query(types.or(tagged)), both.collect()),
        ];
        for (read, mut expected) in reads {
            let found =
                block_on(log.collect(read.clone().after(Position(after)).limit(limit))).expect("readable");
            same(&found, expected.iter().take(limit), &format!("{case} {read:?} after {after}"));
            expected.reverse();
            let found = block_on(log.collect(read.clone().after(Position(after)).limit(limit).backward()));
            same(
                &found.expect("readable"),
                expected.iter().take(limit),
                &format!("{case} {read:?} backward"),
            );
        }
        self.check_records(log, seed, case);
    }

    fn check_records(&self, log: &Log, seed: &mut Seed, case: &str) {
        let limit = 1 + usize::try_from(seed.below(5)).expect("small");
        let scan = RecordScan::all(Space::new("model").expect("a space")).limit(limit);
        let found = block_on(log.records(scan)).expect("readable").into_iter();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found: Vec<_> = found.map(|record| (text(&record.key), text(&record.value))).collect();
        let expected: Vec<_> = self.records.clone().into_iter().collect();
        assert_eq!(found, expected, "{case}");
    }
}

fn same<'a>(
    found: &[Recorded],
    expected: impl Iterator<Item = &'a (u64, &'a (String, String, String))>,
    case: &str,
) {
    let found: Vec<_> = found
        .iter()
        .map(|event| (event.position.0, event.stream.to_string(), event.envelope.id.as_str().to_owned()))
        .collect();
    let expected: Vec<_> =
        expected.map(|(position, event)| (*position, event.0.clone(), event.1.clone())).collect();
    assert_eq!(found, expected, "{case}");
}

#[test]
fn the_store_agrees_with_plain_lists() {
    for first in 1..=6u64 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut seed = Seed(first * 7_919);
        let mut model = Model::default();
        let config = || Config { window_bytes: 12 << 10, memory_commits: 8, ..config() };
        let mut log = Log::open(folder.path(), config()).expect("a new store");
        for step in 0..250 {
            let case = format!("seed {first}, step {step}");
            let (commit, is_right) = model.propose(&mut seed);
            let result = block_on(log.commit(commit.clone()));
            assert_eq!(result.is_ok(), is_right, "{case}: {commit:?} gave {result:?}");
            if is_right {
                model.take(&commit);
            }
            if seed.below(10) == 0 {
                model.check(&log, &mut seed, &case);
            }
            if seed.below(60) == 0 {
                drop(log);
                log = Log::open(folder.path(), config()).expect("it opens again");
            }
        }
        model.check(&log, &mut seed, "at the end");
        log.close().expect("a clean end");
        drop(log);
        let report = ensue_log::verify(folder.path()).expect("a store");
        assert_eq!((report.findings.len(), report.events), (0, model.events.len() as u64), "{report:?}");
    }
}

#[test]
fn of_racing_writers_exactly_one_wins_and_no_gap_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Arc::new(Log::open(folder.path(), config()).expect("a new store"));
    let rounds = 40u64;
    let race = |writer: u64| {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut wins = 0;
            for round in 0..rounds {
                loop {
                    let name = format!("w{writer}-{round}");
                    let one = commit("Order/1", Expected::Exact(Version(round)), &[&name]);
                    match block_on(log.commit(one)) {
                        Ok(_) => wins += 1,
                        Err(CommitError::Conflict { actual, .. }) if actual.0 < round => continue,
                        Err(CommitError::Conflict { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    break;
                }
            }
            wins
        })
    };
    let threads: Vec<_> = (0..4).map(race).collect();
    let wins: u64 = threads.into_iter().map(|thread| thread.join().expect("no writer panics")).sum();
    assert_eq!(wins, rounds);
    let all = block_on(log.collect(Read::stream(stream("Order/1")))).expect("readable");
    assert!(all.iter().zip(1..).all(|(event, number)| event.version == Version(number)), "{all:?}");
    assert_eq!(all.len() as u64, rounds);
}
