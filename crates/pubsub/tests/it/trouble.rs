//! What else can go wrong: a login, a limit, a service that has lost everything.

use std::path::Path;
use std::process::Command;

use ensue_core::bus::{Bus, Mode, Outgoing, Settled};
use ensue_core::{Code, Error};
use ensue_pubsub::{Config, PubsubBus};
use serde_json::json;

use crate::foreign::{declare, event, fed};
use crate::given::{self, TOKEN};

async fn publish(bus: &PubsubBus, outgoing: Outgoing) -> Result<(), Error> {
    bus.publish(vec![outgoing]).await.remove(0).map(drop)
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn where_the_service_has_lost_everything_a_member_goes_on_once_it_is_declared_again() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    let source = fed("mine", "orders", None);
    declare(&bus, &source).await;
    publish(&bus, event("orders", "A", "lost", "OrderPlaced")).await.expect("it is confirmed");
    let mut consumer = bus.consume(source.clone()).await.expect("the group can be joined");
    let lost = consumer.next(1).await.expect("the service runs").remove(0);
    server.lose_everything();
    let error = loop {
        match publish(&bus, event("orders", "A", "early", "OrderPlaced")).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            other => break other.expect_err("the topic is gone"),
        }
    };
    assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}");
    let error = loop {
        match consumer.next(1).await {
            Err(error) if error.is_retryable() => {}
            other => break other.expect_err("the subscription is gone"),
        }
    };
    assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}");
    drop(consumer.settle(vec![Settled::Ack(lost.token)]).await); // nobody knows it any more
    declare(&bus, &source).await;
    publish(&bus, event("orders", "A", "later", "OrderPlaced")).await.expect("it is confirmed");
    let came = loop {
        match consumer.next(1).await {
            Ok(mut came) => break came.remove(0),
            Err(error) => assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}"),
        }
    };
    let id = came.message.headers.iter().find(|(name, _)| name == "ce-id").map(|(_, id)| &id[..]);
    assert_eq!(id, Some(&b"later"[..]));
    consumer.settle(vec![Settled::Ack(came.token)]).await.remove(0).expect("it can be settled");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn limits_of_the_service_are_named_and_structured_events_have_more_room() {
    let server = given::server().await;
    let bus = server.config(TOKEN).open().await.expect("an address");
    declare(&bus, &fed("mine", "orders", None)).await;
    let mut long = event("orders", "A", "long", "OrderPlaced");
    long.envelope.extensions = vec![("note".into(), "ö".repeat(600).into())];
    let error = publish(&bus, long.clone()).await.expect_err("an attribute has 1,024 bytes");
    assert_eq!(error.code(), Code::TOO_LARGE, "{error:?}");
    assert!(error.message().contains("ce-note") && error.message().contains("1200"), "{error:?}");
    assert!(error.fix().contains("structured"), "{}", error.fix());
    long.mode = Mode::Structured;
    publish(&bus, long).await.expect("it is in the body");
    let mut many = event("orders", "A", "many", "OrderPlaced");
    many.envelope.extensions = (0..100).map(|number| (format!("x{number}").into(), "y".into())).collect();
    let error = publish(&bus, many).await.expect_err("a message has 100 attributes");
    assert!(error.code() == Code::TOO_LARGE && error.message().contains("attributes"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_wrong_login_is_shown_nowhere() {
    let server = given::server().await;
    let bus = server.config("s3cret").open().await.expect("an address");
    let source = fed("mine", "orders", None);
    let published =
        publish(&bus, event("orders", "A", "e1", "OrderPlaced")).await.expect_err("a wrong token");
    let joined = bus.consume(source).await.map(drop).expect_err("a wrong token");
    for error in [published, joined] {
        assert_eq!(error.code(), Code::BUS_DENIED, "{error:?}");
        let text = format!("{error} {error:?} {}", error.fix());
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// A key of RSA in this folder, private and public.
fn key(folder: &Path, name: &str) -> (String, String) {
    let run = |arguments: &[&str]| {
        let made =
            Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let (private, public) = (format!("{name}.pem"), format!("{name}.public.pem"));
    run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &private]);
    run(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    (std::fs::read_to_string(folder.join(private)).expect("it was made"), public)
}

#[tokio::test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
async fn a_service_account_signs_its_own_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (private, public) = key(folder.path(), "ours");
    let (other, _) = key(folder.path(), "other");
    let public = folder.path().join(public).display().to_string();
    let fake = given::Program::start(&["-account", &public]);
    let file = folder.path().join("account.json");
    for (key, wanted) in [(private, None), (other, Some(Code::BUS_DENIED))] {
        let account = json!({
            "type": "service_account",
            "client_email": "shop@example.iam.gserviceaccount.com",
            "private_key_id": "1",
            "private_key": key,
        });
        std::fs::write(&file, account.to_string()).expect("the folder is ours");
        let config = Config::new(format!("pubsub://p?emulator={}", fake.address)).service_account(&file);
        let bus = config.open().await.expect("a login");
        let published = publish(&bus, event("orders", "A", "e1", "OrderPlaced")).await;
        // Whoever is let in hears that there is no topic.
        assert_eq!(published.map_err(|error| error.code()), Err(wanted.unwrap_or(Code::BUS_UNROUTABLE)));
    }
}

#[tokio::test]
async fn what_is_no_login_is_refused_at_once_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("login.json");
    for (text, word) in [
        (None, "cannot read"),
        (Some("s3cret {"), "no login"),
        (Some("{\"type\":\"authorized_user\",\"refresh_token\":\"s3cret\"}"), "authorized_user"),
        (Some("{\"type\":\"service_account\",\"private_key\":\"s3cret\"}"), "no key"),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).expect("the folder is ours");
        }
        let opened = Config::new("pubsub://p?emulator=localhost:1").service_account(&file).open().await;
        let error = opened.map(drop).expect_err("it is no login");
        assert_eq!(error.code(), Code::BUS_ADDRESS, "{error:?}");
        let shown = format!("{error} {error:?} {}", error.fix());
        assert!(shown.contains(word) && !shown.contains("s3cret"), "{shown}");
    }
}
