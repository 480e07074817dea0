//! Limits: what is too large is refused whole, with a code that says so, and nobody else notices.

use bytes::Bytes;
use ensue_core::{Code, Commit, CommitError, Envelope, Error, Expected, Kind, Read, RecordWrite, Store};

use super::Subject;
use super::words::{
    Dress, Extend, SPACE, append, append_events, event, events, ids, nothing, refuse, space, take,
};

/// An event of exactly so many bytes.
fn event_of(id: &str, bytes: usize) -> Envelope {
    let bare = event(id).holding(Bytes::new());
    let filling = bytes.checked_sub(bare.size()).expect("a limit leaves room for the attributes");
    bare.holding(vec![b'x'; filling])
}

fn assert_too_large(error: CommitError) {
    let error = Error::from(error);
    assert_eq!((error.code(), error.kind()), (Code::TOO_LARGE, Kind::Full), "{error}");
}

pub(super) async fn an_event_too_large_is_refused_and_delays_nobody(store: Subject) {
    let bytes_max = store.capabilities().event_bytes_max;
    let monster = append_events("a", [event("before"), event_of("monster", bytes_max + 1)]);
    let small = (0..20).map(|number| append(&format!("s{number}"), Expected::NoStream, &["small"]));
    let (refused, taken) = tokio::join!(
        store.commit(monster),
        futures_util::future::join_all(small.map(|commit| store.commit(commit))),
    );
    assert_too_large(refused.expect_err("the event is a byte too large"));
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    assert_eq!(ids(&*store, Read::all()).await, ["small"; 20]);

    let largest = event_of("largest", bytes_max);
    take(&*store, append_events("a", [largest.clone()])).await;
    let stored: Vec<Envelope> = events(&*store, Read::all().backward().limit(1))
        .await
        .into_iter()
        .map(|last| last.envelope)
        .collect();
    assert_eq!(stored, [largest]);
}

/// Far past every limit: it must be refused for its size alone, before anything is done with it.
pub(super) async fn a_hundred_megabytes_are_refused_and_delay_nobody(store: Subject) {
    let monster = append_events("a", [event("monster").holding(vec![b'x'; 100_000_000])]);
    let record = RecordWrite::put(space(SPACE), "key", vec![b'x'; 100_000_000]);
    let (event, record, small) = tokio::join!(
        store.commit(monster),
        store.commit(nothing().writing(record)),
        store.commit(append("b", Expected::NoStream, &["small"])),
    );
    assert_too_large(event.expect_err("no event is so large"));
    assert_too_large(record.expect_err("no record is so large"));
    small.expect("it is small");
    assert_eq!(ids(&*store, Read::all()).await, ["small"]);
    take(&*store, append("a", Expected::NoStream, &["a1"])).await;
}

pub(super) async fn a_commit_too_large_is_refused(store: Subject) {
    assert_too_large(refuse(&*store, commit_of(&*store, 1)).await);
    assert_eq!(take(&*store, append("a", Expected::NoStream, &["a1"])).await.position().0, 1);
}

/// A commit of events that are each small enough, and that has so many bytes more than the limit. The events share
/// one body, so that it takes little memory.
fn commit_of(store: &dyn Store, excess: usize) -> Commit {
    let capabilities = store.capabilities();
    let total = capabilities.commit_bytes_max + excess;
    assert!(capabilities.event_bytes_max <= capabilities.commit_bytes_max, "an event fits into a commit");
    let share = capabilities.event_bytes_max.min(1 << 20);
    let filling = Bytes::from(vec![b'x'; share]);
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < total {
        let bare = event(&format!("e{}", events.len())).holding(Bytes::new());
        let room = share.min(total - bytes).saturating_sub(bare.size());
        let full = bare.holding(filling.slice(..room));
        bytes += full.size();
        events.push(full);
    }
    append_events("a", events)
}

pub(super) async fn a_record_too_large_is_refused(store: Subject) {
    let bytes_max = store.capabilities().record_bytes_max;
    let write = |bytes| RecordWrite::put(space(SPACE), "key", vec![b'x'; bytes]);
    let with_events = append("a", Expected::Any, &["a1"]).writing(write(bytes_max + 1));
    assert_too_large(refuse(&*store, with_events).await);
    take(&*store, nothing().writing(write(bytes_max))).await;
    let stored = super::words::record(&*store, "key").await.expect("it was written");
    assert_eq!(stored.value.len(), bytes_max);
}

pub(super) async fn a_record_key_has_its_bounds(store: Subject) {
    for bytes in [0, 1_025, 10_000] {
        let write = RecordWrite::put(space(SPACE), vec![b'k'; bytes], "value");
        let error = Error::from(refuse(&*store, append("a", Expected::Any, &["a1"]).writing(write)).await);
        assert_eq!(error.kind(), Kind::Invalid, "a key of {bytes} bytes: {error}");
    }
    for bytes in [1, 1_024] {
        let write = RecordWrite::put(space(SPACE), vec![b'k'; bytes], "value");
        take(&*store, nothing().writing(write)).await;
    }
}
