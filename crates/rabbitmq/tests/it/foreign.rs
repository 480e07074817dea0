//! What somebody else does with the same broker.

use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Declare, Delivery, Feed, Settled, Topology};
use ensue_core::name::{Channel, SubscriptionName};
use ensue_core::{Code, Kind};
use ensue_rabbitmq::RabbitmqBus;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

use crate::given::{self, Server};

fn name(text: &str) -> Channel {
    Channel::new(text).expect("a valid channel")
}

fn source(queue: &str, fed_by: Option<(&str, Option<&str>)>) -> Consume {
    let fed_by =
        fed_by.map(|(exchange, filter)| Feed { from: name(exchange), filter: filter.map(Into::into) });
    Consume { group: SubscriptionName::new("billing").expect("a valid name"), from: name(queue), fed_by }
}

async fn declare(bus: &RabbitmqBus, source: &Consume) -> Result<(), ensue_core::Error> {
    let topology = Topology { targets: Vec::new(), sources: vec![source.clone()] };
    bus.declare(&topology, Declare::Make).await.map(drop)
}

async fn channel(server: &Server) -> (lapin::Connection, lapin::Channel) {
    let connection = server.foreign().await;
    let channel = connection.create_channel().await.expect("the broker runs");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker confirms");
    (connection, channel)
}

async fn send(channel: &lapin::Channel, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
    assert!(sent.expect("it is sent").await.expect("it is confirmed").is_ack());
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    let (_, value) = delivery.message.headers.iter().find(|(header, _)| header == name)?;
    std::str::from_utf8(value).ok()
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn a_foreign_message_arrives_whole_also_after_it_was_put_off_and_refused() {
    let server = given::here().await;
    let bus = server.config().open().await.expect("the address is understood");
    let (_connection, channel) = channel(&server).await;
    let orders = source("orders", Some(("shop", Some("order.*"))));
    declare(&bus, &orders).await.expect("the topology can be made");
    let mut headers = FieldTable::default();
    headers.insert("NServiceBus.CorrelationId".into(), AMQPValue::LongString("c-1".into()));
    headers.insert("retries".into(), AMQPValue::LongLongInt(3));
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("orders".into())].into()));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_correlation_id("c-2".into())
        .with_reply_to("answers".into())
        .with_user_id("guest".into())
        .with_message_id("m-1".into());
    send(&channel, "shop", "order.placed", b"\x00 no event", properties).await;
    let mut consumer = bus.consume(orders.clone()).await.expect("the group can be joined");
    for attempt in 1..=3 {
        let delivery = consumer.next(1).await.expect("the broker runs").remove(0);
        assert_eq!((&delivery.message.body[..], delivery.attempt), (&b"\x00 no event"[..], attempt));
        for (name, value) in [
            ("NServiceBus.CorrelationId", "c-1"),
            ("retries", "3"),
            ("CC", "[\"orders\"]"),
            ("amqp:correlation-id", "c-2"),
            ("amqp:reply-to", "answers"),
            ("amqp:user-id", "guest"),
            ("amqp:message-id", "m-1"),
            ("amqp:exchange", "shop"),
            ("amqp:routing-key", "order.placed"),
        ] {
            assert_eq!(header(&delivery, name), Some(value), "{name} at attempt {attempt}: {delivery:?}");
        }
        assert_eq!(header(&delivery, "x-death"), None, "the broker's notes are not the publisher's");
        let settled = match attempt {
            1 => Settled::Nack(delivery.token, Duration::from_millis(100)),
            2 => Settled::Nack(delivery.token, Duration::ZERO),
            _ => Settled::Reject(delivery.token, "it is no event".to_owned()),
        };
        consumer.settle(vec![settled]).await.remove(0).expect("it can be settled");
    }
    let dead = source("orders.dead", None);
    let mut consumer = bus.consume(dead).await.expect("the dead letters can be read");
    let delivery = consumer.next(1).await.expect("the broker runs").remove(0);
    assert_eq!(header(&delivery, "x-ensue-reason"), Some("it is no event"));
    assert_eq!(header(&delivery, "amqp:routing-key"), Some("order.placed"));
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn a_queue_that_cannot_keep_the_promises_is_refused_and_left_alone() {
    let server = given::here().await;
    let bus = server.config().open().await.expect("the address is understood");
    let (_connection, channel) = channel(&server).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let forgetful = QueueDeclareOptions::default();
    for (queue, options) in [("classic", durable), ("forgetful", forgetful)] {
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("it can be made");
    }
    let fed =
        declare(&bus, &source("classic", Some(("shop", None)))).await.expect_err("it is no quorum queue");
    assert_eq!(fed.code(), Code::BUS_TOPOLOGY, "{fed:?}");
    assert!(fed.message().contains("`x-") && fed.message().contains("is needed"), "{fed:?}");
    let gone = declare(&bus, &source("forgetful", None)).await.expect_err("it does not survive a restart");
    assert!(gone.message().contains("`durable` of the queue is false, true is needed"), "{gone:?}");
    declare(&bus, &source("classic", None)).await.expect("somebody else's durable queue may be consumed");
    let ordered = server.config().in_flight_max(1).open().await.expect("the address is understood");
    let error = declare(&ordered, &source("classic", None)).await.expect_err("it keeps no order");
    assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
    for (queue, options) in [("classic", durable), ("forgetful", forgetful)] {
        let same = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        same.expect("it is as it was made");
    }
}

#[tokio::test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
async fn exchanges_of_every_sort_feed_a_queue_by_what_they_route_by() {
    let server = given::here().await;
    let bus = server.config().open().await.expect("the address is understood");
    let (_connection, channel) = channel(&server).await;
    let kinds = [
        ("topic", ExchangeKind::Topic, Some("order.#")),
        ("direct", ExchangeKind::Direct, Some("order.placed")),
        ("fanout", ExchangeKind::Fanout, None),
        ("headers", ExchangeKind::Headers, Some("kind=order,region=eu")),
    ];
    for (exchange, kind, filter) in kinds {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let made = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await;
        made.expect("it can be made");
        let queue = format!("of-{exchange}");
        let from = source(&queue, Some((exchange, filter)));
        declare(&bus, &from).await.expect("it can be bound");
        for (key, region, body) in [("stock.low", "us", "other"), ("order.placed", "eu", "ours")] {
            let mut headers = FieldTable::default();
            headers.insert("kind".into(), AMQPValue::LongString("order".into()));
            headers.insert("region".into(), AMQPValue::LongString(region.into()));
            let properties = BasicProperties::default().with_headers(headers);
            send(&channel, exchange, key, body.as_bytes(), properties).await;
        }
        let mut consumer = bus.consume(from).await.expect("the group can be joined");
        let first = consumer.next(1).await.expect("the broker runs").remove(0);
        let wanted = if filter.is_some() { "ours" } else { "other" };
        assert_eq!(first.message.body, wanted, "{exchange}");
    }
    for (exchange, filter) in [("direct", None), ("fanout", Some("order.placed")), ("headers", Some("order"))]
    {
        let error =
            declare(&bus, &source("wrong", Some((exchange, filter)))).await.expect_err("no such filter");
        assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
    }
    let error = bus.consume(source("absent", None)).await.map(drop).expect_err("there is no such queue");
    assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
}
