//! Links over EventBridge, on a fake of Amazon's services: what is published to is an event bus, what is taken in is a queue.

use std::fs;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use ensue_test::server::{AMAZON_KEY, Server};
use tempfile::TempDir;

use super::passing::{Over, maps_foreign_messages, passes_killed_twice};

struct Eventbridge {
    server: Server,
    /// Where the secret of our key is.
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
    const ORDERED: &'static str = "hidden_for_seconds = 10";
    /// Queues of SQS have no dots in their names, and carry text only.
    const FOREIGN: &'static str = "legacy-returns";
    const NO_EVENT: (&'static [u8], &'static str) = (b" no event", "IG5vIGV2ZW50");

    fn server(&self) -> &Server {
        &self.server
    }

    fn from(&self) -> &'static str {
        "\"billing.fifo\", fed_by = \"shop.orders\""
    }

    fn login(&self) -> String {
        format!(
            "user = \"{}\"\npassword_file = \"{}\"\n",
            AMAZON_KEY.0,
            self.folder.path().join("secret").display()
        )
    }

    async fn send(&self, body: &'static [u8]) {
        let url = self.server.url();
        let (_, endpoint) = url.split_once("endpoint=").expect("it is elsewhere than Amazon");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new(AMAZON_KEY.0, AMAZON_KEY.1, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        let queues = aws_sdk_sqs::Client::from_conf(config.build());
        let queue =
            queues.get_queue_url().queue_name(Self::FOREIGN).send().await.expect("the queue is there");
        let body = std::str::from_utf8(body).expect("queues carry text");
        let sending = queues.send_message().set_queue_url(queue.queue_url).message_body(body);
        sending.send().await.expect("the queue keeps it");
    }
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn events_pass_eventbridge_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    passes_killed_twice(&Eventbridge::new());
}

#[test]
#[ignore = "needs moto: cargo xtask test"]
fn foreign_messages_on_eventbridge_are_mapped_and_text_that_is_no_event_waits_until_the_file_is_mended() {
    maps_foreign_messages(&Eventbridge::new());
}
