//! Links over a real Kafka.

use ensue_test::server::Server;
use krafka::{Kafka as Client, Record};

use super::passing::{Over, maps_foreign_messages, passes_killed_twice};
use super::services::two_processes_serve;

struct Kafka(Server);

impl Over for Kafka {
    const BACKEND: &'static str = "kafka";
    const ORDERED: &'static str = "partitions = 4";

    fn server(&self) -> &Server {
        &self.0
    }

    async fn send(&self, body: &'static [u8]) {
        let url = self.0.url();
        let client = Client::builder(url.trim_start_matches("kafka://")).connect().await;
        let producer = client.expect("the broker runs").producer().build().await.expect("it starts");
        let sent = producer.send(Record::new("legacy.returns", body)).await;
        assert!(sent.expect("the broker keeps it").is_persisted());
    }
}

#[test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
fn events_pass_kafka_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    passes_killed_twice(&Kafka(Server::kafka()));
}

#[test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
fn foreign_messages_on_kafka_are_mapped_and_bytes_that_are_no_event_wait_until_the_file_is_mended() {
    maps_foreign_messages(&Kafka(Server::kafka()));
}

#[test]
#[ignore = "needs Apache Kafka: cargo xtask test"]
fn two_processes_over_kafka_bring_every_order_to_one_end_although_it_is_killed_twice() {
    two_processes_serve(&Kafka(Server::kafka()));
}
