//! A broker of a case's own, which it may kill, pause and be cut from: a process, a folder, four ports, and a password. Brokers say
//! where they are to be found, so the tunnel leads to a port of its own, of which the broker says that it is the tunnel's. The fourth
//! port speaks TLS, asks for a certificate, and has the password proved by SCRAM.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Declare, Topology};
use ensue_core::name::Channel;
use ensue_core::{BoxFuture, Error};
use ensue_kafka::{Config, Mechanism};
use ensue_test::certificates::certify;
use ensue_test::conformance::bus::{Broker, Fault, Line, Process, Tunnel};
use ensue_test::server::free_port;
use tempfile::TempDir;

pub(crate) const USER: &str = "ensue";
const MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";
pub(crate) const PASSWORD: &str = "for-tests";
/// The identity of the cluster, base64url of sixteen bytes.
pub(crate) const CLUSTER: &str = "ZW5zdWUtdGVzdC1rYWZrYQ";
/// Who says in the log of the broker that it runs, and how.
pub(crate) const LOGGER: &str = "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info";
pub(crate) const STARTED: &str = "Kafka Server started";
/// How long a frozen broker is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// See [`Broker`].
pub(crate) struct Own {
    folder: TempDir,
    ports: [u16; 4],
    tunnel: Tunnel,
    process: Process,
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    Arc::new(here().await)
}

/// The same, for what the suite does not know.
pub(crate) async fn here() -> Own {
    let ports = [(); 4].map(|()| free_port());
    let own = Own {
        folder: tempfile::tempdir().expect("a folder"),
        ports,
        tunnel: Tunnel::to((Ipv4Addr::LOCALHOST, ports[2]).into()).await,
        process: Process::default(),
    };
    own.format();
    own.start();
    own.warm_up().await;
    own
}

fn config(port: u16, password: &str) -> Config {
    Config::new(format!("kafka://127.0.0.1:{port}"))
        .password(Mechanism::Plain, USER, password)
        .partitions(2)
        .answer_within(ANSWER)
}

impl Own {
    fn properties(&self) -> String {
        let [broker, controller, tunnelled, secured] = self.ports;
        let tunnel = self.tunnel.address();
        format!(
            "process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},TUNNEL://127.0.0.1:{tunnelled},SECURED://127.0.0.1:{secured}
advertised.listeners=BROKER://127.0.0.1:{broker},TUNNEL://{tunnel},SECURED://127.0.0.1:{secured}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT,TUNNEL:SASL_PLAINTEXT,SECURED:SASL_SSL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.broker.plain.sasl.jaas.config={MODULE} username=\"{USER}\" password=\"{PASSWORD}\" user_{USER}=\"{PASSWORD}\";
listener.name.tunnel.plain.sasl.jaas.config={MODULE} user_{USER}=\"{PASSWORD}\";
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={}
listener.name.secured.ssl.truststore.type=PEM
listener.name.secured.ssl.truststore.location={}
listener.name.secured.ssl.client.auth=required
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
quota.window.num=2
log.cleaner.dedupe.buffer.size=4194304
",
            self.file("broker.pem").display(),
            self.file("ca.crt").display(),
            self.file("log").display()
        )
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let libraries = env::var("ENSUE_TEST_KAFKA_LIBRARIES").expect("it names the folder of Kafka's jars");
        let mut command = Command::new("java");
        command
            .args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", LOGGER])
            .arg("-cp")
            .arg(format!("{libraries}/*"))
            .args(arguments)
            .arg(self.folder.path().join("server.properties"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Where everybody connects to who has the password.
    pub(crate) fn plain(&self) -> Config {
        config(self.ports[0], PASSWORD)
    }

    /// Where it speaks TLS.
    pub(crate) fn secured(&self, host: &str) -> Config {
        Config::new(format!("kafka+tls://{host}:{}", self.ports[3])).answer_within(ANSWER)
    }

    /// A client of somebody else.
    pub(crate) async fn foreign(&self) -> krafka::Kafka {
        let client = krafka::Kafka::builder(format!("127.0.0.1:{}", self.ports[0]));
        let security = krafka::auth::AuthConfig::sasl_plain(USER, PASSWORD);
        client.security(security).connect().await.expect("the broker runs")
    }

    /// A file in its folder, where its certificates are too.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn format(&self) {
        certify(self.folder.path());
        let parts = ["server.key", "server.crt"];
        let both = parts.map(|name| fs::read_to_string(self.file(name)).expect("it was made")).concat();
        fs::write(self.file("broker.pem"), both).expect("the folder is ours");
        fs::write(self.file("server.properties"), self.properties()).expect("the folder is ours");
        let proof = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        let format =
            ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "--add-scram", &proof, "-c"];
        let status = self.java(&format).status().expect("java runs");
        assert!(status.success(), "Kafka formats its folder");
    }

    fn start(&self) {
        let mut child =
            self.java(&["kafka.Kafka"]).stderr(Stdio::piped()).spawn().expect("the broker starts");
        let line = Line::of(child.stderr.take(), STARTED);
        self.process.hold(child);
        line.come().expect("the broker starts");
    }

    /// The first topic of a broker takes longer than one that runs may take.
    async fn warm_up(&self) {
        let bus = config(self.ports[0], PASSWORD).answer_within(Duration::from_secs(30)).open().await;
        let bus = bus.expect("the broker runs");
        let first = Channel::new("warm-up").expect("a valid channel");
        let topology = Topology { targets: vec![first], sources: Vec::new() };
        bus.declare(&topology, Declare::Make).await.expect("the first topic can be made");
    }
}

impl Broker for Own {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(config(self.ports[0], PASSWORD).open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(config(self.ports[0], "wrong").open().await?) as Arc<dyn Bus>) })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = config(self.tunnel.address().port(), PASSWORD);
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn cut(&self) -> usize {
        self.tunnel.cut()
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.process.kill(),
            Fault::Start => self.start(),
            Fault::Pause => self.process.freeze(),
            Fault::Resume => self.process.thaw(),
        }
        Box::pin(async {})
    }

    fn is_alive(&self) -> bool {
        self.process.is_alive()
    }
}
