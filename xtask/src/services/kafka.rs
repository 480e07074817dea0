//! Apache Kafka, one node in KRaft mode. A topic that must not lose what a lost machine had in memory asks for it itself, by
//! `flush.messages=1`: Kafka's own answer is replicas, which one node has none of.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Purpose, Service, http, need};

const ENTRY: &str = "kafka-4.4.0";
const POM: &str = include_str!("kafka/pom.xml");
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";
/// The identity of the cluster, base64url of sixteen bytes.
const CLUSTER: &str = "ZW5zdWUtdGVzdC1rYWZrYQ";
/// `ApiVersions`, version 0, from a client without a name: the first thing that every client asks.
const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";
const BROKER: usize = 0;
const CONTROLLER: usize = 1;

/// The service of this file.
pub(crate) struct Kafka;

impl Service for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn ports(&self) -> &'static [u16] {
        &[21092, 21093]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        need("java", "Kafka")?;
        cache.fill(ENTRY, |folder| {
            need("mvn", "Kafka")?;
            let pom = folder.join("pom.xml");
            fs::write(&pom, POM).map_err(|error| format!("cannot write {}: {error}", pom.display()))?;
            let pom = format!("--file={}", pom.display());
            let target = format!("-DoutputDirectory={}", folder.display());
            cache::install("mvn", &["-q", "-B", &pom, COPY, &target, "-DincludeScope=runtime"])
        })
    }

    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String> {
        let file = place.data().join("server.properties");
        let failed = |error: std::io::Error| format!("cannot prepare {}: {error}", file.display());
        fs::write(&file, properties(place)).map_err(failed)?;
        if !place.data().join("log/meta.properties").exists() {
            let arguments = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"];
            let formatted = java(cache, place.purpose()).args(arguments).arg(&file).output();
            let formatted = formatted.map_err(failed)?;
            if !formatted.status.success() {
                return Err(format!(
                    "Kafka cannot format its folder: {}",
                    String::from_utf8_lossy(&formatted.stderr)
                ));
            }
        }
        let mut command = java(cache, place.purpose());
        command.arg("kafka.Kafka").arg(&file);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        http::exchange(&place.address(BROKER), API_VERSIONS, 8).is_some()
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        let libraries = Cache::location().map(|folder| folder.join(ENTRY)).unwrap_or_default();
        vec![
            ("ENSUE_TEST_KAFKA", place.address(BROKER)),
            ("ENSUE_TEST_KAFKA_LIBRARIES", libraries.display().to_string()),
        ]
    }
}

fn properties(place: &Place) -> String {
    let (broker, controller) = (place.address(BROKER), place.address(CONTROLLER));
    format!(
        "process.roles=broker,controller
node.id=1
listeners=BROKER://{broker},CONTROLLER://{controller}
advertised.listeners=BROKER://{broker}
controller.quorum.bootstrap.servers={controller}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=5
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
",
        place.data().join("log").display()
    )
}

/// A virtual machine that is quick to start, or one that is quick later.
fn java(cache: &Cache, purpose: Purpose) -> Command {
    let mut command = Command::new("java");
    command.args(match purpose {
        Purpose::Tests => ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        Purpose::Measurement => ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"],
    });
    let libraries = cache.entry(ENTRY).join(Path::new("*"));
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn").arg("-cp").arg(libraries);
    command
}
