//! The examples of the JSON format of `CloudEvents` 1.0.2, sections 3.2 and 4.3, and what it says about data.

use ensue_core::cloudevents::{Incoming, Parsed, json, parse};
use serde_json::{Value, json as value};

const BINARY: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "A234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/vnd.apache.thrift.binary",
    "data_base64" : "AAEC/w=="
}"#;

const XML: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "B234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension": null,
    "datacontenttype" : "application/xml",
    "data" : "<much wow=\"xml\"/>"
}"#;

const OBJECT: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
}"#;

const STRING: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "D234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "data" : "I'm just a string"
}"#;

fn read(document: &str) -> Parsed {
    json::parse(document.as_bytes()).expect("an example of the specification")
}

fn written(parsed: Parsed) -> Value {
    let mut out = Vec::new();
    json::write(&parsed.into_envelope().expect("complete"), None, &mut out);
    serde_json::from_slice(&out).expect("what is written is JSON")
}

fn with_data(members: &str) -> Parsed {
    read(&format!(
        r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2018-04-05T17:31:00Z",{members}}}"#
    ))
}

#[test]
fn every_example_is_read_with_its_attributes() {
    for (document, id) in [
        (BINARY, "A234-1234-1234"),
        (XML, "B234-1234-1234"),
        (OBJECT, "C234-1234-1234"),
        (STRING, "D234-1234-1234"),
    ] {
        let parsed = read(document);
        assert_eq!(parsed.id.as_ref().map(AsRef::as_ref), Some(id));
        assert_eq!(parsed.source.as_ref().map(AsRef::as_ref), Some("/mycontext"));
        assert_eq!(parsed.event_type.as_str(), "com.example.someevent");
        assert_eq!(parsed.time.map(|time| time.to_string()).as_deref(), Some("2018-04-05T17:31:00Z"));
        assert_eq!((parsed.subject.as_deref(), parsed.schema_version), (None, None));
        let extensions = [("comexampleextension1", "value"), ("comexampleothervalue", "5")];
        let found: Vec<(&str, &str)> =
            parsed.extensions.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, extensions, "null is unset, numbers are text");
    }
}

#[test]
fn data_of_the_examples_is_what_the_http_form_of_each_shows() {
    assert_eq!(&read(BINARY).data[..], [0, 1, 2, 255]);
    assert_eq!(&read(XML).data[..], br#"<much wow="xml"/>"#);
    let object: Value = serde_json::from_slice(&read(OBJECT).data).expect("JSON data");
    assert_eq!(object, value!({"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}));
    let string = read(STRING);
    assert_eq!(string.content_type.as_str(), "application/json", "the implied type is made explicit");
    assert_eq!(&string.data[..], br#""I'm just a string""#, "a JSON string keeps its quotes");
}

#[test]
fn the_examples_are_written_with_the_same_members() {
    for document in [BINARY, XML, OBJECT, STRING] {
        let mut expected: Value = serde_json::from_str(document).expect("an example");
        let members = expected.as_object_mut().expect("an object");
        members.retain(|_, value| !value.is_null());
        members.insert("comexampleothervalue".into(), value!("5"));
        members.insert("schemaversion".into(), value!(1));
        members.entry("datacontenttype").or_insert(value!("application/json"));
        assert_eq!(written(read(document)), expected);
    }
}

#[test]
fn batches_are_arrays_and_may_be_empty() {
    assert_eq!(json::parse_batch(b" [] ").expect("an empty batch"), []);
    let batch = format!("[{BINARY},\n{OBJECT}]");
    assert_eq!(json::parse_batch(batch.as_bytes()).expect("a batch"), [read(BINARY), read(OBJECT)]);

    let envelopes = [BINARY, OBJECT].map(|document| read(document).into_envelope().expect("complete"));
    let mut out = Vec::new();
    json::write_batch(&envelopes, &mut out, |envelope, out| json::write(envelope, None, out));
    let back = json::parse_batch(&out).expect("its own text").into_iter().map(Parsed::into_envelope);
    assert_eq!(back.collect::<Result<Vec<_>, _>>().expect("complete"), envelopes);
}

#[test]
fn one_entry_takes_events_and_batches() {
    let one = parse(OBJECT.as_bytes()).expect("one event");
    assert_eq!(one, [Incoming::Event(Box::new(read(OBJECT)))]);
    let many = parse(format!("[{XML},{STRING}]").as_bytes()).expect("a batch");
    assert_eq!(many, [Incoming::Event(Box::new(read(XML))), Incoming::Event(Box::new(read(STRING)))]);
}

#[test]
fn null_data_is_not_absent_data() {
    assert_eq!(&with_data(r#""data":null"#).data[..], b"null");
    assert!(with_data(r#""subject":"x""#).data.is_empty());
    assert!(with_data(r#""data_base64":null"#).data.is_empty(), "an unset member");
    assert_eq!(written(with_data(r#""data":null"#)).get("data"), Some(&Value::Null));
    assert_eq!(written(with_data(r#""data_base64":null"#)).get("data"), None);
}

#[test]
fn json_data_is_carried_byte_for_byte() {
    let odd = r#"{ "b":1.50,"a" :	1e2, "text":"\u00e9\/" }"#;
    assert_eq!(&with_data(&format!(r#""data": {odd}"#)).data[..], odd.as_bytes());
    let mut out = Vec::new();
    let envelope = with_data(&format!(r#""data": {odd}"#)).into_envelope().expect("complete");
    json::write(&envelope, None, &mut out);
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    assert!(text.contains(odd), "{text}");
}

#[test]
fn a_string_is_never_read_as_a_document() {
    let parsed = with_data(r#""datacontenttype":"application/vnd.x+json; v=1","data":"{\"a\":1}""#);
    assert_eq!(&parsed.data[..], br#""{\"a\":1}""#);
}
