//! Whatever an envelope holds, every mapping reads back what it wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensue_core::cloudevents::{Attributes, Binding, for_each_attribute, json};
use ensue_core::{
    ContentType, Envelope, EventId, EventType, Position, Recorded, Source, StreamName, Tag, Timestamp, Trace,
    Version,
};
use proptest::prelude::*;

fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let awkward = prop::sample::select(vec!['%', ',', ':', '"', '\\', ' ', 'é', '😀', '=', ';', '\u{200b}']);
    let character = prop_oneof![3 => prop::char::range('!', '~'), 2 => awkward, 1 => any::<char>()];
    prop::collection::vec(character.prop_filter("no control characters", |c| !c.is_control()), length)
        .prop_map(|characters| characters.into_iter().collect())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-2_000_000_000i64..4_000_000_000, 0i32..1_000_000_000)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).expect("a year of four digits"))
}

fn trace() -> impl Strategy<Value = Option<Box<Trace>>> {
    (text(0..20), text(0..20), text(0..20)).prop_map(|(traceparent, tracestate, baggage)| {
        let trace =
            Trace { traceparent: traceparent.into(), tracestate: tracestate.into(), baggage: baggage.into() };
        (trace != Trace::default()).then(|| Box::new(trace))
    })
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let tag =
        ("[a-zA-Z0-9._-]{1,8}", text(1..12)).prop_map(|(name, value)| Tag::new(name, value).expect("good"));
    prop::collection::vec(tag, 0..4)
}

/// Extensions have names of their own, which the leading `x` makes sure of.
fn extensions() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("x[a-z0-9]{0,8}|dataschema", text(0..12), 0..4)
}

fn body() -> impl Strategy<Value = (ContentType, Bytes)> {
    let json = prop::sample::select(vec![
        "null",
        "{}",
        r#"{"a" :[1.0,{"b":"\u00e9\n"}]}"#,
        r#""text""#,
        "[\n1\r\n]",
    ])
    .prop_map(|text| ("application/json", text.as_bytes().to_vec()));
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let of_type = |content_type| bytes().prop_map(move |data| (content_type, data));
    let plain = text(0..40).prop_map(|text| ("text/plain; charset=utf-8", text.into_bytes()));
    prop_oneof![
        json,
        of_type("application/octet-stream"),
        of_type("text/plain"),
        of_type("image/svg+xml"),
        plain
    ]
    .prop_map(|(name, data)| (ContentType::new(name).expect("a plain type"), Bytes::from(data)))
}

prop_compose! {
    fn envelope()(
        id in text(1..40), source in text(1..40), event_type in "[!-~]{1,30}", schema_version in 1..u32::MAX,
        time in time(), correlation in prop::option::of(text(1..20)), causation in prop::option::of(text(1..20)),
        trace in trace(), tags in tags(), extensions in extensions(), (content_type, data) in body(),
    ) -> Envelope {
        let id_of = |text: String| EventId::new(text).expect("no control characters");
        Envelope {
            id: id_of(id),
            source: Source::new(source).expect("no control characters"),
            event_type: EventType::new(event_type).expect("visible ASCII"),
            schema_version,
            time,
            correlation: correlation.map(id_of),
            causation: causation.map(id_of),
            trace,
            tags,
            extensions: extensions.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            content_type,
            data,
        }
    }
}

fn stream() -> impl Strategy<Value = StreamName> {
    ("[a-zA-Z0-9._-]{1,12}", text(1..20))
        .prop_map(|(topic, key)| StreamName::new(topic, key.replace('/', "|")).expect("good names"))
}

prop_compose! {
    fn recorded()(envelope in envelope(), stream in stream(), position: u64, version: u64, recorded_at in time())
        -> Recorded {
        Recorded { position: Position(position), stream, version: Version(version), recorded_at, envelope }
    }
}

proptest! {
    #[test]
    fn json_reads_back_an_envelope(envelope in envelope()) {
        let mut out = Vec::new();
        json::write(&envelope, None, &mut out);
        let parsed = json::parse(&out).expect("its own text");
        prop_assert_eq!(parsed.stream().expect("no hint"), None);
        prop_assert_eq!(parsed.into_envelope().expect("complete"), envelope);
    }

    #[test]
    fn json_reads_back_a_recorded_event(recorded in recorded()) {
        let mut out = Vec::new();
        json::write_recorded(&recorded, &mut out);
        let parsed = json::parse(&out).expect("its own text");
        prop_assert_eq!(parsed.into_recorded().expect("complete"), recorded);
    }

    #[test]
    fn a_line_holds_one_event_whatever_its_data(recorded in recorded()) {
        let mut out = Vec::new();
        json::write_line(&recorded, &mut out);
        let breaks = out.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
        prop_assert_eq!((breaks, out.last()), (1, Some(&b'\n')));
        let back = json::parse(&out).expect("its own text").into_recorded().expect("complete");
        prop_assert_eq!(back.envelope.id, recorded.envelope.id);
    }

    #[test]
    fn pairs_build_the_envelope_they_came_from(envelope in envelope()) {
        let mut attributes = Attributes::default();
        attributes.set("datacontenttype", envelope.content_type.as_str()).expect("a good type");
        for_each_attribute(&envelope, |name, value| attributes.set(name, value).expect(name));
        let parsed = attributes.finish(envelope.data.clone()).expect("all that is required");
        prop_assert_eq!(parsed.into_envelope().expect("complete"), envelope);
    }

    #[test]
    fn headers_of_every_binding_read_back(envelope in envelope(), stream in stream()) {
        for binding in [Binding::Http, Binding::Kafka, Binding::Nats, Binding::Amqp] {
            let mut headers = Vec::new();
            binding.write(&envelope, Some(&stream), |name, value| headers.push((name.to_owned(), value.to_owned())));
            if matches!(binding, Binding::Http | Binding::Nats) {
                prop_assert!(headers.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
            }
            let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let own_place = (binding != Binding::Nats).then_some(envelope.content_type.as_str());
            let parsed = binding.read(pairs, own_place, envelope.data.clone());
            let parsed = parsed.expect("its own headers");
            prop_assert_eq!(parsed.stream().expect("good names"), Some(stream.clone()));
            prop_assert_eq!(&parsed.into_envelope().expect("complete"), &envelope);
        }
    }

    #[test]
    fn a_document_that_is_cut_off_is_not_read(recorded in recorded(), per_mille in 0usize..1000) {
        let mut out = Vec::new();
        json::write_recorded(&recorded, &mut out);
        out.truncate(out.len() * per_mille / 1000);
        let error = json::parse(&out).expect_err("a part of a document");
        prop_assert_eq!(error.code(), ensue_core::Code::INVALID_JSON);
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[{}\\[\\]\":,a-z0-9_ ]{0,60}") {
        for input in [bytes.as_slice(), text.as_bytes()] {
            if let Ok(incoming) = ensue_core::cloudevents::parse(input) {
                prop_assert!(incoming.is_empty(), "no document of an event is this short: {:?}", incoming);
            }
        }
    }
}
