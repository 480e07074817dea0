//! Envelopes: what was appended is what is read, to the byte.

use bytes::Bytes;
use ensue_core::{
    ContentType, Envelope, EventId, EventType, Expected, Read, Source, StreamName, Tag, Timestamp, Trace,
};

use super::Subject;
use super::words::{Dress, Extend, append_events, event, events, id, nothing, stream, tag, take};

pub(super) async fn everything_survives(store: Subject) {
    let full = Envelope {
        id: id("évènement 1 — ☃ 🦀"),
        source: Source::new("https://example.org/källa?x=1&y=%20").expect("a valid source"),
        event_type: EventType::new("com.example/Order.Placed#2").expect("a valid type"),
        schema_version: u32::MAX,
        time: "2024-01-15T10:30:00.123456789Z".parse().expect("a valid time"),
        correlation: Some(id("flow ✓")),
        causation: Some(id("cause \"quoted\" \\ ,;=")),
        trace: Some(Box::new(Trace {
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            tracestate: "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7".into(),
            baggage: "user=ada%20l,region=eu".into(),
        })),
        tags: vec![tag("customer_id:CUST: 3"), tag("name:Ærøskøbing 東京"), tag("customer_id:again")],
        extensions: vec![("comexample".into(), "Ünïcode, with = and ;".into()), ("empty".into(), "".into())],
        content_type: ContentType::new("application/vnd.example+json; charset=utf-8").expect("a valid type"),
        data: Bytes::from_static("{\"name\": \"Zoë\",\r\n \"n\": 1.50}  ".as_bytes()),
    };
    let bare_trace = Trace { traceparent: "00-0-0-00".into(), ..Trace::default() };
    let sparse =
        Envelope { trace: Some(Box::new(bare_trace)), time: Timestamp::UNIX_EPOCH, ..event("sparse") };
    let written = vec![full, sparse, event("plain")];
    let key = "Straße 東京 \"x\" %2F ☃";
    take(&*store, append_events(key, written.clone())).await;

    let stored = events(&*store, Read::stream(stream(key))).await;
    assert!(stored.iter().all(|recorded| recorded.stream == stream(key)), "{stored:#?}");
    let envelopes: Vec<Envelope> = stored.into_iter().map(|recorded| recorded.envelope).collect();
    assert_eq!(envelopes, written);
}

pub(super) async fn any_bytes_survive(store: Subject) {
    let bodies: [Vec<u8>; 5] = [
        Vec::new(),
        (0..=255).collect(),
        vec![0; 10_000],
        b"\xff\xfe not UTF-8 \xc3\x28".to_vec(),
        b"line\r\nline\n\0\n".repeat(500),
    ];
    let octets = ContentType::new("application/octet-stream").expect("a valid type");
    let written: Vec<Envelope> = bodies
        .into_iter()
        .enumerate()
        .map(|(number, body)| Envelope {
            content_type: octets.clone(),
            ..event(&number.to_string()).holding(body)
        })
        .collect();
    take(&*store, append_events("a", written.clone())).await;
    let stored = events(&*store, Read::all()).await;
    let envelopes: Vec<Envelope> = stored.into_iter().map(|recorded| recorded.envelope).collect();
    assert_eq!(envelopes, written);
}

pub(super) async fn the_longest_names_survive(store: Subject) {
    let stream = StreamName::new("T".repeat(249), "ü".repeat(256)).expect("the longest name");
    let neighbour =
        StreamName::new("T".repeat(249), format!("{}x", "ü".repeat(255))).expect("nearly the same");
    let longest = Envelope {
        id: EventId::new("i".repeat(1_024)).expect("the longest id"),
        source: Source::new("s".repeat(1_024)).expect("the longest source"),
        event_type: EventType::new("t".repeat(255)).expect("the longest type"),
        tags: vec![Tag::new("n".repeat(249), "v".repeat(512)).expect("the longest tag")],
        ..event("replaced")
    };
    let mut commit = nothing().and("a", Expected::NoStream, [longest.clone()]);
    for append in &mut commit.appends {
        append.stream = stream.clone();
    }
    take(&*store, commit).await;
    assert_eq!(events(&*store, Read::stream(neighbour)).await, []);
    for read in [
        Read::stream(stream.clone()),
        Read::query(ensue_core::Query::types([longest.event_type.clone()])),
        Read::query(ensue_core::Query::tags(longest.tags.clone())),
        Read::flow(longest.id.clone()),
    ] {
        let stored = events(&*store, read.clone()).await;
        assert!(
            matches!(stored.as_slice(), [one] if one.stream == stream && one.envelope == longest),
            "{read:?} gave {stored:#?}"
        );
    }
}
