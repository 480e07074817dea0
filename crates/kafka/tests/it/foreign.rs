//! What somebody else reads and writes.

use std::collections::BTreeMap;
use std::time::Duration;

use ensue_core::Code;
use ensue_core::bus::{Delivery, Mode, Settled};
use ensue_core::cloudevents::{Binding, json};
use krafka::Record;
use krafka::admin::CreateTopicsOptions;
use krafka::consumer::AutoOffsetReset;

use crate::given::{self, PARTITIONS, declare, join, message, next, orders, publish};

/// What the Java client makes of the key `foobar`, from its own tests.
const FOOBAR: i32 = -790_332_482;

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_foreign_reader_finds_the_key_its_partition_and_plain_headers() {
    let broker = given::shared();
    let (bus, foreign) = (broker.bus().await, broker.foreign().await);
    declare(&bus).await;
    publish(&bus, vec![message("foobar", "one", Mode::Binary)]).await;
    let consumer = foreign.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
    let consumer = consumer.build().await.expect("it starts");
    consumer.subscribe([broker.topic(&orders())]).await.expect("the topic is there");
    let record = consumer.recv().await.expect("the broker runs").expect("it is open");
    let wanted = (FOOBAR & i32::MAX) % i32::from(PARTITIONS);
    assert_eq!((record.key_str(), record.partition), (Some("foobar"), wanted));
    assert_eq!(record.value_str(), Some("{\"total\":7}"));
    let headers = |name| record.header_str(name);
    assert_eq!(headers("ce_id"), Some("one"));
    assert_eq!(headers("ce_type"), Some("OrderPlaced"));
    assert_eq!(headers("ce_specversion"), Some("1.0"));
    assert_eq!(headers("content-type"), Some("application/json"));
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn what_a_foreign_writer_sends_is_handed_over_as_it_is() {
    let broker = given::shared();
    let (bus, foreign) = (broker.bus().await, broker.foreign().await);
    declare(&bus).await;
    let topic = broker.topic(&orders());
    let structured = r#"{"specversion":"1.0","id":"two","source":"crm","type":"Called","data":{"a":1}}"#;
    let records = [
        Record::new(&topic, "{}").key("K").header("ce_specversion", "1.0").header("ce_id", "one"),
        Record::new(&topic, structured).header("content-type", "application/cloudevents+json; charset=UTF-8"),
        Record::new(&topic, b"\x00\x00\x00\x00\x2aavro".to_vec()).key("K").header("x", "1").header("x", "2"),
        Record::tombstone(&topic, b"\xff\xfe".to_vec()),
    ];
    let producer = foreign.producer().build().await.expect("it starts");
    for record in records {
        assert!(producer.send(record).await.expect("the broker keeps it").is_persisted());
    }
    let mut consumer = join(&bus, "billing").await;
    let mut came: Vec<Delivery> = Vec::new();
    while came.len() < 4 {
        let deliveries = next(&mut consumer).await;
        let acks = deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect();
        for settled in consumer.settle(acks).await {
            settled.expect("it can be settled");
        }
        came.extend(deliveries);
    }
    let by_body: BTreeMap<&[u8], &Delivery> =
        came.iter().map(|delivery| (&delivery.message.body[..], delivery)).collect();
    let of_body = |body: &[u8]| *by_body.get(body).expect("it has come");
    let binary = of_body(b"{}");
    assert_eq!((binary.key.as_deref(), &binary.from), (Some("K"), &orders()));
    let names: Vec<&str> = binary.message.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ce_specversion", "ce_id"]);
    assert!(names.iter().all(|name| Binding::Kafka.attribute(name).is_some()));
    let event = json::parse(&of_body(structured.as_bytes()).message.body).expect("the event reads");
    assert_eq!(event.id.expect("an id").as_str(), "two");
    let avro = of_body(b"\x00\x00\x00\x00\x2aavro");
    let values: Vec<&[u8]> = avro.message.headers.iter().map(|(_, value)| &value[..]).collect();
    assert_eq!(values, [b"1", b"2"], "a header that comes twice is there twice, in order");
    let tombstone = of_body(b"");
    assert_eq!(tombstone.key, None, "a key that is no text is not made into one");
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_topic_of_somebody_else_that_takes_less_is_asked_for_its_limit() {
    let broker = given::shared();
    let (bus, foreign) = (broker.bus().await, broker.foreign().await);
    let topic = broker.topic(&orders());
    let small = krafka::admin::NewTopic::new(&topic, 1, 1).expect("a valid topic");
    let small = small.with_config("max.message.bytes", "2000");
    let admin = foreign.admin();
    for (_, made) in
        admin.create_topics([small], CreateTopicsOptions::default()).await.expect("the broker runs")
    {
        made.expect("it is made");
    }
    let mut large = message("A", "large", Mode::Binary);
    large.envelope.data = vec![b'1'; 3000].into();
    let batch = (0..9).map(|number| message("A", &format!("small-{number}"), Mode::Binary));
    let answers = bus.publish(batch.chain([large, message("A", "behind", Mode::Binary)]).collect()).await;
    let codes: Vec<Option<Code>> =
        answers.iter().map(|answer| answer.as_ref().err().map(ensue_core::Error::code)).collect();
    let wanted = [vec![None; 9], vec![Some(Code::TOO_LARGE); 2]].concat();
    assert_eq!(codes, wanted, "nine of them do not fit into one batch, and still arrive: {answers:?}");
    let ends = admin.list_offsets(
        [(krafka::admin::TopicPartition::new(&topic, 0), krafka::admin::OffsetSpec::Latest)],
        krafka::admin::ListOffsetsOptions::default().timeout(Duration::from_secs(5)),
    );
    let end = ends.await.expect("the broker runs").into_values().next().expect("one partition");
    assert_eq!(end.expect("it has an end").offset, 9);
}
