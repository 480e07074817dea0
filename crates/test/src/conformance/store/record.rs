//! Records: revisions, expiry, scans, and that they change in one commit with the events.

use bytes::Bytes;
use ensue_core::{
    Expected, Kind, Read, RecordScan, RecordWrite, Revision, Store, StoreExt, Timestamp, Version,
};

use super::Subject;
use super::words::{
    Extend, SPACE, append, ids, nothing, put, record, record_conflict_of, refuse, space, take,
};

pub(super) async fn a_revision_must_match(store: Subject) {
    let first = take(&*store, nothing().writing(put("key", "one"))).await.revision;
    let stored = record(&*store, "key").await.expect("it was written");
    assert_eq!((stored.value.as_ref(), stored.revision), (&b"one"[..], first));
    assert!(first > Revision::ZERO);

    let second = take(&*store, nothing().writing(put("key", "two").expect(first))).await.revision;
    assert!(second > first, "a revision grows: {first} then {second}");
    for stale in [first, Revision::ZERO, second.next()] {
        let refused = refuse(&*store, nothing().writing(put("key", "three").expect(stale))).await;
        assert_eq!(record_conflict_of(refused), second.0);
    }
    // Without an expectation the last writer wins.
    take(&*store, nothing().writing(put("key", "four"))).await;
    assert_eq!(record(&*store, "key").await.expect("it was written").value, "four");
}

pub(super) async fn zero_means_it_must_not_exist(store: Subject) {
    let fresh = || nothing().writing(put("key", "value").expect(Revision::ZERO));
    let revision = take(&*store, fresh()).await.revision;
    assert_eq!(record_conflict_of(refuse(&*store, fresh()).await), revision.0);
    let absent = nothing().writing(put("absent", "value").expect(revision));
    assert_eq!(record_conflict_of(refuse(&*store, absent).await), 0);
}

pub(super) async fn a_deleted_record_never_repeats_a_revision(store: Subject) {
    let delete = || RecordWrite::delete(space(SPACE), "key");
    take(&*store, nothing().writing(delete())).await;
    let first = take(&*store, nothing().writing(put("key", "one"))).await.revision;
    let stale = nothing().writing(delete().expect(first.next()));
    assert_eq!(record_conflict_of(refuse(&*store, stale).await), first.0);
    take(&*store, nothing().writing(delete().expect(first))).await;
    assert_eq!(record(&*store, "key").await, None);

    let second = take(&*store, nothing().writing(put("key", "two").expect(Revision::ZERO))).await.revision;
    assert!(second > first, "the re-created record has revision {second}, the deleted one had {first}");
    let old = nothing().writing(put("key", "three").expect(first));
    assert_eq!(record_conflict_of(refuse(&*store, old).await), second.0);
}

pub(super) async fn a_lapsed_record_counts_as_absent(store: Subject) {
    let past = Timestamp::UNIX_EPOCH;
    let future: Timestamp = "2999-01-01T00:00:00Z".parse().expect("a valid time");
    let lapsing = nothing().writing(put("a-past", "gone").expires_at(past));
    let lapsed = take(&*store, lapsing.writing(put("b-future", "here").expires_at(future))).await.revision;
    take(&*store, nothing().writing(put("c-never", "here"))).await;

    assert_eq!(record(&*store, "a-past").await, None);
    assert_eq!(record(&*store, "b-future").await.expect("its time is far").expires_at, Some(future));
    assert_eq!(keys(&*store, RecordScan::all(space(SPACE))).await, ["b-future", "c-never"]);
    assert_eq!(keys(&*store, RecordScan::all(space(SPACE)).limit(1)).await, ["b-future", "c-never"]);

    let as_if_there = nothing().writing(put("a-past", "back").expect(lapsed));
    assert_eq!(record_conflict_of(refuse(&*store, as_if_there).await), 0);
    let again = take(&*store, nothing().writing(put("a-past", "back").expect(Revision::ZERO))).await;
    let record = record(&*store, "a-past").await.expect("it was written without an end");
    assert_eq!(
        (record.value.as_ref(), record.revision, record.expires_at),
        (&b"back"[..], again.revision, None)
    );
}

pub(super) async fn a_scan_is_ordered_and_paged(store: Subject) {
    // Bytewise order: no rule of any language, and keys need not be text.
    let mut written: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    written.extend([b"a\0".to_vec(), b"aa".to_vec(), b"B".repeat(700), vec![255; 1_024], "ä".into()]);
    for (number, key) in written.iter().enumerate().rev() {
        let write = RecordWrite::put(space(SPACE), key.clone(), number.to_string());
        take(&*store, nothing().writing(write)).await;
    }
    written.sort();
    for limit in [1, 7, written.len() - 1, written.len(), written.len() + 1, usize::MAX] {
        let mut scan = RecordScan::all(space(SPACE)).limit(limit);
        let mut seen = Vec::new();
        loop {
            let page = store.scan(scan.clone()).await.expect("a scan works");
            assert!(page.records.len() <= limit, "a page of {} for a limit of {limit}", page.records.len());
            seen.extend(page.records.into_iter().map(|record| record.key.to_vec()));
            match page.next {
                Some(next) => scan.from = next,
                None => break,
            }
            assert!(seen.len() < written.len(), "a next page is promised after the last record");
        }
        assert_eq!(seen, written, "limit {limit}");
    }
}

pub(super) async fn a_prefix_and_a_range_bound_a_scan(store: Subject) {
    for key in ["a", "b", "b/1", "b/2", "b0", "c"] {
        take(&*store, nothing().writing(put(key, "value"))).await;
    }
    let all = || RecordScan::all(space(SPACE));
    assert_eq!(keys(&*store, RecordScan::prefix(space(SPACE), "b/")).await, ["b/1", "b/2"]);
    assert_eq!(
        keys(&*store, RecordScan::prefix(space(SPACE), "b").limit(2)).await,
        ["b", "b/1", "b/2", "b0"]
    );
    assert_eq!(keys(&*store, RecordScan::key(space(SPACE), "b")).await, ["b"]);
    assert_eq!(keys(&*store, RecordScan::key(space(SPACE), "bb")).await, [""; 0]);
    assert_eq!(keys(&*store, all().after(&Bytes::from_static(b"b/2"))).await, ["b0", "c"]);
    let range = RecordScan { from: "b/1".into(), until: Some("c".into()), ..all() };
    assert_eq!(keys(&*store, range).await, ["b/1", "b/2", "b0"]);
    let backwards = RecordScan { from: "c".into(), until: Some("a".into()), ..all() };
    assert_eq!(keys(&*store, backwards).await, [""; 0]);
}

pub(super) async fn spaces_are_apart(store: Subject) {
    // Names that would run into each other if space and key were simply joined.
    let spaces = ["case", "case.a", "case-a", "cas"];
    for name in spaces {
        take(&*store, nothing().writing(RecordWrite::put(space(name), "a.key", name))).await;
    }
    take(&*store, nothing().writing(RecordWrite::delete(space("case-a"), "a.key"))).await;
    for name in spaces {
        let found = store.records(RecordScan::all(space(name))).await.expect("a scan works");
        let values: Vec<&[u8]> = found.iter().map(|record| record.value.as_ref()).collect();
        let expected = if name == "case-a" { vec![] } else { vec![name.as_bytes()] };
        assert_eq!(values, expected, "{name}");
    }
    assert_eq!(keys(&*store, RecordScan::all(space("case.absent"))).await, [""; 0]);
}

pub(super) async fn records_and_events_are_one(store: Subject) {
    let both = append("a", Expected::NoStream, &["a1"]).writing(put("one", "1")).writing(put("two", "1"));
    let revision = take(&*store, both).await.revision;
    for key in ["one", "two"] {
        assert_eq!(record(&*store, key).await.expect("it was written").revision, revision);
    }
    // The events are right but a record is not: nothing of either.
    let stale = append("a", Expected::Exact(Version(1)), &["a2"])
        .writing(put("one", "2"))
        .writing(put("two", "2").expect(revision.next()));
    assert_eq!(record_conflict_of(refuse(&*store, stale).await), revision.0);
    // The records are right but a stream is not: nothing of either.
    refuse(&*store, append("a", Expected::NoStream, &["a2"]).writing(put("one", "2").expect(revision))).await;
    assert_eq!(ids(&*store, Read::all()).await, ["a1"]);
}

pub(super) async fn a_record_written_twice_is_refused(store: Subject) {
    let twice =
        nothing().writing(put("key", "one")).writing(put("other", "two")).writing(put("key", "three"));
    let error = ensue_core::Error::from(refuse(&*store, twice).await);
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    // The same key in two spaces is two records.
    let apart = nothing().writing(put("key", "one")).writing(RecordWrite::put(space("case.b"), "key", "two"));
    take(&*store, apart).await;
}

async fn keys(store: &dyn Store, scan: RecordScan) -> Vec<String> {
    let records = store.records(scan).await.expect("a scan works");
    records.iter().map(|record| String::from_utf8_lossy(&record.key).into_owned()).collect()
}
