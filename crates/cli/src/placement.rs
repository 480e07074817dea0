//! Where an event that comes in belongs: its stream, found from what is known of its type.
//!
//! Asked in this order: the types that this binary knows, the catalogues that applications left in the store, the
//! `--stream` of the caller, what the event says of itself. Nothing is guessed: an event without a place is refused.

use ensue::core::cloudevents::Parsed;
use ensue::core::{Code, Envelope, Error, Host, Source, StreamName, Tag};
use ensue::runtime::Catalogue;
use ensue::runtime::catalogue::EventEntry;
use ensue::runtime::door::{Registration, Registry};

/// What is known of types, and what the caller says.
pub(crate) struct Places<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) catalogues: &'a [Catalogue],
    /// `--stream`.
    pub(crate) stream: Option<&'a StreamName>,
    /// Where an event comes from that does not say it.
    pub(crate) source: &'a Source,
    pub(crate) host: &'a Host,
}

/// An event with its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) stream: StreamName,
    pub(crate) envelope: Envelope,
}

impl Places<'_> {
    /// Completes the event and finds its stream.
    ///
    /// Errors: `E0104` for a type that nobody knows, without a stream; `E0105` and `E0106` for a body that does not fit
    /// its type; `E0701` where `--stream` contradicts what the type says.
    pub(crate) fn place(&self, parsed: Parsed) -> Result<Placed, Error> {
        let known = self.registry.get(parsed.event_type.as_str());
        let declared =
            self.catalogues.iter().find_map(|catalogue| catalogue.events.get(parsed.event_type.as_str()));
        let newest = known.map(|known| known.info.version).or(declared.map(|entry| entry.version));
        let own = Own { stream: parsed.stream(), key: parsed.key_hint().map(str::to_owned) };
        let mut parsed = parsed.filled(self.host, self.source);
        parsed.schema_version = parsed.schema_version.or(newest);
        let mut envelope = parsed.into_envelope()?;
        let by_type = match (known, declared) {
            (Some(known), _) => Some(by_registration(known, &mut envelope)?),
            (None, Some(entry)) => by_catalogue(entry, &envelope, own.key.as_deref())?,
            (None, None) => None,
        };
        let stream = match (by_type, self.stream) {
            (Some(stream), Some(said)) if stream != *said => {
                return Err(contradiction(&envelope, &stream, said));
            }
            (Some(stream), _) => stream,
            (None, Some(said)) => said.clone(),
            (None, None) => own.stream?.ok_or_else(|| unplaced(&envelope))?,
        };
        Ok(Placed { stream, envelope })
    }
}

/// What an event says of its place itself.
struct Own {
    stream: Result<Option<StreamName>, Error>,
    key: Option<String>,
}

/// The stream that a type names; the tags that it gives join those that the event came with.
fn by_registration(known: &Registration, envelope: &mut Envelope) -> Result<StreamName, Error> {
    let place = known.check(envelope)?;
    let missing: Vec<Tag> = place.tags.into_iter().filter(|tag| !envelope.tags.contains(tag)).collect();
    envelope.tags.extend(missing);
    Ok(place.stream)
}

/// The stream that a catalogue names: the key is a field of the body, or where it is computed, the event's own hint.
fn by_catalogue(
    entry: &EventEntry,
    envelope: &Envelope,
    hint: Option<&str>,
) -> Result<Option<StreamName>, Error> {
    if entry.key_field.is_empty() {
        return hint.map(|key| StreamName::new(&entry.topic, key)).transpose();
    }
    let body: serde_json::Value = serde_json::from_slice(&envelope.data).map_err(|cause| {
        Error::new(Code::INVALID_BODY, format!("the data of {} is not JSON: {cause}", envelope.event_type))
    })?;
    let field = entry.key_field.split('.').try_fold(&body, |value, name| value.get(name));
    let key = match field {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        _ => {
            let message = format!(
                "{} belongs to topic {} under its `{}`, which the data does not have as text or number",
                envelope.event_type, entry.topic, entry.key_field
            );
            return Err(Error::new(Code::INVALID_BODY, message));
        }
    };
    StreamName::new(&entry.topic, key).map(Some)
}

fn contradiction(envelope: &Envelope, stream: &StreamName, said: &StreamName) -> Error {
    Error::new(
        Code::USAGE,
        format!("this {} belongs to {stream}, but `--stream` says {said}", envelope.event_type),
    )
    .with_fix("leave `--stream` out: the type knows its stream")
}

fn unplaced(envelope: &Envelope) -> Error {
    Error::new(
        Code::UNKNOWN_TYPE,
        format!("nothing that has run on this store declares {}", envelope.event_type),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ensue::core::cloudevents::{Incoming, parse};
    use std::collections::BTreeMap;

    fn placed(document: &str, stream: Option<&str>) -> Result<String, Error> {
        let entry =
            |key_field: &str| EventEntry { version: 3, topic: "Order".into(), key_field: key_field.into() };
        let events = BTreeMap::from([
            ("OrderPlaced".to_owned(), entry("order_id")),
            ("OrderNested".to_owned(), entry("order.id")),
            ("OrderComputed".to_owned(), entry("")),
        ]);
        let catalogues = [Catalogue { application: "shop".into(), events, ..Catalogue::default() }];
        let stream: Option<StreamName> = stream.map(|name| name.parse().expect("a stream name"));
        let places = Places {
            registry: &Registry::default(),
            catalogues: &catalogues,
            stream: stream.as_ref(),
            source: &Source::new("test").expect("a source"),
            host: &ensue::runtime::host::system(),
        };
        let incoming = parse(document.as_bytes())?;
        let [Incoming::Event(event)] = incoming.as_slice() else { panic!("one event: {document}") };
        let placed = places.place((**event).clone())?;
        Ok(format!("{} v{}", placed.stream, placed.envelope.schema_version))
    }

    fn plain(event_type: &str, data: &str) -> String {
        format!(r#"{{"event_type":"{event_type}","data":{data}}}"#)
    }

    #[test]
    fn a_declared_type_knows_its_stream_and_newest_version() {
        assert_eq!(
            placed(&plain("OrderPlaced", r#"{"order_id":"O-1"}"#), None).expect("a place"),
            "Order/O-1 v3"
        );
        assert_eq!(
            placed(&plain("OrderNested", r#"{"order":{"id":7}}"#), None).expect("a place"),
            "Order/7 v3"
        );
    }

    #[test]
    fn a_body_without_its_key_is_refused() {
        let error = placed(&plain("OrderPlaced", r#"{"order":"O-1"}"#), None).expect_err("no key");
        assert_eq!(error.code(), Code::INVALID_BODY);
        assert!(error.message().contains("`order_id`"), "{error}");
    }

    #[test]
    fn an_unknown_type_needs_a_stream_from_somebody() {
        let error = placed(&plain("Unheard", "{}"), None).expect_err("no place");
        assert_eq!(error.code(), Code::UNKNOWN_TYPE);
        assert_eq!(placed(&plain("Unheard", "{}"), Some("Any/1")).expect("a place"), "Any/1 v1");
        let cloud =
            r#"{"specversion":"1.0","id":"1","source":"s","type":"Unheard","subject":"S-1","topic":"Top"}"#;
        assert_eq!(placed(cloud, None).expect("a place"), "Top/S-1 v1");
        assert_eq!(placed(cloud, Some("Any/1")).expect("the caller decides"), "Any/1 v1");
    }

    #[test]
    fn a_stream_that_contradicts_the_type_is_refused() {
        let document = plain("OrderPlaced", r#"{"order_id":"O-1"}"#);
        assert_eq!(placed(&document, Some("Order/O-2")).expect_err("another").code(), Code::USAGE);
        assert_eq!(placed(&document, Some("Order/O-1")).expect("the same"), "Order/O-1 v3");
    }

    #[test]
    fn a_computed_key_comes_from_the_event_or_the_caller() {
        let cloud = r#"{"specversion":"1.0","id":"1","source":"s","type":"OrderComputed","subject":"S-1"}"#;
        assert_eq!(placed(cloud, None).expect("a place"), "Order/S-1 v3");
        assert_eq!(placed(&plain("OrderComputed", "{}"), Some("Order/9")).expect("a place"), "Order/9 v3");
        assert_eq!(
            placed(&plain("OrderComputed", "{}"), None).expect_err("no key").code(),
            Code::UNKNOWN_TYPE
        );
    }

    #[derive(ensue::Event, serde::Serialize, serde::Deserialize)]
    #[event(topic = "Bill", key = bill_id, tags(customer_id), validate = BillSent::check)]
    struct BillSent {
        bill_id: String,
        customer_id: String,
        cents: i64,
    }

    impl BillSent {
        fn check(&self) -> Result<(), String> {
            if self.cents > 0 { Ok(()) } else { Err(format!("`cents` is {}, not more than 0", self.cents)) }
        }
    }

    fn registered(data: &str) -> Result<Placed, Error> {
        let places = Places {
            registry: &Registry::default().event::<BillSent>(),
            catalogues: &[],
            stream: None,
            source: &Source::new("test").expect("a source"),
            host: &ensue::runtime::host::system(),
        };
        let incoming = parse(plain("BillSent", data).as_bytes())?;
        let [Incoming::Event(event)] = incoming.as_slice() else { panic!("one event: {data}") };
        places.place((**event).clone())
    }

    #[test]
    fn a_registered_type_gives_stream_and_tags_and_keeps_the_body_as_it_came() {
        let body = r#"{"cents": 5, "bill_id": "B-1", "customer_id": "C-1"}"#;
        let placed = registered(body).expect("a good bill");
        assert_eq!(placed.stream.to_string(), "Bill/B-1");
        assert_eq!(placed.envelope.tags, [Tag::new("customer_id", "C-1").expect("a tag")]);
        assert_eq!(placed.envelope.data, body);
    }

    #[test]
    fn a_registered_type_refuses_what_does_not_fit_or_breaks_its_rule() {
        let error = registered(r#"{"bill_id":"B-1","cents":5}"#).expect_err("a field is missing");
        assert_eq!(error.code(), Code::INVALID_BODY);
        let error =
            registered(r#"{"bill_id":"B-1","customer_id":"C","cents":0}"#).expect_err("nothing to pay");
        assert_eq!(error.code(), Code::RULE_BROKEN);
        assert!(error.message().contains("`cents`"), "{error}");
    }
}
