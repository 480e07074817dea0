//! The shop as two services over Kafka: every order ends once, although it is killed twice in mid-stream.

use ensue_shop::Style;
use ensue_shop::demo;
use ensue_shop::linked::Places;
use ensue_test::conformance::bus::kill_and_start;

use crate::own;

const ORDERS: u64 = 200;

async fn every_order_ends_once(style: Style) {
    let broker = own::fresh().await;
    let bus = broker.open().await.expect("the broker runs");
    let folder = tempfile::tempdir().expect("a folder");
    let strike = async || kill_and_start(&*broker).await;
    let report = demo::trial(folder.path(), (&bus, Places::Shared), (style, ORDERS), strike).await;
    let findings = report.expect("every order comes to an end").findings;
    assert_eq!(findings, Vec::<String>::new(), "orders end once, money and stock add up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn orders_of_two_services_end_once_each_although_kafka_is_killed_twice() {
    every_order_ends_once(Style::Choreography).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn orders_of_a_saga_across_kafka_end_once_each_although_it_is_killed_twice() {
    every_order_ends_once(Style::Saga).await;
}
