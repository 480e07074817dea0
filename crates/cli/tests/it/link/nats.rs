//! Links over a real NATS server.

use ensue_test::server::Server;

use super::passing::{Over, maps_foreign_messages, obeys_operators, passes_killed_twice};
use super::services::two_processes_serve;

struct Nats(Server);

impl Over for Nats {
    const BACKEND: &'static str = "nats";
    const ORDERED: &'static str = "in_flight = 1\nsettle_within_seconds = 2";

    fn server(&self) -> &Server {
        &self.0
    }

    async fn send(&self, body: &'static [u8]) {
        let client = async_nats::connect(self.0.url()).await.expect("the server runs");
        let stream = async_nats::jetstream::new(client);
        let sent = stream.publish("legacy.returns", body.into()).await;
        sent.expect("the server runs").await.expect("the stream keeps it");
    }
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn events_pass_nats_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    passes_killed_twice(&Nats(Server::nats()));
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn foreign_messages_on_nats_are_mapped_and_bytes_that_are_no_event_wait_until_the_file_is_mended() {
    maps_foreign_messages(&Nats(Server::nats()));
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn a_link_over_nats_does_what_operators_ask() {
    obeys_operators(&Nats(Server::nats()), true);
}

#[test]
#[ignore = "needs a NATS server: cargo xtask test"]
fn two_processes_over_nats_bring_every_order_to_one_end_although_it_is_killed_twice() {
    two_processes_serve(&Nats(Server::nats()));
}
