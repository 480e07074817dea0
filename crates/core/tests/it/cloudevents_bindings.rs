//! Headers of the five bindings, by the examples of their specifications.

use bytes::Bytes;
use ensue_core::cloudevents::Binding;
use ensue_core::{Code, ContentType, Envelope, EventId, EventType, Source, StreamName, Timestamp};

fn envelope() -> Envelope {
    Envelope {
        id: EventId::new("1234-1234-1234").expect("a plain id"),
        source: Source::new("/mycontext/subcontext").expect("a plain source"),
        event_type: EventType::new("com.example.someevent").expect("a plain type"),
        schema_version: 2,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: vec![("comment".into(), "Euro € 😀".into())],
        content_type: ContentType::json(),
        data: Bytes::from_static(b"{}"),
    }
}

fn headers(binding: Binding, stream: Option<&StreamName>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    binding.write(&envelope(), stream, |name, value| headers.push((name.to_owned(), value.to_owned())));
    headers
}

fn value(binding: Binding, name: &str) -> Option<String> {
    headers(binding, None).into_iter().find(|(header, _)| header == name).map(|(_, value)| value)
}

#[test]
fn each_binding_has_its_prefix() {
    for (binding, prefix) in [
        (Binding::Http, "ce-"),
        (Binding::Kafka, "ce_"),
        (Binding::Nats, "ce-"),
        (Binding::Pubsub, "ce-"),
        (Binding::Amqp, "cloudEvents:"),
    ] {
        let all = headers(binding, None);
        assert!(all.iter().all(|(name, _)| name.starts_with(prefix)), "{all:?}");
        assert_eq!(value(binding, &format!("{prefix}specversion")).as_deref(), Some("1.0"));
        assert_eq!(value(binding, &format!("{prefix}schemaversion")).as_deref(), Some("2"));
    }
}

#[test]
fn the_content_type_is_a_header_with_prefix_only_for_nats() {
    assert_eq!(value(Binding::Nats, "ce-datacontenttype").as_deref(), Some("application/json"));
    assert_eq!(value(Binding::Http, "ce-datacontenttype"), None);
    assert_eq!(value(Binding::Kafka, "ce_datacontenttype"), None);
    assert_eq!(value(Binding::Pubsub, "ce-datacontenttype"), None);
    assert_eq!(value(Binding::Amqp, "cloudEvents:datacontenttype"), None);

    let headers = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")];
    let headers = || headers.into_iter().chain([("ce-datacontenttype", "text/plain")]);
    let read = |own| Binding::Nats.read(headers(), own, Bytes::new()).expect("complete").content_type;
    assert_eq!(read(None).as_str(), "text/plain");
    assert_eq!(read(Some("text/csv")).as_str(), "text/csv", "its own place counts");
}

#[test]
fn the_stream_is_told_where_it_is_known() {
    let stream = StreamName::new("Order", "ORD-1").expect("a plain name");
    let all = headers(Binding::Kafka, Some(&stream));
    let of = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    assert_eq!(
        (of("ce_subject"), of("ce_partitionkey"), of("ce_topic")),
        (Some("ORD-1"), Some("ORD-1"), Some("Order"))
    );
    assert!(headers(Binding::Kafka, None).iter().all(|(name, _)| name != "ce_subject"));
}

#[test]
fn http_values_are_percent_encoded_as_the_specification_shows() {
    let encoded = "Euro%20%E2%82%AC%20%F0%9F%98%80";
    assert_eq!(value(Binding::Http, "ce-comment").as_deref(), Some(encoded));
    assert_eq!(value(Binding::Kafka, "ce_comment").as_deref(), Some("Euro € 😀"));
    assert_eq!(value(Binding::Pubsub, "ce-comment").as_deref(), Some("Euro € 😀"));
    for (header, text) in [
        (encoded, "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("%41", "A"),
        (r#""quoted \"and\" spaced""#, r#"quoted "and" spaced"#),
        (r#""100%25""#, "100%"),
        ("/mycontext/subcontext", "/mycontext/subcontext"),
    ] {
        assert_eq!(Binding::Http.decode(header).expect(header), text);
    }
}

#[test]
fn bad_percent_encoding_is_refused_with_the_attribute() {
    for bad in ["%C0%A0", "%zz", "5%", "%e2%82", "%+1"] {
        let error = Binding::Http.read([("ce-note", bad)], None, Bytes::new()).expect_err(bad);
        assert_eq!(error.code(), Code::INVALID_EVENT);
        assert!(error.message().starts_with("attribute `note`: "), "{error}");
    }
}

#[test]
fn headers_are_found_in_the_spelling_of_their_protocol() {
    for (binding, header, attribute) in [
        (Binding::Http, "CE-Id", Some("id")),
        (Binding::Http, "ce-id", Some("id")),
        (Binding::Http, "content-type", None),
        (Binding::Http, "ce", None),
        (Binding::Nats, "Ce-Traceparent", Some("traceparent")),
        (Binding::Kafka, "ce_id", Some("id")),
        (Binding::Kafka, "CE_id", None),
        (Binding::Kafka, "ce-id", None),
        (Binding::Pubsub, "ce-id", Some("id")),
        (Binding::Pubsub, "Ce-Id", None),
        (Binding::Amqp, "cloudEvents:id", Some("id")),
        (Binding::Amqp, "cloudEvents_id", Some("id")),
        (Binding::Amqp, "cloudevents:id", None),
        (Binding::Http, "cé-", None),
    ] {
        assert_eq!(binding.attribute(header).as_deref(), attribute, "{binding:?} {header}");
    }
}

#[test]
fn foreign_headers_are_passed_over_and_repeated_ones_refused() {
    let own =
        [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "s"), ("ce_type", "t"), ("retry", "3")];
    let parsed = Binding::Kafka.read(own, Some("text/plain"), Bytes::from_static(b"hi")).expect("complete");
    assert_eq!(
        (parsed.content_type.as_str(), &parsed.data[..], parsed.extensions.len()),
        ("text/plain", &b"hi"[..], 0)
    );

    for repeated in [("ce_id", "2"), ("ce_specversion", "1.0")] {
        let error =
            Binding::Kafka.read(own.into_iter().chain([repeated]), None, Bytes::new()).expect_err("repeated");
        assert!(error.message().contains("it is given twice"), "{error}");
    }
    let extensions = [("ce_colour", "red"), ("ce_size", "1"), ("ce_colour", "red")];
    let error =
        Binding::Kafka.read(own.into_iter().chain(extensions), None, Bytes::new()).expect_err("repeated");
    assert_eq!(error.message(), "attribute `colour`: it is given twice");
}
