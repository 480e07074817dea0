//! Links over Google's fake of Pub/Sub: what is published to is a topic, of which each group has a subscription.

use std::env;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ensue_test::server::Server;
use serde_json::json;

use super::passing::{Over, maps_foreign_messages, passes_killed_twice};
use super::services::two_processes_serve;

struct Pubsub(Server);

impl Over for Pubsub {
    const BACKEND: &'static str = "pubsub";
    /// What was on its way when the connection broke comes again after the lease; 10 s is the shortest.
    const ORDERED: &'static str = "lease_seconds = 10";

    fn server(&self) -> &Server {
        &self.0
    }

    /// By Google's own description of the service.
    async fn send(&self, body: &'static [u8]) {
        let program = env::var("ENSUE_TEST_PUBSUB_SERVER").expect("ENSUE_TEST_PUBSUB_SERVER names the fake");
        let url = self.0.url();
        let (_, address) = url.split_once("emulator=").expect("an emulator");
        let message = json!({ "data": STANDARD.encode(body) });
        let request = json!({ "topic": "projects/tests/topics/legacy.returns", "messages": [message] });
        let arguments = ["-addr", address, "-call", "Publisher/Publish", &request.to_string()];
        let sent = Command::new(program).args(arguments).output().expect("the program runs");
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    }
}

#[test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
fn events_pass_pubsub_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    passes_killed_twice(&Pubsub(Server::pubsub()));
}

#[test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
fn foreign_messages_on_pubsub_are_mapped_and_bytes_that_are_no_event_wait_until_the_file_is_mended() {
    maps_foreign_messages(&Pubsub(Server::pubsub()));
}

#[test]
#[ignore = "needs the fake of Pub/Sub: cargo xtask test"]
fn two_processes_over_pubsub_bring_every_order_to_one_end_although_it_is_killed_twice() {
    two_processes_serve(&Pubsub(Server::pubsub()));
}
