//! The shop as two services over NATS: every order ends once, although it is killed twice in mid-stream.

use ensue_shop::demo;
use ensue_shop::linked::Places;
use ensue_test::conformance::bus::Fault;

use crate::given;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn two_hundred_orders_of_two_services_end_once_each_although_nats_is_killed_twice() {
    let broker = given::fresh().await;
    let bus = broker.open().await.expect("the broker runs");
    let folder = tempfile::tempdir().expect("a folder");
    let strike = async || {
        broker.keep_topology().await;
        broker.strike(Fault::Kill).await;
        assert!(!broker.is_alive(), "it was killed");
        broker.strike(Fault::Start).await;
    };
    let report = demo::trial(folder.path(), (&bus, Places::Shared), 200, strike).await;
    let findings = report.expect("every order comes to an end").findings;
    assert_eq!(findings, Vec::<String>::new(), "orders end once, money and stock add up");
}
