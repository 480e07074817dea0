//! The contract of [`Store`], as cases that any store runs.
//!
//! As one test per case, in an integration test:
//!
//! ```
//! use std::sync::Arc;
//! use ensue_core::Store;
//! use ensue_test::MemoryStore;
//!
//! async fn fresh() -> Arc<dyn Store> {
//!     Arc::new(MemoryStore::new(ensue_test::host(1).0))
//! }
//!
//! mod contract {
//!     ensue_test::store_conformance!(super::fresh);
//! }
//! ```
//!
//! or all at once with [`run`]. A store that can be opened again, or whose data lives in a folder that must outlast
//! it, is handed over as a [`Subject`].
//!
//! Invariants: no case relies on the wall clock, on an order of two concurrent calls, or on anything but `ensue-core`
//! and, as the model, [`MemoryStore`](crate::MemoryStore).

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{BoxFuture, Error, Store, StoreCapabilities};

mod append;
mod condition;
mod envelope;
mod handle;
mod limit;
mod model;
mod race;
mod read;
mod record;
mod repeat;
mod wait;
mod words;

/// A case that has not ended by then hangs. Far above what any case takes, so that only a lost wake-up meets it.
const CASE_SECONDS_MAX: u64 = 120;

/// Calls the macro `$with` with the whole table of cases: `group::name needs NEED,` for each.
#[doc(hidden)]
#[macro_export]
macro_rules! store_conformance_cases {
    ($with:path $(, $($argument:tt)*)?) => {
        $with! {
            [$($($argument)*)?]
            append::stale_version_is_refused_and_leaves_nothing needs NOTHING,
            append::each_expectation_admits_what_it_says needs NOTHING,
            append::positions_and_versions_are_consecutive needs NOTHING,
            append::a_stream_named_twice_sees_itself needs NOTHING,
            append::one_conflict_among_streams_leaves_nothing needs NOTHING,
            append::an_empty_commit_changes_nothing needs NOTHING,
            append::an_append_without_events_is_refused needs NOTHING,
            append::a_buffered_commit_is_taken_and_read needs NOTHING,
            repeat::the_same_ids_again_are_the_old_positions needs NOTHING,
            repeat::a_repeat_is_known_after_the_stream_has_moved_on needs NOTHING,
            repeat::a_repeat_does_not_write_its_records_again needs NOTHING,
            repeat::a_repeat_over_several_streams_is_known_as_a_whole needs NOTHING,
            repeat::a_part_of_the_same_ids_is_a_conflict needs NOTHING,
            repeat::an_abandoned_commit_is_resolved_by_repeating_it needs NOTHING,
            condition::an_empty_result_still_enforces needs CONDITIONS,
            condition::unrelated_events_do_not_conflict needs CONDITIONS,
            condition::events_up_to_the_position_do_not_count needs CONDITIONS,
            condition::a_commit_does_not_meet_its_own_events needs CONDITIONS,
            condition::the_last_match_is_named needs CONDITIONS,
            condition::a_repeat_is_known_under_a_condition needs CONDITIONS,
            condition::of_racing_deciders_exactly_one_wins needs CONDITIONS,
            read::every_selection_bound_limit_and_direction needs NOTHING,
            read::types_and_tags_select_together needs NOTHING,
            read::a_flow_is_its_first_event_and_all_that_names_it needs NOTHING,
            read::versions_bound_a_stream needs NOTHING,
            read::what_is_absent_reads_as_nothing needs NOTHING,
            read::a_read_ends_where_it_began needs NOTHING,
            read::an_abandoned_read_disturbs_nobody needs NOTHING,
            record::a_revision_must_match needs NOTHING,
            record::zero_means_it_must_not_exist needs NOTHING,
            record::a_deleted_record_never_repeats_a_revision needs NOTHING,
            record::a_lapsed_record_counts_as_absent needs NOTHING,
            record::a_scan_is_ordered_and_paged needs NOTHING,
            record::a_prefix_and_a_range_bound_a_scan needs NOTHING,
            record::spaces_are_apart needs NOTHING,
            record::records_and_events_are_one needs NOTHING,
            record::a_record_written_twice_is_refused needs NOTHING,
            limit::an_event_too_large_is_refused_and_delays_nobody needs NOTHING,
            limit::a_hundred_megabytes_are_refused_and_delay_nobody needs NOTHING,
            limit::a_commit_too_large_is_refused needs NOTHING,
            limit::a_record_too_large_is_refused needs NOTHING,
            limit::a_record_key_has_its_bounds needs NOTHING,
            envelope::everything_survives needs NOTHING,
            envelope::any_bytes_survive needs NOTHING,
            envelope::the_longest_names_survive needs NOTHING,
            race::of_racing_writers_exactly_one_wins needs NOTHING,
            race::racing_writers_leave_no_gap needs NOTHING,
            race::a_tailing_reader_sees_no_gap_no_skip_no_reorder needs NOTHING,
            race::a_reader_that_catches_up_under_load_sees_the_same_log needs NOTHING,
            race::nobody_sees_half_a_commit needs NOTHING,
            race::racing_record_writers_lose_no_update needs NOTHING,
            wait::the_head_that_was_passed_is_told_at_once needs NOTHING,
            wait::everyone_who_waits_wakes needs NOTHING,
            wait::a_wait_names_only_what_can_be_read needs NOTHING,
            wait::a_refused_commit_and_an_abandoned_wait_are_silent needs NOTHING,
            handle::two_handles_see_each_other needs SHARING,
            handle::reopening_keeps_everything needs DURABILITY,
            model::random_commits_agree_with_the_model needs NOTHING,
            model::random_commits_with_conditions_agree_with_the_model needs CONDITIONS,
        }
    };
}

/// Makes one `#[test]` of each case. Takes the factory of a fresh store: an `async fn() -> Arc<dyn Store>`, or
/// `-> Subject` for a store that can be opened again. With `ignore = "needs a server"` behind it, for a store that not
/// every machine has, the tests run only where they are asked for.
#[macro_export]
macro_rules! store_conformance {
    ($factory:expr) => {
        $crate::store_conformance_cases!($crate::store_conformance_tests, $factory);
    };
    ($factory:expr, ignore = $reason:literal) => {
        $crate::store_conformance_cases!($crate::store_conformance_tests, $factory, ignore = $reason);
    };
}

/// The tests of [`store_conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! store_conformance_tests {
    ([$factory:expr] $($group:ident :: $name:ident needs $need:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::store::run_case(stringify!($name), $factory);
            }
        )*
    };
    ([$factory:expr, ignore = $reason:literal] $($group:ident :: $name:ident needs $need:ident,)*) => {
        $(
            #[test]
            #[ignore = $reason]
            fn $name() {
                $crate::conformance::store::run_case(stringify!($name), $factory);
            }
        )*
    };
}

macro_rules! table {
    ([] $($group:ident :: $name:ident needs $need:ident,)*) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[
            $(Case {
                name: stringify!($name),
                need: &Need::$need,
                run: |subject| Box::pin($group::$name(subject)),
            },)*
        ];
    };
}
store_conformance_cases!(table);

/// One clause of the contract.
pub struct Case {
    /// The claim, unique in the table.
    pub name: &'static str,
    need: &'static Need,
    run: fn(Subject) -> BoxFuture<'static, ()>,
}

/// What a case takes for granted, and what is to be seen where it is not declared.
struct Need {
    is_met: fn(&StoreCapabilities) -> bool,
    assert_refused: fn(Subject) -> BoxFuture<'static, ()>,
}

impl Need {
    const NOTHING: Self = Self { is_met: |_| true, assert_refused: |_| Box::pin(async {}) };
    const CONDITIONS: Self = Self {
        is_met: |capabilities| capabilities.can_condition,
        assert_refused: |subject| Box::pin(condition::refused(subject)),
    };
    const SHARING: Self = Self {
        is_met: |capabilities| capabilities.can_share,
        assert_refused: |subject| Box::pin(handle::sharing_refused(subject)),
    };
    const DURABILITY: Self = Self {
        is_met: |capabilities| capabilities.is_durable,
        assert_refused: |subject| Box::pin(handle::forgetting_is_whole(subject)),
    };
}

/// Opens the data of a store once more.
type Open = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Store>, Error>> + Send + Sync>;

/// A fresh, empty store, and what belongs to it. Reads as the store itself.
pub struct Subject {
    store: Arc<dyn Store>,
    open: Option<Open>,
    // Last, so that a folder is removed after the store that lives in it.
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A store that cannot be opened again.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, open: None, guard: None }
    }

    /// How the same data is opened again: after the store was dropped, and also while it is still open, where a store
    /// that is not shared must answer with an error.
    #[must_use]
    pub fn opened_by<Opening>(mut self, open: impl Fn() -> Opening + Send + Sync + 'static) -> Self
    where
        Opening: Future<Output = Result<Arc<dyn Store>, Error>> + Send + 'static,
    {
        self.open = Some(Arc::new(move || Box::pin(open())));
        self
    }

    /// Keeps something until the case has ended, such as the folder the data lives in.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// Another reference to the store, for a task of its own.
    fn share(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

impl From<Arc<dyn Store>> for Subject {
    fn from(store: Arc<dyn Store>) -> Self {
        Self::new(store)
    }
}

impl std::ops::Deref for Subject {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// How one case went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its name in the table.
    pub case: &'static str,
    /// What was found.
    pub finding: Finding,
}

/// What a case found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The store keeps the contract.
    Kept,
    /// The store does not declare the capability, and refuses it as it should.
    Refused,
    /// The store breaks the contract; the message says where.
    Broken(String),
}

/// Runs every case, each on a fresh store of the factory. Wants a runtime of several threads, or the races are tame.
pub async fn run<Making, S>(factory: impl Fn() -> Making) -> Vec<Outcome>
where
    Making: Future<Output = S>,
    S: Into<Subject>,
{
    let mut outcomes = Vec::with_capacity(CASES.len());
    for case in CASES {
        let subject = factory().await.into();
        outcomes.push(Outcome { case: case.name, finding: case.find(subject).await });
    }
    outcomes
}

/// Runs one case on a runtime of its own.
///
/// # Panics
/// If the store breaks the contract, or the table has no such case.
pub fn run_case<Making, S>(name: &str, factory: impl FnOnce() -> Making)
where
    Making: Future<Output = S>,
    S: Into<Subject>,
{
    let case = CASES.iter().find(|case| case.name == name).expect("the case is in the table");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let finding = runtime.expect("the system starts four threads").block_on(async {
        let subject = factory().await.into();
        case.find(subject).await
    });
    if let Finding::Broken(message) = finding {
        panic!("{name}: {message}");
    }
}

impl Case {
    async fn find(&self, subject: Subject) -> Finding {
        let is_met = (self.need.is_met)(subject.capabilities());
        let body = if is_met { (self.run)(subject) } else { (self.need.assert_refused)(subject) };
        let limit = Duration::from_secs(CASE_SECONDS_MAX);
        // A task of its own: an assertion that fails ends the case, not the run.
        match tokio::time::timeout(limit, tokio::spawn(body)).await {
            Ok(Ok(())) if is_met => Finding::Kept,
            Ok(Ok(())) => Finding::Refused,
            Ok(Err(failure)) => Finding::Broken(message_of(failure)),
            Err(_) => Finding::Broken(format!("still waiting after {CASE_SECONDS_MAX} seconds")),
        }
    }
}

pub(super) fn message_of(failure: tokio::task::JoinError) -> String {
    let Ok(payload) = failure.try_into_panic() else {
        return "the case was cancelled".to_owned();
    };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
