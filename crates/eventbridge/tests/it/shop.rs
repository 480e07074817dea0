//! The shop as two services over `EventBridge`: every order ends once, although the fake of it is killed twice in mid-stream.
//!
//! The fake forgets what is in its memory and makes the requests again that it has recorded, so whatever was taken before the kill comes once
//! more, and is recognised.

use ensue_shop::Style;
use ensue_shop::demo;
use ensue_shop::linked::Places;
use ensue_test::conformance::bus::kill_and_start;

use crate::given;

const ORDERS: u64 = 200;

async fn every_order_ends_once(style: Style) {
    let broker = given::fresh().await;
    let bus = broker.open().await.expect("the address is understood");
    let folder = tempfile::tempdir().expect("a folder");
    let strike = async || kill_and_start(&*broker).await;
    let report = demo::trial(folder.path(), (&bus, Places::Fed), (style, ORDERS), strike).await;
    let findings = report.expect("every order comes to an end").findings;
    assert_eq!(findings, Vec::<String>::new(), "orders end once, money and stock add up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto: cargo xtask test"]
async fn orders_of_two_services_end_once_each_although_eventbridge_is_killed_twice() {
    every_order_ends_once(Style::Choreography).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto: cargo xtask test"]
async fn orders_of_a_saga_across_eventbridge_end_once_each_although_it_is_killed_twice() {
    every_order_ends_once(Style::Saga).await;
}
