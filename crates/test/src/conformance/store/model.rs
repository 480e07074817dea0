//! Random commits, given to the store and to the model: they must agree on every outcome and on all that is stored.

use ensue_core::{
    Commit, CommitError, Committed, Error, Expected, Position, Query, Read, Record, RecordScan, RecordWrite,
    Recorded, Revision, Store, StoreExt, Timestamp, Version,
};

use super::Subject;
use super::words::{Dress, Extend, event, events, id, item, nothing, query, space, stream};
use crate::{MemoryStore, SeededEntropy, host};

const COMMITS: u64 = 400;
const STREAMS: [&str; 3] = ["a", "b", "c"];
const TYPES: [&str; 2] = ["Placed", "Paid"];
const TAGS: [&str; 3] = ["order:1", "order:2", "customer:1"];
const KEYS: [&str; 3] = ["k", "k1", "l"];
const SPACES: [&str; 2] = ["model", "model.b"];

pub(super) async fn random_commits_agree_with_the_model(store: Subject) {
    walk(&*store, 1, Conditions::Never).await;
}

pub(super) async fn random_commits_with_conditions_agree_with_the_model(store: Subject) {
    walk(&*store, 2, Conditions::Often).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Conditions {
    Never,
    Often,
}

/// Gives both stores the same commits. The seed decides everything, so a failure repeats.
async fn walk(store: &dyn Store, seed: u64, conditions: Conditions) {
    let model = MemoryStore::new(host(seed).0);
    let dice = Dice(SeededEntropy::new(seed));
    let mut past: Vec<(Commit, Commit)> = Vec::new();
    for number in 0..COMMITS {
        let (for_store, for_model) = match dice.pick(&past).filter(|_| dice.one_in(8)) {
            Some(earlier) => earlier.clone(),
            None => draw(&dice, number, conditions, store, &model).await,
        };
        let told = store.commit(for_store.clone()).await;
        let expected = model.commit(for_model.clone()).await;
        assert_same_outcome(number, &for_store, &told, &expected);
        past.push((for_store, for_model));
        if number % 20 == 0 {
            assert_same_reads(&dice, store, &model).await;
        }
    }
    assert_same_records(store, &model).await;
    let taken = events(&model, Read::all()).await.len();
    assert!(taken > 100, "the walk was too tame: only {taken} events were taken");
}

/// Seeded choices.
struct Dice(SeededEntropy);

impl Dice {
    fn one_in(&self, sides: u64) -> bool {
        self.0.below(sides) == 0
    }

    fn below(&self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        let place = usize::try_from(self.0.below(from.len() as u64)).ok()?;
        from.get(place)
    }

    fn word(&self, from: &[&'static str]) -> &'static str {
        self.pick(from).copied().unwrap_or_default()
    }
}

/// A commit for each store: the same but for the revisions, which each store counts in its own way.
async fn draw(
    dice: &Dice,
    number: u64,
    conditions: Conditions,
    store: &dyn Store,
    model: &MemoryStore,
) -> (Commit, Commit) {
    let mut commit = nothing();
    for append in 0..dice.below(3) {
        // Now and then a stream of its own, or every stream would soon exist.
        let own = format!("s{number}");
        let key = if dice.one_in(5) { own.as_str() } else { dice.word(&STREAMS) };
        let expected = draw_expected(dice, key, model).await;
        let drawn = (0..=dice.below(2)).map(|index| draw_event(dice, &format!("{number}-{append}-{index}")));
        commit = commit.and(key, expected, drawn.collect::<Vec<_>>());
    }
    if conditions == Conditions::Often && dice.one_in(2) {
        let head = model.head().await.expect("the model can be read");
        commit = commit.unless(draw_query(dice), Position(head.0.saturating_sub(dice.below(12))));
    }
    let mut for_store = commit.clone();
    let mut for_model = commit;
    if dice.one_in(2) {
        let (name, key, choice) = (dice.word(&SPACES), dice.word(&KEYS), dice.below(5));
        let write = draw_write(dice, name, key, number);
        for_store = for_store.writing(expecting(write.clone(), choice, store).await);
        for_model = for_model.writing(expecting(write, choice, model).await);
    }
    (for_store, for_model)
}

async fn draw_expected(dice: &Dice, key: &str, model: &MemoryStore) -> Expected {
    let last = events(model, Read::stream(stream(key)).backward().limit(1)).await;
    let version = last.first().map(|event| event.version).unwrap_or_default();
    match dice.below(8) {
        0 => Expected::Exists,
        1 => Expected::NoStream,
        2 => Expected::Exact(version.previous()),
        3 | 4 => Expected::Any,
        _ => Expected::Exact(version),
    }
}

fn draw_event(dice: &Dice, id: &str) -> ensue_core::Envelope {
    let mut drawn = event(id).typed(dice.word(&TYPES));
    if dice.one_in(2) {
        drawn = drawn.tagged(dice.word(&TAGS));
    }
    if dice.one_in(3) {
        drawn = drawn.in_flow("flow");
    }
    drawn
}

fn draw_query(dice: &Dice) -> Query {
    match dice.below(4) {
        0 => query(&[dice.word(&TYPES)], &[]),
        1 => query(&[], &[dice.word(&TAGS)]),
        2 => query(&[dice.word(&TYPES)], &[dice.word(&TAGS)]),
        _ => query(&[dice.word(&TYPES)], &[dice.word(&TAGS)]).or(item(&[], &[dice.word(&TAGS)])),
    }
}

fn draw_write(dice: &Dice, name: &str, key: &'static str, number: u64) -> RecordWrite {
    if dice.one_in(4) {
        return RecordWrite::delete(space(name), key);
    }
    let write = RecordWrite::put(space(name), key, number.to_string());
    if dice.one_in(5) { write.expires_at(Timestamp::UNIX_EPOCH) } else { write }
}

/// The write with an expectation that holds, or does not, in this store.
async fn expecting(write: RecordWrite, choice: u64, store: &dyn Store) -> RecordWrite {
    let there = store.record(write.space.clone(), write.key.clone()).await.expect("a record can be read");
    let actual = there.map(|record| record.revision).unwrap_or_default();
    match choice {
        0 => write.expect(Revision::ZERO),
        1 => write.expect(Revision::MAX),
        2 | 3 => write.expect(actual),
        _ => write,
    }
}

fn assert_same_outcome(
    number: u64,
    commit: &Commit,
    told: &Result<Committed, CommitError>,
    expected: &Result<Committed, CommitError>,
) {
    let is_same = match (told, expected) {
        (Ok(told), Ok(expected)) => told.appended == expected.appended && told.repeated == expected.repeated,
        // Where a commit breaks several expectations, which of them is named is not part of the contract.
        (Err(told), Err(expected)) => kind(told) == kind(expected),
        _ => false,
    };
    assert!(is_same, "commit {number}: the store said {told:?}, the model {expected:?}, to\n{commit:#?}");
}

fn kind(error: &CommitError) -> ensue_core::Kind {
    Error::from(error.clone()).kind()
}

async fn assert_same_reads(dice: &Dice, store: &dyn Store, model: &MemoryStore) {
    let reads = [
        Read::all(),
        Read::stream(stream(dice.word(&STREAMS))).from_version(Version(dice.below(5))),
        Read::query(draw_query(dice)).limit(7),
        Read::flow(id("flow")),
    ];
    for read in reads {
        let bounded = read.after(Position(dice.below(6)));
        for read in [bounded.clone(), bounded.backward()] {
            let (told, expected) = (events(store, read.clone()).await, events(model, read.clone()).await);
            assert_eq!(places(&told), places(&expected), "{read:?}");
        }
    }
}

type Place<'a> = (u64, String, u64, &'a ensue_core::Envelope);

/// What two stores must agree on; the time of record is each store's own.
fn places(events: &[Recorded]) -> Vec<Place<'_>> {
    events.iter().map(|e| (e.position.0, e.stream.to_string(), e.version.0, &e.envelope)).collect()
}

async fn assert_same_records(store: &dyn Store, model: &MemoryStore) {
    for name in SPACES {
        let scan = RecordScan::all(space(name)).limit(2);
        let told = store.records(scan.clone()).await.expect("a scan works");
        let expected = model.records(scan).await.expect("a scan works");
        let values = |records: &[Record]| -> Vec<_> {
            records.iter().map(|record| (record.key.clone(), record.value.clone())).collect()
        };
        assert_eq!(values(&told), values(&expected), "{name}");
    }
}
