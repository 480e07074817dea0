//! `RabbitMQ`, from the distribution's packages, as a node of its own beside whatever the package has started. It listens on
//! loopback alone and has the user `guest`.
//!
//! A quorum queue that was declared a moment ago is not on disk yet in the old version that Debian 12 has (3.10): a test that
//! kills the broker restarts it once after it has declared its queues.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Service, http};

const PACKAGE: &str = "rabbitmq-server";
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// What a client of AMQP 0-9-1 says first; the server answers with a method frame.
const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
const AMQP: usize = 0;
const NAMES: usize = 1;
const NODES: usize = 2;

/// The service of this file.
pub(crate) struct Rabbitmq;

impl Service for Rabbitmq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn ports(&self) -> &'static [u16] {
        &[21672, 21671, 21673]
    }

    fn install(&self, _cache: &Cache) -> Result<(), String> {
        if Path::new(PROGRAM).exists() { Ok(()) } else { cache::install_package(PACKAGE) }
    }

    fn command(&self, _cache: &Cache, place: &Place) -> Result<Command, String> {
        let data = place.data();
        let write = |name: &str, text: &str| {
            let file = data.join(name);
            fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
        };
        write("rabbitmq.conf", &configuration(place))?;
        write("enabled_plugins", "[].")?;
        let mut command = Command::new(PROGRAM);
        for (name, value) in variables(place) {
            command.env(name, value);
        }
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        http::exchange(&place.address(AMQP), GREETING, 8).is_some()
    }

    /// The Erlang machine starts a server of names, which outlives it. It ends only if no other node is known to it.
    fn clean_up(&self, place: &Place) {
        let port = place.port(NAMES).to_string();
        let asked = Command::new("epmd").args(["-port", &port, "-kill"]).output();
        if let Err(error) = asked {
            eprintln!("services: cannot run epmd: {error}");
        }
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("ENSUE_TEST_RABBITMQ", format!("amqp://guest:guest@{}/%2f", place.address(AMQP))),
            ("ENSUE_TEST_RABBITMQ_HOME", place.data().display().to_string()),
            ("ENSUE_TEST_RABBITMQ_NAMES_PORT", place.port(NAMES).to_string()),
            ("ENSUE_TEST_RABBITMQ_PORT", place.port(AMQP).to_string()),
            ("ENSUE_TEST_RABBITMQ_SERVER", PROGRAM.to_owned()),
        ]
    }
}

fn configuration(place: &Place) -> String {
    format!(
        "listeners.tcp.default = {}
loopback_users = none
log.console = true
log.console.level = info
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 512MB
",
        place.address(AMQP)
    )
}

fn variables(place: &Place) -> Vec<(&'static str, String)> {
    let data = place.data();
    let at = |name: &str| data.join(name).display().to_string();
    vec![
        // Makes the launcher become the Erlang machine, so that the pid is the broker's own.
        ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
        ("HOME", data.display().to_string()),
        ("RABBITMQ_NODENAME", "ensue@localhost".to_owned()),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", place.port(AMQP).to_string()),
        ("RABBITMQ_DIST_PORT", place.port(NODES).to_string()),
        ("ERL_EPMD_PORT", place.port(NAMES).to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_BASE", data.display().to_string()),
        ("RABBITMQ_MNESIA_BASE", at("mnesia")),
        ("RABBITMQ_LOG_BASE", at("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", at("none")),
        ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
        ("RABBITMQ_SCHEMA_DIR", at("schema")),
        ("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags")),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none".to_owned(),
        ),
    ]
}
