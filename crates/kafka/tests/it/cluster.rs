//! Three brokers that are one cluster.
//!
//! Where the coordinator of a group has moved, the driver (krafka 0.28) joins under a new name, and its old one holds the partitions
//! until the broker's session time is over: five seconds here, 45 where nothing is said.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ensue_core::bus::{Bus, Consumer, Mode, Settled};
use ensue_kafka::Config;
use ensue_test::conformance::bus::{Line, Process};
use ensue_test::server::free_port;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::given::{self, declare, id, join, message};
use crate::own::{CLUSTER, LOGGER, STARTED};

const BROKERS: usize = 3;

/// Each broker is a process, all in one folder. Two of them must live.
struct Cluster {
    folder: TempDir,
    brokers: Vec<Node>,
}

struct Node {
    id: usize,
    /// Where it listens to clients and the other brokers.
    clients: u16,
    /// Where it listens as a controller.
    controller: u16,
    process: Process,
}

impl Cluster {
    fn start() -> Self {
        let node =
            |id| Node { id, clients: free_port(), controller: free_port(), process: Process::default() };
        let brokers = (0..BROKERS).map(node).collect();
        let cluster = Self { folder: tempfile::tempdir().expect("a folder"), brokers };
        for broker in &cluster.brokers {
            fs::write(cluster.file(broker), cluster.properties(broker)).expect("the folder is ours");
            let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"];
            let status = cluster.java(&format, broker).status().expect("java runs");
            assert!(status.success(), "Kafka formats its folder");
        }
        let launched: Vec<_> = cluster.brokers.iter().map(|broker| cluster.launch(broker)).collect();
        launched.into_iter().for_each(|line| line.come().expect("the broker starts"));
        cluster
    }

    fn file(&self, broker: &Node) -> PathBuf {
        self.folder.path().join(format!("{}.properties", broker.id))
    }

    fn properties(&self, broker: &Node) -> String {
        let Node { id, clients, controller, .. } = broker;
        let voter = |node: &Node| format!("{}@127.0.0.1:{}", node.id, node.controller);
        let voters: Vec<_> = self.brokers.iter().map(voter).collect();
        format!(
            "process.roles=broker,controller
node.id={id}
listeners=BROKER://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{clients}
controller.quorum.voters={}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=5000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
",
            voters.join(","),
            self.folder.path().join(id.to_string()).display()
        )
    }

    fn java(&self, arguments: &[&str], broker: &Node) -> Command {
        let libraries = env::var("ENSUE_TEST_KAFKA_LIBRARIES").expect("it names the folder of Kafka's jars");
        let mut command = Command::new("java");
        command
            .args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", LOGGER, "-cp"])
            .arg(format!("{libraries}/*"))
            .args(arguments)
            .arg(self.file(broker))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// A broker waits for enough of the others, so it is waited for when all that are to start are launched.
    fn launch(&self, broker: &Node) -> Line {
        let mut command = self.java(&["kafka.Kafka"], broker);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the broker starts");
        let line = Line::of(child.stderr.take(), STARTED);
        broker.process.hold(child);
        line
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        let clients: Vec<_> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.clients)).collect();
        let config = Config::new(format!("kafka://{}", clients.join(",")));
        let config = config.partitions(given::PARTITIONS).answer_within(Duration::from_secs(10));
        Arc::new(config.open().await.expect("the cluster runs"))
    }
}

/// Each broker is killed once, so whoever leads a partition or the group is, and the others go on without it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Apache Kafka: cargo xtask test"]
async fn brokers_of_a_cluster_that_are_killed_one_after_the_other_lose_nothing_and_stop_nobody() {
    let cluster = Cluster::start();
    let bus = cluster.bus().await;
    declare(&bus).await;
    let consumer = join(&bus, "billing").await;
    let traffic = Arc::new(Traffic::default());
    let publishing = tokio::spawn(Arc::clone(&traffic).publish(bus));
    let taking = tokio::spawn(Arc::clone(&traffic).take(consumer));
    for broker in &cluster.brokers {
        traffic.await_more(&[&publishing, &taking]).await;
        assert!(broker.process.is_alive(), "it is killed, and has not ended by itself");
        broker.process.kill();
        traffic.await_more(&[&publishing, &taking]).await;
        cluster.launch(broker).come().expect("the broker starts again");
    }
    traffic.is_over.store(true, Ordering::SeqCst);
    publishing.await.expect("everything is confirmed in the end");
    taking.await.expect("everything that was confirmed comes");
}

/// Messages of some keys, numbered, that are published one by one and taken meanwhile.
#[derive(Default)]
struct Traffic {
    confirmed: AtomicUsize,
    taken: AtomicUsize,
    is_over: AtomicBool,
}

impl Traffic {
    /// How many must be confirmed and taken between two faults: enough that each partition has its share.
    const PART: usize = 300;
    const KEYS: usize = 16;

    async fn publish(self: Arc<Self>, bus: Arc<dyn Bus>) {
        while !self.is_over.load(Ordering::SeqCst) {
            let number = self.confirmed.load(Ordering::SeqCst);
            let key = format!("key-{}", number % Self::KEYS);
            let message = message(&key, &number.to_string(), Mode::Binary);
            while let Err(error) = bus.publish(vec![message.clone()]).await.remove(0) {
                assert!(error.is_retryable(), "{error:?}");
            }
            self.confirmed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes until everything that was confirmed has come.
    async fn take(self: Arc<Self>, mut consumer: Box<dyn Consumer>) {
        let mut came = BTreeSet::new();
        let is_all =
            |came| self.is_over.load(Ordering::SeqCst) && came >= self.confirmed.load(Ordering::SeqCst);
        while !is_all(came.len()) {
            // All may have come before it was known to be all.
            let waiting = timeout(Duration::from_secs(1), given::next(&mut consumer));
            let deliveries = waiting.await.unwrap_or_default();
            came.extend(deliveries.iter().map(id));
            self.taken.store(came.len(), Ordering::SeqCst);
            // What cannot be settled comes again.
            drop(
                consumer
                    .settle(deliveries.iter().map(|delivery| Settled::Ack(delivery.token)).collect())
                    .await,
            );
        }
    }

    async fn await_more(&self, tasks: &[&JoinHandle<()>]) {
        for count in [&self.confirmed, &self.taken] {
            let wanted = count.load(Ordering::SeqCst) + Self::PART;
            while count.load(Ordering::SeqCst) < wanted {
                assert!(!tasks.iter().any(|task| task.is_finished()), "one has failed, and says above why");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
