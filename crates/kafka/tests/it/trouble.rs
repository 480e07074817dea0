//! Logins, certificates and quotas.

use std::time::{Duration, Instant};

use ensue_core::bus::{Bus, Consumer, Declare, Mode, Settled, Topology};
use ensue_core::{Code, Error};
use ensue_kafka::{Config, KafkaBus, Mechanism};
use krafka::admin::{AlterClientQuotasOptions, ClientQuotaAlteration, ClientQuotaEntity};

use crate::given::{id, message, next, orders, source};
use crate::own::{self, Own, PASSWORD, USER};

const BODY_BYTES: u16 = 10_000;
const MESSAGES: u32 = 12;

async fn declared(config: Config) -> Result<KafkaBus, Error> {
    let bus = config.open().await?;
    let topology = Topology { targets: vec![orders()], sources: vec![source("billing")] };
    bus.declare(&topology, Declare::Make).await?;
    Ok(bus)
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn over_tls_both_sides_show_certificates_and_the_password_is_proved_by_scram() {
    let broker = own::here().await;
    let to = |host: &str| broker.secured(host);
    let client = |config: Config| config.certificate(broker.file("client.crt"), broker.file("client.key"));
    let known = |config: Config| config.authorities(broker.file("ca.crt"));
    let login = |config: Config| config.password(Mechanism::Scram512, USER, PASSWORD);
    let bus = declared(login(known(client(to("127.0.0.1"))))).await.expect("it is let in");
    assert!(bus.publish(vec![message("A", "1", Mode::Binary)]).await.iter().all(Result::is_ok));
    let mut consumer = bus.consume(source("billing")).await.expect("the group can be joined");
    let came = consumer.next(1).await.expect("the broker runs").remove(0);
    assert_eq!(came.key.as_deref(), Some("A"));
    let bad = [
        (login(client(to("127.0.0.1")).authorities(broker.file("stranger.crt"))), Code::BUS_ADDRESS),
        (login(known(client(to("localhost")))), Code::BUS_ADDRESS),
        // That it misses a certificate is heard after the handshake, as an alert with which the connection ends.
        (login(known(to("127.0.0.1"))), Code::BUS_UNREACHABLE),
        (known(client(to("127.0.0.1"))).password(Mechanism::Scram512, USER, "wrong"), Code::BUS_DENIED),
        // Who says no password is not told that one is wanted: Kafka closes the connection.
        (known(client(to("127.0.0.1"))), Code::BUS_UNREACHABLE),
    ];
    for (config, code) in bad {
        let shown = format!("{config:?}");
        let error = declared(config).await.map(drop).expect_err(&shown);
        assert_eq!(error.code(), code, "{shown}: {error:?}");
    }
}

/// What everybody may send in a second; without a number, as much as they like.
async fn allow(broker: &Own, bytes: Option<f64>) {
    let everybody = ClientQuotaEntity::from_iter([("client-id", None::<String>)]);
    let quota = ClientQuotaAlteration::new(everybody, vec![("producer_byte_rate".to_owned(), bytes)]);
    let admin = broker.foreign().await.admin();
    for (_, answer) in
        admin.alter_client_quotas(vec![quota], AlterClientQuotasOptions::default()).await.expect("it runs")
    {
        answer.expect("it is taken");
    }
}

/// Publishes it until it is confirmed; what is wrong meanwhile would not be wrong later.
async fn insist(bus: &KafkaBus, id: &str) {
    loop {
        let mut outgoing = message("A", id, Mode::Binary);
        outgoing.envelope.data = format!("\"{}\"", "x".repeat(BODY_BYTES.into())).into();
        match bus.publish(vec![outgoing]).await.remove(0) {
            Ok(_) => return,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

#[tokio::test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn a_cluster_that_throttles_is_slower_and_loses_nothing_and_turns_nothing_round() {
    let broker = own::here().await;
    let bus = declared(broker.plain()).await.expect("it is let in");
    let began = Instant::now();
    insist(&bus, "0").await;
    let unhindered = began.elapsed();
    allow(&broker, Some(f64::from(BODY_BYTES))).await;
    let began = Instant::now();
    for id in 1..=MESSAGES {
        insist(&bus, &id.to_string()).await;
    }
    assert!(
        began.elapsed() > (unhindered * MESSAGES).max(Duration::from_secs(5)),
        "it was throttled to one message a second: {:?}",
        began.elapsed()
    );
    allow(&broker, None).await;
    let mut consumer: Box<dyn Consumer> =
        bus.consume(source("billing")).await.expect("the group can be joined");
    let mut came: Vec<u32> = Vec::new();
    while came.last() != Some(&MESSAGES) {
        for delivery in next(&mut consumer).await {
            came.push(id(&delivery).parse().expect("a number"));
            let settled = consumer.settle(vec![Settled::Ack(delivery.token)]).await;
            assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        }
    }
    // One that was sent again because its confirmation came late is there twice, and next to itself.
    came.dedup();
    assert_eq!(came, (0..=MESSAGES).collect::<Vec<_>>());
}
