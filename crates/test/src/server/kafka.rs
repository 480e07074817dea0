//! Apache Kafka, one node in KRaft mode.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::{Place, Program, started, variable};
use crate::conformance::bus::Line;

/// The identity of the cluster, base64url of sixteen bytes.
const CLUSTER: &str = "ZW5zdWUtdGVzdC1rYWZrYQ";
/// Who says in the log of the broker that it runs, and how.
const LOGGER: &str = "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info";
const STARTED: &str = "Kafka Server started";
const PROPERTIES: &str = "server.properties";

pub(super) struct Kafka;

impl Program for Kafka {
    fn url(&self, place: &Place) -> String {
        let [broker, ..] = place.ports;
        format!("kafka://127.0.0.1:{broker}")
    }

    fn prepare(&self, place: &Place) {
        fs::write(place.folder().join(PROPERTIES), properties(place)).expect("the folder is ours");
        let arguments = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"];
        let status = java(place, &arguments).status().expect("java runs");
        assert!(status.success(), "Kafka formats its folder");
    }

    fn start(&self, place: &Place) -> Child {
        let mut command = java(place, &["kafka.Kafka"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the broker starts");
        let line = Line::of(child.stderr.take(), STARTED);
        started(child, line)
    }
}

fn java(place: &Place, arguments: &[&str]) -> Command {
    let libraries = variable("ENSUE_TEST_KAFKA_LIBRARIES");
    let mut command = Command::new("java");
    command
        .args(["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", LOGGER])
        .arg("-cp")
        .arg(format!("{libraries}/*"))
        .args(arguments)
        .arg(place.folder().join(PROPERTIES))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A broker that is killed is found dead, and let in again, in seconds.
fn properties(place: &Place) -> String {
    let [broker, controller, _] = place.ports;
    format!(
        "process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{broker}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
",
        place.folder().join("log").display()
    )
}
