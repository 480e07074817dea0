//! Links over a real RabbitMQ: what is published to is an exchange, what is taken in is a queue that it feeds.

use ensue_test::server::Server;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use super::passing::{Over, maps_foreign_messages, obeys_operators, passes_killed_twice};
use super::services::two_processes_serve;

struct Rabbitmq(Server);

impl Over for Rabbitmq {
    const BACKEND: &'static str = "rabbitmq";
    const ORDERED: &'static str = "in_flight = 1";

    fn server(&self) -> &Server {
        &self.0
    }

    fn from(&self, place: &str) -> String {
        format!("\"{place}.in\", fed_by = \"{place}\"")
    }

    async fn send(&self, body: &'static [u8]) {
        let connection = Connection::connect(&self.0.url(), ConnectionProperties::default()).await;
        let connection = connection.expect("the broker runs");
        let channel = connection.create_channel().await.expect("the broker runs");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker confirms");
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish("".into(), "legacy.returns".into(), options, body, properties).await;
        assert!(sent.expect("it is sent").await.expect("it is confirmed").is_ack());
    }
}

#[test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
fn events_pass_rabbitmq_killed_twice_and_are_in_the_other_store_once_and_in_order() {
    passes_killed_twice(&Rabbitmq(Server::rabbitmq()));
}

#[test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
fn foreign_messages_on_rabbitmq_are_mapped_and_bytes_that_are_no_event_wait_until_the_file_is_mended() {
    maps_foreign_messages(&Rabbitmq(Server::rabbitmq()));
}

#[test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
fn a_link_over_rabbitmq_does_what_operators_ask_and_goes_back_to_no_history() {
    obeys_operators(&Rabbitmq(Server::rabbitmq()), false);
}

#[test]
#[ignore = "needs a RabbitMQ broker: cargo xtask test"]
fn two_processes_over_rabbitmq_bring_every_order_to_one_end_although_it_is_killed_twice() {
    two_processes_serve(&Rabbitmq(Server::rabbitmq()));
}
