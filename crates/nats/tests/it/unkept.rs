//! Messages that the server does not keep at the moment: each says that it may keep them later, and then it does.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use ensue_core::bus::{Bus, Mode, Outgoing};
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName};
use ensue_core::{Code, Envelope, Error, Timestamp};
use ensue_test::conformance::bus::Broker;

use crate::cluster::Cluster;
use crate::given;

fn order(to: &str, id: &str) -> Outgoing {
    Outgoing {
        to: Channel::new(to).expect("a valid channel"),
        stream: StreamName::new("Order", "A").expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("unkept").expect("a valid source"),
            event_type: EventType::new("OrderPlaced").expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: "{}".into(),
        },
        mode: Mode::Binary,
    }
}

async fn publish(bus: &dyn Bus, to: &str, id: &str) -> Result<(), Error> {
    bus.publish(vec![order(to, id)]).await.remove(0).map(drop)
}

fn shop() -> Config {
    Config { name: "SHOP".into(), subjects: vec!["shop.>".into()], ..Config::default() }
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_full_stream_takes_nothing_until_it_has_room_and_says_so_as_a_full_queue_does() {
    let server = given::server().await;
    let (foreign, bus) = (server.foreign().await, server.open().await.expect("the server runs"));
    let full = Config { max_messages: 1, discard: DiscardPolicy::New, ..shop() };
    let stream = foreign.create_stream(full).await.expect("the server takes it");
    publish(&*bus, "shop.orders", "1").await.expect("there is room for one");
    let error = publish(&*bus, "shop.orders", "2").await.expect_err("it is full");
    assert_eq!(error.code(), Code::BUS_TIMEOUT, "{error:?}");
    assert!(error.is_retryable() && error.message().contains("maximum messages"), "{error:?}");
    stream.purge().await.expect("it can be emptied");
    publish(&*bus, "shop.orders", "2").await.expect("there is room again");
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_message_that_is_too_large_for_its_stream_is_said_to_be_that() {
    let server = given::server().await;
    let (foreign, bus) = (server.foreign().await, server.open().await.expect("the server runs"));
    let narrow = Config { max_message_size: 10, ..shop() };
    foreign.create_stream(narrow).await.expect("the server takes it");
    let error = publish(&*bus, "shop.orders", "1").await.expect_err("it is too large");
    assert_eq!(error.code(), Code::TOO_LARGE, "{error:?}");
}

/// "No responders" is what NATS says of a subject that no stream keeps, and of one whose stream is on a server that is down.
#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn a_stream_without_a_leader_is_waited_for_and_is_not_taken_for_one_that_is_not_there() {
    let cluster = Cluster::start();
    let keeper = cluster.keep_on_one(shop()).await;
    let bus = cluster.bus_without(&keeper).await;
    publish(&bus, "shop.orders", "1").await.expect("the stream has its leader");
    cluster.kill(&keeper);
    loop {
        let error = publish(&bus, "shop.orders", "2").await.expect_err("its only copy is down");
        assert!(error.is_retryable(), "{error:?}");
        if error.code() == Code::BUS_UNREACHABLE && error.message().contains("has no leader") {
            break;
        }
    }
    let unkept = publish(&bus, "nobody.keeps.this", "3").await.expect_err("there is no such stream");
    assert_eq!(unkept.code(), Code::BUS_UNROUTABLE, "{unkept:?}");
    cluster.start_again(&keeper);
    while let Err(error) = publish(&bus, "shop.orders", "2").await {
        assert!(error.is_retryable(), "{error:?}");
    }
}
