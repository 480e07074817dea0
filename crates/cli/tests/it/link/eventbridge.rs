//! Links over a fake of Amazon's services: what is published to is an event bus, what is taken in is a queue that it feeds.
//!
//! The fake keeps everything in memory. After a kill it makes the requests again that it has recorded, so what was taken from a queue comes
//! once more.

use std::env;
use std::fs;
use std::process::Command;

use ensue_test::server::{AMAZON_KEY, Server};
use serde_json::Value;
use tempfile::TempDir;

use super::passing::{Over, maps_foreign_messages, passes_once_killed_twice};
use super::services::two_processes_serve;
use super::{file, text};
use crate::Ensue;

/// What sends as somebody else does, for the interpreter that has the fake.
const SEND: &str = include_str!("eventbridge.py");

/// The fake, and a file that holds the secret of its key.
struct Eventbridge {
    server: Server,
    folder: TempDir,
}

impl Eventbridge {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("secret"), AMAZON_KEY.1).expect("the folder is ours");
        Self { server: Server::amazon(), folder }
    }
}

impl Over for Eventbridge {
    const BACKEND: &'static str = "eventbridge";
    /// There is nothing to say: Amazon promises no order.
    const ORDERED: &'static str = "";
    const FOREIGN: &'static str = "legacy-returns";
    /// A queue carries text only.
    const NO_EVENT: &'static [u8] = b"{ no event";

    fn server(&self) -> &Server {
        &self.server
    }

    fn from(&self, place: &str) -> String {
        format!("\"{}-in\", fed_by = \"{place}\"", place.replace('.', "-"))
    }

    fn foreign(&self) -> String {
        format!("\"{}\", fed_by = \"legacy\"", Self::FOREIGN)
    }

    fn link(&self, name: &str, rest: &str) -> String {
        let secret = self.folder.path().join("secret");
        format!(
            "[links.{name}]\nbackend = \"{}\"\nurl = \"{}\"\nuser = \"{}\"\npassword_file = \"{}\"\n{rest}\n",
            Self::BACKEND,
            self.server.url(),
            AMAZON_KEY.0,
            secret.display()
        )
    }

    async fn send(&self, body: &'static [u8]) {
        let python = env::var("ENSUE_TEST_AWS_PYTHON").expect("ENSUE_TEST_AWS_PYTHON names the interpreter");
        let (id, secret) = AMAZON_KEY;
        let body = std::str::from_utf8(body).expect("a queue carries text");
        let url = self.server.url();
        let (_, endpoint) = url.split_once("endpoint=").expect("an endpoint");
        let arguments = ["-c", SEND, endpoint, id, secret, "legacy", Self::FOREIGN, body];
        let sent = Command::new(python).args(arguments).output().expect("the interpreter runs");
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    }
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn events_pass_eventbridge_killed_twice_and_are_in_the_other_store_once() {
    passes_once_killed_twice(&Eventbridge::new());
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn foreign_messages_on_eventbridge_are_mapped_and_text_that_is_no_event_waits_until_the_file_is_mended() {
    maps_foreign_messages(&Eventbridge::new());
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn two_processes_over_eventbridge_bring_every_order_to_one_end_although_it_is_killed_twice() {
    two_processes_serve(&Eventbridge::new());
}

/// What `link check` says of a link that names no key, with these variables, and nothing of AWS in the environment besides.
fn checked(url: &str, said: &str, variables: &[(&str, &str)]) -> Value {
    let ensue = Ensue::new();
    let link = "relay = [{ topic = \"Order\", to = \"shop\" }]";
    let path =
        file(&ensue, &format!("[links.a]\nbackend = \"eventbridge\"\nurl = \"{url}\"\n{said}\n{link}\n"));
    let mut command = ensue.command(&["link", "check", "--config", text(&path), "-o", "jsonl"]);
    env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    // No machine of Amazon's is asked who we are, and no file of whoever runs the test.
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", ensue.around.path());
    command.envs(variables.iter().copied());
    let mut lines = crate::answer(command, "").objects();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn who_we_are_on_eventbridge_comes_from_the_environment_or_from_a_profile() {
    let over = Eventbridge::new();
    let url = over.server.url();
    let (id, secret) = AMAZON_KEY;
    let profiles = over.folder.path().join("credentials");
    let profile = format!("[billing]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(&profiles, profile).expect("the folder is ours");
    let profiles = [("AWS_SHARED_CREDENTIALS_FILE", text(&profiles))];
    let good = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let bad = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", "hush")];
    for (said, variables) in [("", &good[..]), ("profile = \"billing\"", &profiles[..])] {
        let line = checked(&url, said, variables);
        assert_eq!(line["outcome"], "missing", "it was let in: {line}");
    }
    for (said, variables) in [("", &[][..]), ("", &bad[..]), ("profile = \"other\"", &profiles[..])] {
        let line = checked(&url, said, variables);
        assert_eq!(line["outcome"], "wrong", "{line}");
        let what = line["what"].as_str().expect("words");
        assert!(what.contains("E0442") && !what.contains("hush"), "{line}");
    }
}
