//! Reads: selections, bounds, directions, and where a read ends.

use std::collections::BTreeSet;

use ensue_core::{Direction, Expected, Position, Query, Read, Recorded, Select, Store, StreamName, Version};
use futures_util::{StreamExt, TryStreamExt};

use super::Subject;
use super::words::{Dress, append, append_events, event, events, id, ids, item, query, stream, take};

/// Twenty events over three streams, two types, tags and flows; big enough that every bound cuts somewhere.
async fn fill(store: &dyn Store) -> Vec<Recorded> {
    for number in 0..20 {
        let stream = ["a", "b", "c"].into_iter().cycle().nth(number / 2).expect("a cycle has no end");
        let mut happened =
            event(&format!("e{number}")).typed(if number % 3 == 0 { "Placed" } else { "Paid" });
        if number % 2 == 0 {
            happened = happened.tagged("parity:even");
        }
        if number % 5 == 0 {
            happened = happened.tagged("order:5").in_flow("e0");
        }
        take(store, append_events(stream, [happened])).await;
    }
    let all = events(store, Read::all()).await;
    let streams: BTreeSet<&StreamName> = all.iter().map(|event| &event.stream).collect();
    assert_eq!((all.len(), streams.len()), (20, 3));
    all
}

pub(super) async fn every_selection_bound_limit_and_direction(store: Subject) {
    let all = fill(&*store).await;
    for base in [
        Read::all(),
        Read::stream(stream("b")),
        Read::stream(stream("a")).from_version(Version(2)).to_version(Version(4)),
        Read::query(Query::all()),
        Read::query(query(&["Placed"], &[])),
        Read::query(query(&[], &["parity:even"])),
        Read::query(query(&["Placed"], &["parity:even"]).or(item(&["Paid"], &["order:5"]))),
        Read::flow(id("e0")),
    ] {
        for bounds in [(0, u64::MAX), (0, 20), (7, 15), (7, 8), (19, 25), (20, 25), (12, 5), (30, u64::MAX)] {
            for limit in [0, 1, 3, 20, usize::MAX] {
                let forward = base.clone().after(Position(bounds.0)).until(Position(bounds.1)).limit(limit);
                for read in [forward.clone(), forward.backward()] {
                    assert_eq!(events(&*store, read.clone()).await, expected(&all, &read), "{read:?}");
                }
            }
        }
    }
}

/// What a read must give, by looking at everything.
fn expected(all: &[Recorded], read: &Read) -> Vec<Recorded> {
    let mut selected: Vec<Recorded> = all.iter().filter(|event| selects(read, event)).cloned().collect();
    if read.direction == Direction::Backward {
        selected.reverse();
    }
    selected.truncate(read.limit);
    selected
}

fn selects(read: &Read, event: &Recorded) -> bool {
    let is_inside = event.position > read.after && event.position <= read.until;
    is_inside
        && match &read.select {
            Select::All => true,
            Select::Stream { stream, from, to } => {
                event.stream == *stream && (*from..=*to).contains(&event.version)
            }
            Select::Query(query) => query.matches(&event.envelope),
            Select::Flow(flow) => event.envelope.flow() == flow,
        }
}

pub(super) async fn types_and_tags_select_together(store: Subject) {
    let written = [
        event("e1").typed("Placed").tagged("order:1"),
        event("e2").typed("Paid").tagged("order:1").tagged("customer:1"),
        event("e3").typed("Placed").tagged("order:2").tagged("customer:1"),
        event("e4").typed("Shipped"),
    ];
    take(&*store, append_events("a", written)).await;
    for (select, expected) in [
        (query(&["Placed"], &[]), vec!["e1", "e3"]),
        (query(&["Placed", "Shipped"], &[]), vec!["e1", "e3", "e4"]),
        (query(&[], &["customer:1"]), vec!["e2", "e3"]),
        (query(&[], &["order:1", "customer:1"]), vec!["e2"]),
        (query(&["Placed"], &["customer:1"]), vec!["e3"]),
        (query(&["Placed"], &["order:1"]).or(item(&["Shipped"], &[])), vec!["e1", "e4"]),
        (query(&["Placed"], &[]).or(item(&[], &["order:1"])), vec!["e1", "e2", "e3"]),
        (query(&[], &[]), vec!["e1", "e2", "e3", "e4"]),
        (query(&["Placed"], &["customer:9"]), vec![]),
        (query(&["Place"], &[]), vec![]),
    ] {
        assert_eq!(ids(&*store, Read::query(select.clone())).await, expected, "{select:?}");
    }
}

pub(super) async fn a_flow_is_its_first_event_and_all_that_names_it(store: Subject) {
    take(&*store, append_events("a", [event("start"), event("other")])).await;
    take(&*store, append_events("b", [event("next").in_flow("start"), event("far").in_flow("elsewhere")]))
        .await;
    assert_eq!(ids(&*store, Read::flow(id("start"))).await, ["start", "next"]);
    assert_eq!(ids(&*store, Read::flow(id("start")).backward().limit(1)).await, ["next"]);
    // A flow may begin outside, with a command or a foreign event that is not in the log.
    assert_eq!(ids(&*store, Read::flow(id("elsewhere"))).await, ["far"]);
    assert_eq!(ids(&*store, Read::flow(id("next"))).await, [""; 0]);
}

pub(super) async fn versions_bound_a_stream(store: Subject) {
    take(&*store, append("other", Expected::Any, &["o1"])).await;
    take(&*store, append("a", Expected::Any, &["a1", "a2", "a3", "a4"])).await;
    let read = || Read::stream(stream("a"));
    let from_two = read().from_version(Version(2));
    assert_eq!(ids(&*store, from_two.clone().to_version(Version(3))).await, ["a2", "a3"]);
    assert_eq!(ids(&*store, from_two.clone().backward()).await, ["a4", "a3", "a2"]);
    assert_eq!(ids(&*store, from_two.to_version(Version(1))).await, [""; 0]);
    assert_eq!(ids(&*store, read().from_version(Version(5))).await, [""; 0]);
    assert_eq!(ids(&*store, read().to_version(Version::ZERO)).await, [""; 0]);
    assert_eq!(ids(&*store, read().from_version(Version::ZERO).limit(1)).await, ["a1"]);
    // Versions count inside the stream, positions over the whole log; both bound at once.
    assert_eq!(ids(&*store, read().from_version(Version(2)).until(Position(4))).await, ["a2", "a3"]);
}

pub(super) async fn what_is_absent_reads_as_nothing(store: Subject) {
    assert_eq!(events(&*store, Read::all()).await, []);
    assert_eq!(events(&*store, Read::all().backward().limit(1)).await, []);
    take(&*store, append("a", Expected::Any, &["a1"])).await;
    for read in [
        Read::stream(stream("absent")),
        Read::stream(stream("A")),
        Read::query(query(&["Absent"], &[])),
        Read::query(query(&[], &["absent:1"])),
        Read::flow(id("absent")),
        Read::all().after(Position(1)),
        Read::all().after(Position::MAX),
        Read::all().until(Position::ZERO),
    ] {
        assert_eq!(events(&*store, read.clone()).await, [], "{read:?}");
    }
}

pub(super) async fn a_read_ends_where_it_began(store: Subject) {
    take(&*store, append("a", Expected::Any, &["a1", "a2", "a3"])).await;
    for read in [Read::all(), Read::stream(stream("a")), Read::query(query(&["Happened"], &[]))] {
        let mut reading = store.read(read.clone());
        let first = reading.try_next().await.expect("it can be read").expect("there are three");
        let before = events(&*store, read.clone()).await;
        take(&*store, append("a", Expected::Any, &["later"])).await;
        let mut seen = vec![first];
        seen.extend(reading.try_collect::<Vec<_>>().await.expect("it can be read"));
        assert_eq!(seen, before, "{read:?}");
    }
}

pub(super) async fn an_abandoned_read_disturbs_nobody(store: Subject) {
    take(&*store, append("a", Expected::Any, &["a1", "a2", "a3"])).await;
    let mut slow = store.read(Read::all());
    assert!(slow.next().await.is_some_and(|first| first.is_ok()), "the first event can be read");
    // A reader that holds a lock while it is slow would stop this commit for ever.
    take(&*store, append("a", Expected::Exact(Version(3)), &["a4"])).await;
    drop(slow);
    drop(store.read(Read::all()));
    assert_eq!(ids(&*store, Read::all()).await, ["a1", "a2", "a3", "a4"]);
}
