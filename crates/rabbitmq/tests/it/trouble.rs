//! Bad input and bad luck that only this broker knows.

use std::time::Duration;

use bytes::Bytes;
use ensue_core::bus::{Bus, Consume, Declare, Feed, Mode, Outgoing, Settled, Topology};
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName, SubscriptionName};
use ensue_core::{Code, Envelope, Error, Timestamp};
use ensue_rabbitmq::{Config, RabbitmqBus};
use ensue_test::certificates::certify;
use ensue_test::server::free_port;

use crate::given;

fn name(text: &str) -> Channel {
    Channel::new(text).expect("a valid channel")
}

fn event(to: &str, key: &str, id: &str) -> Outgoing {
    Outgoing {
        to: name(to),
        stream: StreamName::new("Order", key).expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("trouble").expect("a valid source"),
            event_type: EventType::new("OrderPlaced").expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: Bytes::from_static(b"{}"),
        },
        mode: Mode::Binary,
    }
}

/// An exchange that feeds a queue of the same name.
async fn declare(bus: &RabbitmqBus, exchange: &str) -> Consume {
    let group = SubscriptionName::new("billing").expect("a valid name");
    let source =
        Consume { group, from: name(exchange), fed_by: Some(Feed { from: name(exchange), filter: None }) };
    let topology = Topology { targets: vec![name(exchange)], sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.expect("the topology can be made");
    source
}

fn codes<T>(answers: &[Result<T, Error>]) -> Vec<Option<Code>> {
    answers.iter().map(|answer| answer.as_ref().err().map(Error::code)).collect()
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn of_a_batch_exactly_what_no_queue_takes_is_unroutable() {
    let server = given::here().await;
    let bus = server.config().open().await.expect("the address is understood");
    let orders = declare(&bus, "orders").await;
    let nobody = Topology { targets: vec![name("nobody")], sources: Vec::new() };
    bus.declare(&nobody, Declare::Make).await.expect("an exchange without queues can be made");
    // Each has a key of its own, so all are under way at once, and the broker confirms many of them in one answer.
    for turn in 0..10 {
        let is_lost = |number: u32| number % 3 == turn % 3;
        let batch = (0..200).map(|number| {
            let to = if is_lost(number) { "nobody" } else { "orders" };
            event(to, &format!("K{number}"), &format!("{turn}-{number}"))
        });
        let answers = bus.publish(batch.collect()).await;
        let wanted: Vec<_> = (0..200).map(|number| is_lost(number).then_some(Code::BUS_UNROUTABLE)).collect();
        assert_eq!(codes(&answers), wanted, "turn {turn}");
    }
    let mut consumer = bus.consume(orders).await.expect("the group can be joined");
    let lost: usize = (0..10).map(|turn| (0..200).filter(|number| number % 3 == turn % 3).count()).sum();
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some((2000 - lost) as u64));
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn headers_that_no_frame_holds_are_refused_and_delay_nobody() {
    let server = given::here().await;
    let bus = server.config().open().await.expect("the address is understood");
    declare(&bus, "orders").await;
    let mut large = event("orders", "A", "large");
    large.envelope.extensions = vec![("note".into(), "x".repeat(200_000).into())];
    let mut fits = event("orders", "B", "fits");
    fits.envelope.extensions = vec![("note".into(), "x".repeat(130_000).into())];
    let answers = bus.publish(vec![large, fits, event("orders", "C", "small")]).await;
    assert_eq!(codes(&answers), [Some(Code::TOO_LARGE), None, None], "{answers:?}");
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn a_broker_short_of_memory_takes_nothing_and_still_lets_messages_be_settled() {
    let server = given::own_with(|_| String::new()).await;
    // Long enough to have a message in hand while publishing fails twice.
    let config = server.config().settle_within(Duration::from_mins(1));
    let bus = config.open().await.expect("the address is understood");
    let orders = declare(&bus, "orders").await;
    assert_eq!(codes(&bus.publish(vec![event("orders", "A", "before")]).await), [None]);
    let mut consumer = bus.consume(orders.clone()).await.expect("the group can be joined");
    let before = consumer.next(1).await.expect("the broker runs").remove(0);
    server.tell("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).");
    let answers = bus.publish(vec![event("orders", "A", "first")]).await;
    assert_eq!(codes(&answers), [Some(Code::BUS_TIMEOUT)], "the broker learns of it by reading no further");
    let answer =
        bus.publish(vec![event("orders", "A", "second")]).await.remove(0).expect_err("it takes nothing");
    assert_eq!(answer.code(), Code::BUS_UNREACHABLE, "{answer:?}");
    assert!(answer.message().contains("takes no messages at the moment"), "{answer:?}");
    consumer.settle(vec![Settled::Ack(before.token)]).await.remove(0).expect("settling needs no memory");
    server.tell("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).");
    while let Err(error) = bus.publish(vec![event("orders", "A", "third")]).await.remove(0) {
        assert!(error.is_retryable(), "{error:?}");
    }
    // The one whose outcome was open has come as well.
    let mut came = 0;
    while came < 2 {
        came += consumer.next(10).await.expect("the broker runs").len();
    }
    assert_eq!(came, 2);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn what_was_not_settled_in_time_comes_again_and_cannot_be_settled_late() {
    let server = given::here().await;
    let config = server.config().settle_within(Duration::from_secs(2));
    let bus = config.open().await.expect("the address is understood");
    let orders = declare(&bus, "orders").await;
    assert_eq!(codes(&bus.publish(vec![event("orders", "A", "slow")]).await), [None]);
    let mut consumer = bus.consume(orders).await.expect("the group can be joined");
    let first = consumer.next(1).await.expect("the broker runs").remove(0);
    let again = consumer.next(1).await.expect("the broker runs").remove(0);
    assert_eq!((first.attempt, again.attempt), (1, 2));
    assert_eq!(again.message.body, first.message.body);
    let answers = consumer.settle(vec![Settled::Ack(first.token), Settled::Ack(again.token)]).await;
    assert_eq!(codes(&answers), [Some(Code::BUS_TOO_LATE), None]);
    assert_eq!(consumer.lag().await.expect("the broker runs"), Some(0));
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn over_tls_both_sides_show_certificates_that_the_other_trusts() {
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
    certify(folder.path());
    let file = |name: &str| folder.path().join(name);
    let _server = given::own_with(|_| {
        format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
            file("ca.crt").display(),
            file("server.crt").display(),
            file("server.key").display(),
        )
    })
    .await;
    let url = |host: &str| format!("amqps://guest:guest@{host}:{port}/%2f");
    let client = |config: Config| config.certificate(file("client.crt"), file("client.key"));
    let good = client(Config::new(url("127.0.0.1")).authorities(file("ca.crt")));
    let bus = good.open().await.expect("the address is understood");
    let orders = declare(&bus, "orders").await;
    assert_eq!(codes(&bus.publish(vec![event("orders", "A", "secret")]).await), [None]);
    let mut consumer = bus.consume(orders).await.expect("the group can be joined");
    assert_eq!(consumer.next(1).await.expect("the broker runs").remove(0).key.as_deref(), Some("A"));
    let bad = [
        client(Config::new(url("127.0.0.1")).authorities(file("stranger.crt"))),
        client(Config::new(url("localhost")).authorities(file("ca.crt"))),
        Config::new(url("127.0.0.1")).authorities(file("ca.crt")),
    ];
    for config in bad {
        let shown = format!("{config:?}");
        let refused = config.answer_within(Duration::from_secs(3)).open().await.map(drop);
        let error = refused.expect_err(&shown);
        assert_eq!(error.code(), Code::BUS_ADDRESS, "{shown}: {error:?}");
    }
    let absent = Config::new(url("127.0.0.1")).authorities(file("no.crt")).open().await;
    let error = absent.map(drop).expect_err("there is no such file");
    assert_eq!(error.code(), Code::BUS_ADDRESS, "{error:?}");
}
