//! RabbitMQ, one node.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Place, Program, started, variable};
use crate::conformance::bus::Line;

/// What the broker says when it serves.
const STARTED: &str = "completed with";

pub(super) struct Rabbitmq;

impl Program for Rabbitmq {
    fn url(&self, place: &Place) -> String {
        let [amqp, ..] = place.ports;
        format!("amqp://guest:guest@127.0.0.1:{amqp}/%2f")
    }

    fn prepare(&self, place: &Place) {
        let [amqp, ..] = place.ports;
        let write = |name: &str, text: &str| {
            fs::write(place.folder().join(name), text).expect("the folder is ours");
        };
        write("enabled_plugins", "[].");
        write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.default = 127.0.0.1:{amqp}\nlog.console = true\nlog.console.level = error\n\
                 disk_free_limit.absolute = 50MB\n"
            ),
        );
    }

    fn start(&self, place: &Place) -> Child {
        let mut command = node(place);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the broker starts");
        let line = Line::of(child.stdout.take(), STARTED);
        started(child, line)
    }

    /// RabbitMQ 3.10 writes the names of new quorum queues some minutes later.
    fn keep_topology(&self, place: &Place) {
        let [_, names, _] = place.ports;
        let tool = PathBuf::from(variable("ENSUE_TEST_RABBITMQ_SERVER")).with_file_name("rabbitmqctl");
        let output = Command::new(tool)
            .args(["-n", &name(place), "eval", "dets:sync(ra_directory_reverse)."])
            .env("HOME", place.folder())
            .env("ERL_EPMD_PORT", names.to_string())
            .output()
            .expect("the tool runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// The server of names outlives the broker.
    fn clean_up(&self, place: &Place) {
        let [_, names, _] = place.ports;
        drop(Command::new("epmd").args(["-port", &names.to_string(), "-kill"]).output());
    }
}

fn name(place: &Place) -> String {
    let [amqp, ..] = place.ports;
    format!("ensue{amqp}@localhost")
}

fn node(place: &Place) -> Command {
    let [_, names, nodes] = place.ports;
    let at = |name: &str| place.folder().join(name);
    let mut command = Command::new(variable("ENSUE_TEST_RABBITMQ_SERVER"));
    command
        .env("RUNNING_UNDER_SYSTEMD", "1") // the launcher becomes the broker, so that the pid is the broker's own
        .env("HOME", place.folder())
        .env("RABBITMQ_NODENAME", name(place))
        .env("RABBITMQ_DIST_PORT", nodes.to_string())
        .env("ERL_EPMD_PORT", names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_BASE", place.folder())
        .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_CONF_ENV_FILE", at("none"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
        .env("RABBITMQ_SCHEMA_DIR", at("schema"))
        .env("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags"))
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        );
    command
}
