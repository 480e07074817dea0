//! The cases about handles, which memory alone cannot try: on a store that claims to be durable and shared, where
//! opening again gives the same lists.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ensue_core::{
    BoxFuture, BoxStream, Code, Commit, CommitError, Committed, Error, Position, Read, RecordPage,
    RecordScan, Recorded, Store, StoreCapabilities,
};
use ensue_test::conformance::store::{Finding, Subject, run, run_case};
use ensue_test::memory::CAPABILITIES;
use ensue_test::{MemoryStore, host};

const SHARED: StoreCapabilities = StoreCapabilities { is_durable: true, can_share: true, ..CAPABILITIES };
const DURABLE: StoreCapabilities = StoreCapabilities { is_durable: true, ..CAPABILITIES };

/// One handle of lists that outlive it.
struct Handle {
    lists: Arc<MemoryStore>,
    capabilities: StoreCapabilities,
}

impl Store for Handle {
    fn capabilities(&self) -> &StoreCapabilities {
        &self.capabilities
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.lists.commit(commit)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Recorded, Error>> {
        self.lists.read(read)
    }

    fn scan(&self, scan: RecordScan) -> BoxFuture<'_, Result<RecordPage, Error>> {
        self.lists.scan(scan)
    }

    fn advanced(&self, after: Position) -> BoxFuture<'_, Result<Position, Error>> {
        self.lists.advanced(after)
    }

    fn dropped(&self, after: Position, until: Position) -> BoxFuture<'_, Result<u64, Error>> {
        self.lists.dropped(after, until)
    }
}

fn lists() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(host(1).0))
}

fn handle(lists: &Arc<MemoryStore>, capabilities: &StoreCapabilities) -> Arc<dyn Store> {
    Arc::new(Handle { lists: Arc::clone(lists), capabilities: capabilities.clone() })
}

/// What opening the data once more gives.
#[derive(Clone, Copy)]
enum Again {
    TheSame,
    Others,
    Refusal,
}
use Again::{Others, Refusal, TheSame};

fn subject(capabilities: StoreCapabilities, again: Again) -> Subject {
    let data = lists();
    let first = handle(&data, &capabilities);
    Subject::new(first).opened_by(move || {
        std::future::ready(match again {
            TheSame => Ok(handle(&data, &capabilities)),
            Others => Ok(handle(&lists(), &capabilities)),
            Refusal => Err(Error::new(Code::IN_USE, "another handle is open")),
        })
    })
}

/// Whether a case is content.
fn holds<M: Future<Output = Subject>>(case: &str, make: impl FnOnce() -> M) -> bool {
    catch_unwind(AssertUnwindSafe(|| run_case(case, make))).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_do_everything_keeps_everything() {
    let outcomes = run(|| async { subject(SHARED, TheSame) }).await;
    for outcome in outcomes {
        assert_eq!(outcome.finding, Finding::Kept, "{}", outcome.case);
    }
}

#[test]
fn a_store_that_forgets_or_cannot_be_opened_again_is_not_durable() {
    assert!(holds("reopening_keeps_everything", || async { subject(DURABLE, TheSame) }));
    assert!(!holds("reopening_keeps_everything", || async { subject(DURABLE, Others) }));
    assert!(!holds("reopening_keeps_everything", || async { Subject::new(handle(&lists(), &DURABLE)) }));
}

#[test]
fn handles_that_do_not_see_each_other_are_not_shared() {
    assert!(holds("two_handles_see_each_other", || async { subject(SHARED, TheSame) }));
    assert!(!holds("two_handles_see_each_other", || async { subject(SHARED, Others) }));
    assert!(!holds("two_handles_see_each_other", || async { Subject::new(handle(&lists(), &SHARED)) }));
}

#[test]
fn a_store_that_is_not_shared_must_refuse_a_second_handle() {
    assert!(holds("two_handles_see_each_other", || async { subject(DURABLE, Refusal) }));
    assert!(!holds("two_handles_see_each_other", || async { subject(DURABLE, TheSame) }));
}

#[test]
fn a_store_that_is_not_durable_may_forget() {
    assert!(holds("reopening_keeps_everything", || async { subject(CAPABILITIES, Others) }));
    assert!(holds("reopening_keeps_everything", || async { subject(CAPABILITIES, TheSame) }));
}
