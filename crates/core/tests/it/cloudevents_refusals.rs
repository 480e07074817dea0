//! Documents that break a rule: each refused with its code and with what is wrong.

use ensue_core::Code;
use ensue_core::cloudevents::{Attributes, json, parse};

/// The message of the refusal of `document`, which has this code.
fn refusal(document: &str, code: Code) -> String {
    let error = parse(document.as_bytes()).expect_err(document);
    assert_eq!(error.code(), code, "{document}: {error}");
    assert!(!error.fix().is_empty());
    error.message().to_owned()
}

#[test]
fn what_is_not_json_is_refused_with_line_and_column() {
    for (document, place) in [
        ("", "line 1 column 0"),
        ("{\"specversion\": \"1.0\",\n  \"id\": }", "line 2 column 9"),
        ("{\"specversion\": \"1.0\",}", "line 1 column 23"),
        ("{} {}", "line 1 column 4"),
        ("{\"a\":\"\u{1}\"}", "line 1 column"),
        ("[{\"a\":01}]", "line 1 column"),
    ] {
        let message = refusal(document, Code::INVALID_JSON);
        assert!(message.contains(place), "{document}: {message}");
    }
    let error = parse(b"{\"a\":\"\xff\"}").expect_err("not UTF-8");
    assert_eq!(error.code(), Code::INVALID_JSON);
    assert_eq!(parse("[".repeat(10_000).as_bytes()).expect_err("too deep").code(), Code::INVALID_JSON);
}

#[test]
fn a_repeated_member_is_refused_wherever_it_is() {
    for document in [
        "{\"specversion\":\"1.0\",\n\"id\":\"1\",\"id\":\"2\"}",
        "{\"event_type\":\"A\",\"data\":{\n\"deep\":[{\"id\":1,\"\\u0069d\":1}]}}",
    ] {
        let message = refusal(document, Code::INVALID_EVENT);
        assert!(message.contains("the member `id` is given twice at line 2 column"), "{message}");
    }
}

#[test]
fn a_document_of_no_known_shape_is_refused() {
    for (document, reason) in [
        ("1", "neither a JSON object nor an array"),
        ("\"specversion\"", "neither a JSON object nor an array"),
        ("{}", "has none of `specversion`, `event_type` and `command_type`"),
        (r#"{"type":"t","source":"s","id":"1"}"#, "has none of `specversion`"),
        (r#"{"event_type":"A","command_type":"B","data":1}"#, "has more than one of"),
        (r#"[{"event_type":"A","data":1},2]"#, "element 2 of the array is not a JSON object"),
        (r#"[{"event_type":"A","data":1},{}]"#, "element 2 of the array: the document has none of"),
    ] {
        let message = refusal(document, Code::INVALID_EVENT);
        assert!(message.contains(reason), "{document}: {message}");
    }
    assert_eq!(json::parse(b"[]").expect_err("a batch").code(), Code::INVALID_EVENT);
    assert_eq!(json::parse_batch(b"{}").expect_err("an object").code(), Code::INVALID_EVENT);
}

/// An event with `members` in place of the good ones of the same name.
fn event_with(members: &[(&str, &str)]) -> String {
    let good = [("specversion", r#""1.0""#), ("id", r#""1""#), ("source", r#""s""#), ("type", r#""t""#)];
    let kept = good.iter().filter(|(name, _)| !members.iter().any(|(other, _)| other == name));
    let all: Vec<String> = kept.chain(members).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", all.join(","))
}

#[test]
fn a_broken_attribute_is_named() {
    parse(event_with(&[]).as_bytes()).expect("what the table varies is good itself");
    for (attribute, value, reason) in [
        ("specversion", r#""0.3""#, "`0.3` is not `1.0`"),
        ("specversion", "1.0", "it is not text"),
        ("specversion", "null", "it is missing"),
        ("id", "null", "it is missing"),
        ("id", r#""""#, "it is empty"),
        ("id", "5", "it is not text"),
        ("id", r#""a\u0007b""#, "it holds '\\u{7}'"),
        ("source", r#""""#, "it is empty"),
        ("source", "null", "it is missing"),
        ("type", r#""""#, "it is empty"),
        ("type", "null", "it is missing"),
        ("type", r#""two words""#, "it holds ' '"),
        ("time", r#""yesterday""#, "`yesterday` is not an RFC 3339 time"),
        ("time", "1522949460", "it is not text"),
        ("subject", r#""""#, "it is empty"),
        ("partitionkey", r#""""#, "it is empty"),
        ("schemaversion", "0", "`0` is not a whole number from 1 upward"),
        ("schemaversion", r#""two""#, "`two` is not a whole number from 1 upward"),
        ("schemaversion", "1.5", "1.5 is not a whole number"),
        ("dataschema", "7", "it is not text"),
        ("tags", r#""customer""#, "`customer` is not NAME:VALUE"),
        ("tags", r#""customer:""#, "it is empty"),
        ("tags", r#""customer:5%""#, "not followed by two hex digits"),
        ("price", "1.5", "1.5 is not a whole number"),
        ("nested", "{}", "it is an object or array"),
        ("bell", r#""\u0007""#, "it holds the control character"),
        ("data_base64", "5", "it is not a string"),
        ("data_base64", r#""%%""#, "it is not Base64"),
    ] {
        let message = refusal(&event_with(&[(attribute, value)]), Code::INVALID_EVENT);
        assert!(message.starts_with(&format!("attribute `{attribute}`: ")), "{attribute}: {message}");
        assert!(message.contains(reason), "{attribute} {value}: {message}");
    }
}

#[test]
fn names_of_extensions_are_lower_case_letters_and_digits() {
    for name in ["Colour", "data-schema", "my_extension", "naïve", ""] {
        let message = refusal(&event_with(&[(name, "\"x\"")]), Code::INVALID_EVENT);
        assert!(message.contains("is not the name of an attribute"), "{name}: {message}");
    }
    let error = Attributes::default().set("data", "x").expect_err("data is not an attribute");
    assert_eq!(error.code(), Code::INVALID_EVENT);
}

#[test]
fn data_in_two_forms_or_in_the_wrong_one_is_refused() {
    let both = event_with(&[("data", "1"), ("data_base64", "\"AA==\"")]);
    assert!(refusal(&both, Code::INVALID_EVENT).contains("exclude each other"));
    let object_as_text = event_with(&[("datacontenttype", "\"text/plain\""), ("data", "{}")]);
    assert!(refusal(&object_as_text, Code::INVALID_EVENT).contains("text/plain, so it must be a string"));
}

#[test]
fn no_damage_makes_the_parser_panic_or_lets_what_is_no_json_through() {
    let document = r#"[{"specversion":"1.0","id":"évt-1","source":"shop","type":"OrderPlaced","time":"2024-01-15T10:30:00.5+01:00","subject":"ORD-1","datacontenttype":"application/json","traceparent":"00-1-2-01","tags":"tenant:acme","data":{"a":[1.5e3,null,"\u00e9\n"]}}]"#;
    assert_eq!(parse(document.as_bytes()).expect("a whole document").len(), 1);
    let mut taken = 0;
    for at in 0..document.len() {
        let cut = document.as_bytes().get(..at).unwrap_or_default();
        assert!(parse(cut).is_err(), "cut at {at}");
        for flip in 1..=u8::MAX {
            let mut damaged = document.as_bytes().to_vec();
            damaged.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
            let is_json = serde_json::from_slice::<serde_json::Value>(&damaged).is_ok();
            let parsed = parse(&damaged);
            assert!(is_json || parsed.is_err(), "byte {at} flipped by {flip}");
            taken += usize::from(parsed.is_ok());
        }
    }
    assert!(taken > document.len(), "letters of values may be others: {taken}");
}
