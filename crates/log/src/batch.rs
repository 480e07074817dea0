//! Kafka `RecordBatch` v2: how events lie on disk.
//!
//! One batch holds the events of one append: one stream, so one topic-partition. `CloudEvents` attributes are headers as
//! the Kafka binding (binary content mode) names them, the stream's key is the record key, the body the record value.
//! Base offset and leader epoch stand outside the checksum, so the caller's side encodes and checksums, and the sequencer
//! only patches the base offset.
//!
//! Invariant: the bytes after the topic name are what a Kafka broker would store; nothing of ours is mixed in.

use bytes::Bytes;
use ensue_core::cloudevents::for_each_attribute;
use ensue_core::{ContentType, Envelope, EventId, EventType, Key, Source, Tag, Timestamp, Trace};
use smol_str::SmolStr;

use crate::wire::{Malformed, Reader, length_size, patch, put_length, put_zigzag, zigzag_size};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before `batchLength` starts to count.
const PREFIX_BYTES: usize = 12;
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;
const MAGIC: u8 = 2;
/// In front of the name of every attribute but the content type.
const PREFIX: &[u8] = b"ce_";
const CONTENT_TYPE: &[u8] = b"content-type";

/// Appends the batch of these events to `to`. The base offset is zero until the sequencer patches it.
pub(crate) fn encode(to: &mut Vec<u8>, key: &Key, events: &[Envelope]) {
    let start = to.len();
    let base = events.first().map_or(0, |event| event.time.as_millisecond());
    let newest = events.iter().map(|event| event.time.as_millisecond()).max().unwrap_or(base);
    let count = i32::try_from(events.len()).expect("a commit is bounded far below 2^31 events");
    to.extend_from_slice(&0i64.to_be_bytes()); // base offset
    to.extend_from_slice(&0i32.to_be_bytes()); // length, patched below
    to.extend_from_slice(&(-1i32).to_be_bytes()); // leader epoch
    to.push(MAGIC);
    to.extend_from_slice(&0u32.to_be_bytes()); // checksum, patched below
    to.extend_from_slice(&0i16.to_be_bytes()); // attributes: not compressed, create time
    to.extend_from_slice(&(count - 1).to_be_bytes());
    to.extend_from_slice(&base.to_be_bytes());
    to.extend_from_slice(&newest.to_be_bytes());
    to.extend_from_slice(&(-1i64).to_be_bytes()); // no producer id
    to.extend_from_slice(&(-1i16).to_be_bytes());
    to.extend_from_slice(&(-1i32).to_be_bytes());
    to.extend_from_slice(&count.to_be_bytes());
    debug_assert_eq!(to.len() - start, HEADER_BYTES, "the header is as long as the protocol says");
    for (delta, event) in (0i64..).zip(events) {
        encode_record(to, key, event, delta, base);
    }
    let length = i32::try_from(to.len() - start - PREFIX_BYTES).expect("a commit is bounded below 2 GiB");
    patch(to, start + 8, &length.to_be_bytes());
    let checked = to.get(start + CHECKED_FROM..).expect("the header was just written");
    let crc = crc32c::crc32c(checked);
    patch(to, start + CRC_AT, &crc.to_be_bytes());
}

fn encode_record(to: &mut Vec<u8>, key: &Key, event: &Envelope, delta: i64, base: i64) {
    let key = key.as_str().as_bytes();
    let time_delta = event.time.as_millisecond() - base;
    let mut headers = Headers::default();
    headers.of(event);
    let length = 1
        + zigzag_size(time_delta)
        + zigzag_size(delta)
        + length_size(key.len())
        + key.len()
        + length_size(event.data.len())
        + event.data.len()
        + length_size(headers.count)
        + headers.bytes.len();
    to.reserve(length + 5);
    put_length(to, length);
    to.push(0);
    put_zigzag(to, time_delta);
    put_zigzag(to, delta);
    put_length(to, key.len());
    to.extend_from_slice(key);
    put_length(to, event.data.len());
    to.extend_from_slice(&event.data);
    put_length(to, headers.count);
    to.extend_from_slice(&headers.bytes);
}

#[derive(Default)]
struct Headers {
    count: usize,
    bytes: Vec<u8>,
}

impl Headers {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.count += 1;
        put_length(&mut self.bytes, name.len());
        self.bytes.extend_from_slice(name);
        put_length(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(value);
    }

    fn of(&mut self, event: &Envelope) {
        self.bytes.reserve(256);
        let mut name = Vec::from(PREFIX);
        for_each_attribute(event, |attribute, text| {
            name.truncate(PREFIX.len());
            name.extend_from_slice(attribute.as_bytes());
            self.put(&name, text.as_bytes());
        });
        self.put(CONTENT_TYPE, event.content_type.as_str().as_bytes());
    }
}

/// A batch, taken apart.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) key: Key,
    pub(crate) events: Vec<Envelope>,
}

/// How many records a batch holds, without reading them.
pub(crate) fn count(batch: &[u8]) -> Result<usize, Malformed> {
    let field = batch.get(HEADER_BYTES - 4..HEADER_BYTES).ok_or("the batch is cut short")?;
    let field: [u8; 4] = field.try_into().map_err(|_| "the batch is cut short")?;
    usize::try_from(i32::from_be_bytes(field)).map_err(|_| "the batch counts below zero")
}

/// Checks and decodes one whole batch.
pub(crate) fn decode(batch: &Bytes) -> Result<Batch, Malformed> {
    let mut reader = Reader::new(batch.clone());
    let base_offset = reader.i64_be()?;
    let length = usize::try_from(reader.i32_be()?).map_err(|_| "the batch length is negative")?;
    if length != batch.len().saturating_sub(PREFIX_BYTES) {
        return Err("the batch length is not the length of the batch");
    }
    reader.i32_be()?;
    if reader.u8()? != MAGIC {
        return Err("the batch is not of version 2");
    }
    let crc = reader.u32_be()?;
    if crc32c::crc32c(batch.get(CHECKED_FROM..).unwrap_or_default()) != crc {
        return Err("the checksum of the batch does not hold");
    }
    if reader.i16_be()? != 0 {
        return Err("the batch has attributes that are never written");
    }
    let last_delta = reader.i32_be()?;
    let _base_time = reader.i64_be()?;
    let _newest_time = reader.i64_be()?;
    reader.array::<14>()?;
    let count = reader.i32_be()?;
    if count < 1 || last_delta != count - 1 {
        return Err("the batch counts its records wrongly");
    }
    let mut events = Vec::new();
    let mut key = None;
    for delta in 0..i64::from(count) {
        let (record_key, event) = decode_record(&mut reader, delta)?;
        if key.get_or_insert_with(|| record_key.clone()) != &record_key {
            return Err("the batch mixes keys");
        }
        events.push(event);
    }
    if !reader.is_empty() {
        return Err("the batch has bytes after its last record");
    }
    Ok(Batch { base_offset, key: key.ok_or("the batch is empty")?, events })
}

fn decode_record(batch: &mut Reader, delta: i64) -> Result<(Key, Envelope), Malformed> {
    let length = batch.length()?;
    let mut record = Reader::new(batch.take(length)?);
    record.u8()?;
    record.zigzag()?;
    if record.zigzag()? != delta {
        return Err("the records of the batch are out of order");
    }
    let key_length = record.length()?;
    let key = std::str::from_utf8(record.peel(key_length)?).map_err(|_| "a key is not UTF-8")?;
    let key = Key::new(key).map_err(|_| "a key breaks the rule of keys")?;
    let data_length = record.length()?;
    let data = record.take(data_length)?;
    let headers = record.length()?;
    let mut attributes = Attributes::default();
    for _ in 0..headers {
        attributes.read(&mut record)?;
    }
    if !record.is_empty() {
        return Err("a record has bytes after its last header");
    }
    Ok((key, attributes.envelope(data)?))
}

#[derive(Default)]
struct Attributes {
    id: Option<EventId>,
    source: Option<Source>,
    event_type: Option<EventType>,
    schema_version: Option<u32>,
    time: Option<Timestamp>,
    correlation: Option<EventId>,
    causation: Option<EventId>,
    trace: Option<Box<Trace>>,
    tags: Vec<Tag>,
    extensions: Vec<(SmolStr, SmolStr)>,
    content_type: Option<ContentType>,
}

impl Attributes {
    fn read(&mut self, record: &mut Reader) -> Result<(), Malformed> {
        const BAD: Malformed = "an attribute breaks its rule";
        let name_length = record.length()?;
        let name = record.take(name_length)?;
        let value_length = record.length()?;
        let value = record.peel(value_length)?;
        let value = std::str::from_utf8(value).map_err(|_| "an attribute is not UTF-8")?;
        match &*name {
            b"ce_specversion" if value == "1.0" => {}
            b"ce_specversion" => return Err("an event is not of CloudEvents 1.0"),
            b"ce_id" => self.id = Some(EventId::new(value).map_err(|_| BAD)?),
            b"ce_source" => self.source = Some(Source::new(value).map_err(|_| BAD)?),
            b"ce_type" => self.event_type = Some(EventType::new(value).map_err(|_| BAD)?),
            b"ce_time" => self.time = Some(value.parse().map_err(|_| BAD)?),
            CONTENT_TYPE => self.content_type = Some(content_type(value)?),
            b"ce_schemaversion" => self.schema_version = Some(value.parse().map_err(|_| BAD)?),
            b"ce_correlationid" => self.correlation = Some(EventId::new(value).map_err(|_| BAD)?),
            b"ce_causationid" => self.causation = Some(EventId::new(value).map_err(|_| BAD)?),
            b"ce_traceparent" => self.trace().traceparent = value.into(),
            b"ce_tracestate" => self.trace().tracestate = value.into(),
            b"ce_baggage" => self.trace().baggage = value.into(),
            b"ce_tags" => self.tags = read_tags(value).ok_or(BAD)?,
            other => {
                let name = other.strip_prefix(PREFIX).ok_or("a header is no attribute")?;
                let name = std::str::from_utf8(name).map_err(|_| "an attribute is not UTF-8")?;
                self.extensions.push((name.into(), value.into()));
            }
        }
        Ok(())
    }

    fn trace(&mut self) -> &mut Trace {
        self.trace.get_or_insert_default()
    }

    fn envelope(self, data: Bytes) -> Result<Envelope, Malformed> {
        const MISSING: Malformed = "an event lacks a required attribute";
        Ok(Envelope {
            id: self.id.ok_or(MISSING)?,
            source: self.source.ok_or(MISSING)?,
            event_type: self.event_type.ok_or(MISSING)?,
            schema_version: self.schema_version.ok_or(MISSING)?,
            time: self.time.ok_or(MISSING)?,
            correlation: self.correlation,
            causation: self.causation,
            trace: self.trace,
            tags: self.tags,
            extensions: self.extensions,
            content_type: self.content_type.ok_or(MISSING)?,
            data,
        })
    }
}

/// `name:value`, joined by commas; a comma or percent sign in a value is percent-encoded.
fn read_tags(text: &str) -> Option<Vec<Tag>> {
    let read = |tag: &str| {
        let (name, value) = tag.split_once(':')?;
        if !value.contains('%') {
            return Tag::new(name, value).ok();
        }
        Tag::new(name, value.replace("%2C", ",").replace("%25", "%")).ok()
    };
    text.split(',').map(read).collect()
}

/// Nearly every event is JSON, and that name needs neither a check nor an allocation.
fn content_type(value: &str) -> Result<ContentType, Malformed> {
    if value == "application/json" {
        return Ok(ContentType::json());
    }
    ContentType::new(value).map_err(|_| "an attribute breaks its rule")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        Envelope {
            id: EventId::new("evt-1").expect("an id"),
            source: Source::new("shop").expect("a source"),
            event_type: EventType::new("OrderPlaced").expect("a type"),
            schema_version: 2,
            time: Timestamp::from_microsecond(1_700_000_000_123_456).expect("a time"),
            correlation: Some(EventId::new("cmd-1").expect("an id")),
            causation: None,
            trace: None,
            tags: vec![
                Tag::new("customer_id", "C,3%2C").expect("a tag"),
                Tag::new("a", "b:c").expect("a tag"),
            ],
            extensions: vec![("region".into(), "eu".into())],
            content_type: ContentType::json(),
            data: Bytes::from_static(b"{}"),
        }
    }

    fn encoded(events: &[Envelope]) -> Bytes {
        let mut bytes = Vec::new();
        encode(&mut bytes, &Key::new("ORD-1").expect("a key"), events);
        bytes.into()
    }

    #[test]
    fn a_batch_decodes_to_what_was_encoded() {
        let bare = Envelope { correlation: None, tags: Vec::new(), extensions: Vec::new(), ..sample() };
        let trace = Trace { traceparent: "00-1-2-01".into(), ..Trace::default() };
        let traced = Envelope { trace: Some(Box::new(trace)), causation: Some(sample().id), ..sample() };
        let events = vec![sample(), bare, traced];
        let batch = encoded(&events);
        assert_eq!(count(&batch), Ok(3));
        let key = Key::new("ORD-1").expect("a key");
        assert_eq!(decode(&batch), Ok(Batch { base_offset: 0, key, events }));
    }

    #[test]
    fn a_damaged_batch_is_refused_and_never_panics() {
        let batch = encoded(&[sample()]);
        for at in 12..batch.len() {
            let mut damaged = batch.to_vec();
            crate::wire::patch(&mut damaged, at, &[batch.get(at).copied().unwrap_or_default() ^ 0x21]);
            let is_epoch = (12..16).contains(&at);
            assert_eq!(decode(&damaged.into()).is_ok(), is_epoch, "byte {at}");
            assert!(decode(&batch.slice(..at)).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_header_lies_as_kafka_says() {
        let batch = encoded(&[sample(), sample()]);
        let text: Vec<u8> = batch.iter().copied().take(HEADER_BYTES).collect();
        let length = u32::try_from(batch.len() - 12).expect("short").to_be_bytes();
        let crc = crc32c::crc32c(batch.get(21..).expect("whole")).to_be_bytes();
        let time = 1_700_000_000_123i64.to_be_bytes();
        let expected = [
            &[0; 8][..],
            &length,
            &[0xff; 4],
            &[2],
            &crc,
            &[0, 0],
            &[0, 0, 0, 1],
            &time,
            &time,
            &[0xff; 14],
            &[0, 0, 0, 2],
        ]
        .concat();
        assert_eq!(text, expected);
    }
}
