//! The suite bites: stores that are wrong in one way each, and the case that must find it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    BoxFuture, BoxStream, Change, Code, Commit, CommitError, Committed, Durability, Error, Expected, Key,
    Position, Query, Read, RecordPage, RecordScan, RecordWrite, Recorded, Revision, Select, Store,
    StoreCapabilities, Version,
};
use ensue_test::conformance::store::run_case;
use ensue_test::memory::CAPABILITIES;
use ensue_test::{MemoryStore, host};
use futures_util::{FutureExt, StreamExt};

/// One way of being wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    TakesStaleVersions,
    ForgetsExists,
    SplitsCommits,
    TakesHollowAppends,
    RefusesRepeats,
    RepeatsByCount,
    ForgetsConditions,
    ReadsQueriesByTypeAlone,
    ConditionsCountFromTheStart,
    IgnoresLimits,
    UntilIsExclusive,
    ReversesAfterTheLimit,
    FlowsLackTheirFirst,
    VersionsFromIsExclusive,
    ReadsLag,
    ForgetsRevisions,
    ShowsOneRevision,
    KeepsLapsedRecords,
    ScansPastTheEnd,
    PromisesAnotherPage,
    WritesRecordsFirst,
    JoinsSpaces,
    TakesWhatIsTooLarge,
    LosesTraces,
    KeepsTextOnly,
    AnnouncesTooEarly,
    WakesAtTheSameHead,
    RefusesEmptyCommits,
    LosesBufferedCommits,
    CountsFromZero,
    ConditionsMeetTheirOwn,
    ConditionsMatchAnything,
    ReadsWithoutEnd,
    FoldsCase,
    DropsOddKeys,
    KeepsTheLastOfTwice,
    ShortensNames,
}

use Defect::{
    AnnouncesTooEarly, ConditionsCountFromTheStart, ConditionsMatchAnything, ConditionsMeetTheirOwn,
    CountsFromZero, DropsOddKeys, FlowsLackTheirFirst, FoldsCase, ForgetsConditions, ForgetsExists,
    ForgetsRevisions, IgnoresLimits, JoinsSpaces, KeepsLapsedRecords, KeepsTextOnly, KeepsTheLastOfTwice,
    LosesBufferedCommits, LosesTraces, PromisesAnotherPage, ReadsLag, ReadsQueriesByTypeAlone,
    ReadsWithoutEnd, RefusesEmptyCommits, RefusesRepeats, RepeatsByCount, ReversesAfterTheLimit,
    ScansPastTheEnd, ShortensNames, ShowsOneRevision, SplitsCommits, TakesHollowAppends, TakesStaleVersions,
    TakesWhatIsTooLarge, UntilIsExclusive, VersionsFromIsExclusive, WakesAtTheSameHead, WritesRecordsFirst,
};

/// Which case must find which defect, each by itself.
const FINDS: &[(Defect, &[&str])] = &[
    (
        TakesStaleVersions,
        &[
            "stale_version_is_refused_and_leaves_nothing",
            "each_expectation_admits_what_it_says",
            "a_stream_named_twice_sees_itself",
            "a_part_of_the_same_ids_is_a_conflict",
            "an_abandoned_commit_is_resolved_by_repeating_it",
            "of_racing_writers_exactly_one_wins",
            "random_commits_agree_with_the_model",
        ],
    ),
    (ForgetsExists, &["each_expectation_admits_what_it_says", "random_commits_agree_with_the_model"]),
    (
        SplitsCommits,
        &[
            "one_conflict_among_streams_leaves_nothing",
            "nobody_sees_half_a_commit",
            "records_and_events_are_one",
        ],
    ),
    (TakesHollowAppends, &["an_append_without_events_is_refused"]),
    (
        RefusesRepeats,
        &[
            "the_same_ids_again_are_the_old_positions",
            "a_repeat_is_known_after_the_stream_has_moved_on",
            "a_repeat_over_several_streams_is_known_as_a_whole",
            "a_repeat_does_not_write_its_records_again",
            "a_repeat_is_known_under_a_condition",
        ],
    ),
    (RepeatsByCount, &["a_part_of_the_same_ids_is_a_conflict"]),
    (
        ForgetsConditions,
        &[
            "an_empty_result_still_enforces",
            "of_racing_deciders_exactly_one_wins",
            "the_last_match_is_named",
            "random_commits_with_conditions_agree_with_the_model",
        ],
    ),
    (ConditionsCountFromTheStart, &["events_up_to_the_position_do_not_count"]),
    (
        ReadsQueriesByTypeAlone,
        &["types_and_tags_select_together", "every_selection_bound_limit_and_direction"],
    ),
    (IgnoresLimits, &["every_selection_bound_limit_and_direction"]),
    (UntilIsExclusive, &["every_selection_bound_limit_and_direction"]),
    (ReversesAfterTheLimit, &["every_selection_bound_limit_and_direction"]),
    (FlowsLackTheirFirst, &["a_flow_is_its_first_event_and_all_that_names_it"]),
    (VersionsFromIsExclusive, &["versions_bound_a_stream"]),
    (ReadsLag, &["a_wait_names_only_what_can_be_read", "a_tailing_reader_sees_no_gap_no_skip_no_reorder"]),
    (
        ForgetsRevisions,
        &["a_revision_must_match", "zero_means_it_must_not_exist", "racing_record_writers_lose_no_update"],
    ),
    (ShowsOneRevision, &["a_revision_must_match"]),
    (KeepsLapsedRecords, &["a_lapsed_record_counts_as_absent"]),
    (ScansPastTheEnd, &["a_prefix_and_a_range_bound_a_scan"]),
    (PromisesAnotherPage, &["a_scan_is_ordered_and_paged"]),
    (WritesRecordsFirst, &["stale_version_is_refused_and_leaves_nothing", "records_and_events_are_one"]),
    (JoinsSpaces, &["spaces_are_apart"]),
    (
        TakesWhatIsTooLarge,
        &[
            "an_event_too_large_is_refused_and_delays_nobody",
            "a_commit_too_large_is_refused",
            "a_record_too_large_is_refused",
        ],
    ),
    (LosesTraces, &["everything_survives"]),
    (KeepsTextOnly, &["any_bytes_survive"]),
    (AnnouncesTooEarly, &["a_wait_names_only_what_can_be_read", "everyone_who_waits_wakes"]),
    (WakesAtTheSameHead, &["everyone_who_waits_wakes"]),
    (RefusesEmptyCommits, &["an_empty_commit_changes_nothing"]),
    (LosesBufferedCommits, &["a_buffered_commit_is_taken_and_read"]),
    (CountsFromZero, &["positions_and_versions_are_consecutive", "racing_writers_leave_no_gap"]),
    (ConditionsMeetTheirOwn, &["a_commit_does_not_meet_its_own_events"]),
    (ConditionsMatchAnything, &["unrelated_events_do_not_conflict"]),
    (ReadsWithoutEnd, &["a_read_ends_where_it_began"]),
    (FoldsCase, &["what_is_absent_reads_as_nothing"]),
    (DropsOddKeys, &["a_record_key_has_its_bounds"]),
    (KeepsTheLastOfTwice, &["a_record_written_twice_is_refused"]),
    (ShortensNames, &["the_longest_names_survive"]),
];

#[test]
fn every_defect_is_found_by_each_case_that_is_meant_to_find_it() {
    for (defect, cases) in FINDS {
        for case in *cases {
            let verdict =
                catch_unwind(AssertUnwindSafe(|| run_case(case, || async { Defective::store(*defect) })));
            assert!(verdict.is_err(), "{case} does not notice a store that is wrong: {defect:?}");
        }
    }
}

/// The store in memory, made wrong.
struct Defective {
    store: MemoryStore,
    defect: Defect,
}

impl Defective {
    fn store(defect: Defect) -> Arc<dyn Store> {
        let (host, _) = host(1);
        let store = match defect {
            TakesWhatIsTooLarge => MemoryStore::with_capabilities(
                host,
                StoreCapabilities {
                    event_bytes_max: usize::MAX,
                    commit_bytes_max: usize::MAX,
                    record_bytes_max: usize::MAX,
                    ..CAPABILITIES
                },
            ),
            _ => MemoryStore::new(host),
        };
        Arc::new(Self { store, defect })
    }

    async fn take(&self, commit: Commit) -> Result<Committed, CommitError> {
        match self.defect {
            SplitsCommits => self.split(commit).await,
            WritesRecordsFirst => {
                let records =
                    commit.records.iter().cloned().map(|write| RecordWrite { expected: None, ..write });
                self.store.commit(Commit { records: records.collect(), ..Commit::default() }).await?;
                self.store.commit(commit).await
            }
            RefusesRepeats => match (self.store.commit(commit.clone()).await, commit.appends.first()) {
                (Ok(committed), Some(append)) if committed.repeated => Err(CommitError::Conflict {
                    stream: append.stream.clone(),
                    expected: append.expected,
                    actual: Version(1),
                }),
                (outcome, _) => outcome,
            },
            RepeatsByCount => match self.store.commit(commit).await {
                Err(CommitError::Conflict { .. }) => Ok(Committed { repeated: true, ..Committed::default() }),
                outcome => outcome,
            },
            RefusesEmptyCommits if commit == Commit::default() => {
                Err(Error::new(Code::INVALID_COMMIT, "nothing to do").into())
            }
            LosesBufferedCommits if commit.durability == Durability::Buffered => Ok(Committed::default()),
            CountsFromZero => self.store.commit(commit).await.map(counted_from_zero),
            ConditionsMeetTheirOwn if meets_its_own(&commit) => {
                Err(CommitError::ConditionFailed { position: Position(1) })
            }
            defect => self.store.commit(bent(defect, commit)).await,
        }
    }

    /// One commit for each part.
    async fn split(&self, commit: Commit) -> Result<Committed, CommitError> {
        let mut committed = Committed::default();
        for append in commit.appends {
            let part =
                Commit { appends: vec![append], condition: commit.condition.clone(), ..Commit::default() };
            committed.appended.extend(self.store.commit(part).await?.appended);
            tokio::task::yield_now().await;
        }
        let rest = Commit { records: commit.records, ..Commit::default() };
        committed.revision = self.store.commit(rest).await?.revision;
        Ok(committed)
    }
}

fn counted_from_zero(mut committed: Committed) -> Committed {
    for appended in &mut committed.appended {
        appended.first_position = appended.first_position.previous();
        appended.last_position = appended.last_position.previous();
    }
    committed
}

fn meets_its_own(commit: &Commit) -> bool {
    let mut events = commit.appends.iter().flat_map(|append| &append.events);
    commit.condition.as_ref().is_some_and(|own| events.any(|event| own.fail_if_match.matches(event)))
}

/// The commit as a store with this defect understands it.
fn bent(defect: Defect, mut commit: Commit) -> Commit {
    for append in &mut commit.appends {
        if defect == ShortensNames {
            let short: String = append.stream.key.as_str().chars().take(255).collect();
            append.stream.key = Key::new(short).expect("shorter is still valid");
        }
        match (defect, append.expected) {
            (TakesStaleVersions, Expected::Exact(_) | Expected::NoStream)
            | (ForgetsExists, Expected::Exists) => {
                append.expected = Expected::Any;
            }
            _ => {}
        }
        for event in &mut append.events {
            match defect {
                LosesTraces => event.trace = None,
                KeepsTextOnly => event.data = String::from_utf8_lossy(&event.data).into_owned().into(),
                _ => {}
            }
        }
    }
    match (defect, &mut commit.condition) {
        (TakesHollowAppends, _) => commit.appends.retain(|append| !append.events.is_empty()),
        (ForgetsConditions, condition) => *condition = None,
        (ConditionsCountFromTheStart, Some(condition)) => condition.after = Position::ZERO,
        (ConditionsMatchAnything, Some(condition)) => condition.fail_if_match = Query::all(),
        (DropsOddKeys, _) => commit.records.retain(|write| (1..=1_024).contains(&write.key.len())),
        (KeepsTheLastOfTwice, _) => {
            let last: BTreeMap<_, _> = commit
                .records
                .drain(..)
                .map(|write| ((write.space.clone(), write.key.clone()), write))
                .collect();
            commit.records = last.into_values().collect();
        }
        _ => {}
    }
    for write in &mut commit.records {
        match (defect, &mut write.change) {
            (ForgetsRevisions, _) => write.expected = None,
            (JoinsSpaces, _) => write.space = joined(),
            (KeepsLapsedRecords, Change::Put { expires_at, .. }) => *expires_at = None,
            _ => {}
        }
    }
    commit
}

fn joined() -> ensue_core::Space {
    ensue_core::Space::new("joined").expect("a valid space")
}

/// The read as a store with this defect understands it.
fn misread(defect: Defect, mut read: Read, head: Position) -> Read {
    match (defect, &mut read.select) {
        (ReadsQueriesByTypeAlone, Select::Query(Query { items })) => {
            for item in items {
                item.tags.clear();
            }
        }
        (IgnoresLimits, _) => read.limit = usize::MAX,
        (UntilIsExclusive, _) => read.until = read.until.previous(),
        (FoldsCase, Select::Stream { stream, .. }) => {
            stream.key = Key::new(stream.key.as_str().to_lowercase()).expect("still valid");
        }
        (VersionsFromIsExclusive, Select::Stream { from, .. }) => *from = from.next(),
        (ReadsLag, _) => read.until = read.until.min(head.previous()),
        _ => {}
    }
    read
}

impl Store for Defective {
    fn capabilities(&self) -> &StoreCapabilities {
        const { &CAPABILITIES }
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.take(commit).boxed()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        let head = self
            .store
            .advanced(Position::ZERO)
            .now_or_never()
            .map_or(Position::ZERO, Result::unwrap_or_default);
        let read = misread(self.defect, read, head);
        if self.defect == ReversesAfterTheLimit && read.direction == ensue_core::Direction::Backward {
            let oldest = Read { direction: ensue_core::Direction::Forward, ..read };
            let collected = self.store.read(oldest).collect::<Vec<_>>();
            return collected
                .map(|events| futures_util::stream::iter(events.into_iter().rev()))
                .flatten_stream()
                .boxed();
        }
        if self.defect == ReadsWithoutEnd && read.limit > 1 {
            let (first, rest) = (read.clone().limit(1), read.after(Position(1)));
            let later = futures_util::stream::once(async move { self.store.read(rest) }).flatten();
            return self.store.read(first).chain(later).boxed();
        }
        let is_flow = matches!(read.select, Select::Flow(_));
        let lacks_first = self.defect == FlowsLackTheirFirst && is_flow;
        let is_shown = move |event: &Result<Recorded, Error>| {
            !lacks_first || event.as_ref().is_ok_and(|event| event.envelope.correlation.is_some())
        };
        self.store.read(read).filter(move |event| std::future::ready(is_shown(event))).boxed()
    }

    fn scan(&self, mut scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        match self.defect {
            ScansPastTheEnd => scan.until = None,
            JoinsSpaces => scan.space = joined(),
            _ => {}
        }
        let defect = self.defect;
        let bend = move |mut page: RecordPage| {
            match defect {
                ShowsOneRevision => page.records.iter_mut().for_each(|record| record.revision = Revision(7)),
                PromisesAnotherPage => {
                    let last = page.records.last().map(|record| [&record.key[..], b"\0"].concat());
                    page.next = last.map(Bytes::from);
                }
                _ => {}
            }
            page
        };
        self.store.scan(scan).map(move |page| page.map(bend)).boxed()
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        match self.defect {
            AnnouncesTooEarly => std::future::ready(Ok(after.next())).boxed(),
            WakesAtTheSameHead => self.store.advanced(after.previous()).boxed(),
            _ => self.store.advanced(after),
        }
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.store.dropped(after, until)
    }
}
