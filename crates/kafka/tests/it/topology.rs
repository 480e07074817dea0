//! What is there and is otherwise.

use std::time::Duration;

use ensue_core::Code;
use ensue_core::bus::{Bus, Declare, Topology};
use krafka::admin::{CreateTopicsOptions, DeleteTopicsOptions, NewTopic};

use crate::given::{self, PARTITIONS, orders, source};

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_topic_that_is_otherwise_is_refused_and_both_are_named() {
    let broker = given::shared();
    let admin = broker.foreign().await.admin();
    let wanted = || NewTopic::new(broker.topic(&orders()), i32::from(PARTITIONS), 1).expect("a valid topic");
    let fewer = NewTopic::new(broker.topic(&orders()), 2, 1).expect("a valid topic");
    let cases = [
        (fewer, broker.config(), ["2 partitions", "4 are needed"]),
        (
            wanted().with_config("retention.ms", "1000"),
            broker.config().retention(Duration::from_mins(1)),
            ["1000 ms", "60000 ms"],
        ),
        (
            wanted().with_config("cleanup.policy", "compact"),
            broker.config(),
            ["cleanup.policy", "each of them"],
        ),
        (
            wanted().with_config("max.message.bytes", "5000"),
            broker.config(),
            ["5000 bytes", "1000000 are needed"],
        ),
    ];
    let topology = Topology { targets: vec![orders()], sources: Vec::new() };
    for (topic, config, words) in cases {
        let name = topic.name.clone();
        for (_, made) in admin.create_topics([topic], CreateTopicsOptions::default()).await.expect("it runs")
        {
            made.expect("it is made");
        }
        let bus = config.open().await.expect("the broker runs");
        let error = bus.declare(&topology, Declare::Make).await.expect_err("it is otherwise");
        assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
        assert!(words.iter().all(|word| error.message().contains(word)), "{error:?}");
        for (_, gone) in admin.delete_topics([&name], DeleteTopicsOptions::default()).await.expect("it runs")
        {
            gone.expect("it goes");
        }
    }
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn what_is_declared_has_what_was_asked_for() {
    let broker = given::shared();
    let bus = broker.config().retention(Duration::from_secs(90)).open().await.expect("the broker runs");
    let topology = Topology { targets: vec![orders()], sources: vec![source("billing")] };
    let made = bus.declare(&topology, Declare::Make).await.expect("it can be made");
    assert_eq!(made.missing, [format!("topic `{}`", broker.topic(&orders()))]);
    let again = bus.declare(&topology, Declare::Make).await.expect("it is as it should be");
    assert_eq!((again.found, again.missing), (made.missing, Vec::new()));
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_topic_that_is_missing_cannot_be_consumed() {
    let bus = given::shared().bus().await;
    let error = bus.consume(source("billing")).await.map(|_| ()).expect_err("there is no such topic");
    assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}");
}
