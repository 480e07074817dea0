//! Links without Rust: `ensue link`.

use std::fs;
use std::path::PathBuf;

use crate::Ensue;

mod eventbridge;
mod kafka;
mod nats;
mod passing;
mod pubsub;
mod rabbitmq;
mod services;

/// A file of links beside the store.
fn file(ensue: &Ensue, text: &str) -> PathBuf {
    let path = ensue.around.path().join("links.toml");
    fs::write(&path, text).expect("the folder is ours");
    path
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a folder of text")
}

#[test]
fn what_a_file_says_wrongly_is_named_before_anything_moves() {
    let ensue = Ensue::new();
    let link = |rest: &str| format!("[links.a]\nbackend = \"nats\"\nurl = \"nats://127.0.0.1:1\"\n{rest}\n");
    for (said, wanted) in [
        (link("relay = [{ topic = \"Order\" }]"), "`to`"),
        (link("intake = [{ from = \"q\", type = \"body:x\" }]"), "body:x"),
        (link("relay = [{ topic = \"saga.pay\", to = \"x\" }]"), "saga.pay"),
        (link("pasword_env = \"P\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "pasword_env"),
        (
            link(
                "user = \"u\"\npassword_env = \"ENSUE_TEST_NOT_SET\"\nrelay = [{ topic = \"A\", to = \"x\" }]",
            ),
            "ENSUE_TEST_NOT_SET",
        ),
        (link("window_seconds = 60\nintake = [{ from = \"q\" }]"), "window"),
        (link("intake = [{ from = \"q\", filter = \"x\" }]"), "does not say what that is fed by"),
        (link("user = \"u\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "not both"),
        (link("key_file = \"k\"\nrelay = [{ topic = \"A\", to = \"x\" }]"), "not both"),
    ] {
        let path = file(&ensue, &said);
        ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510").says(wanted);
    }
    let path = file(&ensue, &link("relay = [{ topic = \"A\", to = \"x\" }]"));
    ensue.run(&["link", "ls", "b", "--config", text(&path)]).refused(3, "E0414").says("it has a");
    let path = file(
        &ensue,
        "[links.a]\nbackend = \"carrier-pigeon\"\nurl = \"x\"\nrelay = [{ topic = \"A\", to = \"x\" }]\n",
    );
    ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510").says("eventbridge");
    ensue.run(&["link", "run", "--config", "/nowhere.toml"]).refused(3, "E0414");
    assert!(!ensue.data().exists(), "nothing was made");
}

/// A file with one link over this broker.
fn one_link(ensue: &Ensue, backend: &str, said: &str) -> PathBuf {
    let relay = "relay = [{ topic = \"A\", to = \"x\" }]";
    file(ensue, &format!("[links.a]\nbackend = \"{backend}\"\nurl = \"x\"\n{said}\n{relay}\n"))
}

#[test]
fn what_one_broker_does_not_know_is_refused_by_name() {
    let ensue = Ensue::new();
    for (backend, said, wanted) in [
        ("eventbridge", "partitions = 4", "partitions"),
        ("eventbridge", "delivery_limit = 1001", "1001 is not from 1 to 1000"),
        ("eventbridge", "hidden_for_seconds = 1", "1 is not from 2 to 43200"),
        ("nats", "partitions = 4", "partitions"),
        ("nats", "in_flight = 0", "in_flight"),
        ("kafka", "in_flight = 1", "in_flight"),
        ("kafka", "partitions = \"four\"", "partitions"),
        ("kafka", "mechanism = \"md5\"", "md5"),
        ("rabbitmq", "partitions = 4", "partitions"),
        ("rabbitmq", "route = \"topic\"", "`topic` is no route"),
        ("rabbitmq", "exchange = \"stream\"", "stream"),
        ("pubsub", "partitions = 4", "partitions"),
        ("pubsub", "order = \"topic\"", "topic"),
        ("pubsub", "delivery = \"twice\"", "twice"),
    ] {
        let path = one_link(&ensue, backend, said);
        ensue.run(&["link", "ls", "--config", text(&path)]).refused(2, "E0510").says(wanted).says(backend);
    }
}

#[test]
fn a_login_that_a_broker_does_not_take_is_refused_by_name() {
    let ensue = Ensue::new();
    let secret = ensue.around.path().join("secret");
    fs::write(&secret, "hush").expect("the folder is ours");
    let login = format!("user = \"u\"\npassword_file = \"{}\"", secret.display());
    let token = format!("token_file = \"{}\"", secret.display());
    let both = format!("{login}\nprofile = \"billing\"");
    for (backend, said, wanted) in [
        ("eventbridge", "credentials_file = \"c\"", "credentials_file"),
        ("eventbridge", "certificate_file = \"c\"\nkey_file = \"k\"", "certificate_file"),
        ("eventbridge", token.as_str(), "token"),
        ("eventbridge", both.as_str(), "a user and a profile"),
        ("kafka", login.as_str(), "how the password is proved"),
        ("kafka", "mechanism = \"plain\"", "no user"),
        ("kafka", "credentials_file = \"c\"", "credentials_file"),
        ("rabbitmq", "credentials_file = \"c\"", "credentials_file"),
        ("pubsub", login.as_str(), "user"),
        ("pubsub", "certificate_file = \"c\"\nkey_file = \"k\"", "certificate_file"),
    ] {
        let path = one_link(&ensue, backend, said);
        let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
        assert_eq!(checked.exit, 4, "{}", checked.err);
        assert!(checked.out.contains("E0510") && checked.out.contains(wanted), "{}", checked.out);
        assert!(!checked.out.contains("hush"), "a secret is not shown");
    }
}

#[test]
fn a_channel_that_is_fed_is_refused_over_a_broker_where_nothing_is() {
    let ensue = Ensue::new();
    for (backend, url) in [("kafka", "kafka://127.0.0.1:1"), ("nats", "nats://127.0.0.1:1")] {
        let intake = "intake = [{ from = \"orders.in\", fed_by = \"orders\", topic = \"Order\" }]";
        let path = file(&ensue, &format!("[links.a]\nbackend = \"{backend}\"\nurl = \"{url}\"\n{intake}\n"));
        let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
        assert_eq!(checked.exit, 4, "{}", checked.err);
        assert!(checked.out.contains("E0510") && checked.out.contains(backend), "{}", checked.out);
        let run = ensue.run(&["link", "run", "--config", text(&path)]).refused(2, "E0510");
        run.says("`orders`").says(backend);
    }
    assert!(!ensue.data().exists(), "nothing was made");
}

#[test]
fn links_are_listed_and_checked_without_a_store_or_a_broker() {
    let ensue = Ensue::new();
    let path = file(
        &ensue,
        "[links.a]\nbackend = \"nats\"\nurl = \"nats://127.0.0.1:1\"\nrelay = [{ topic = \"Order\", to = \"x\" }]\nintake = [{ from = \"y/z\" }]\n",
    );
    let links = ensue.run(&["link", "ls", "--config", text(&path), "-o", "jsonl"]).ok().objects();
    let names: Vec<&str> = links.iter().map(|link| link["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["relay.a.Order", "intake.a.y_z"]);
    assert!(links.iter().all(|link| link["state"] == "stopped"), "{links:?}");
    let checked = ensue.run(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
    assert_eq!(checked.exit, 4, "{}", checked.err);
    let [line] = <[serde_json::Value; 1]>::try_from(checked.objects()).expect("one line");
    assert_eq!(line["outcome"], "wrong");
    assert!(line["what"].as_str().expect("words").contains("E0441"), "{line}");
    assert!(!ensue.data().exists(), "nothing was made");
}
