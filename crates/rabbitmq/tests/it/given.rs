//! Brokers. Cases that leave the broker alone share the one that `cargo xtask services` has started, each in a virtual host of its own;
//! a broker takes several seconds to start, so only those that strike it have one of their own.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Feed};
use ensue_core::name::{Channel, SubscriptionName};
use ensue_core::{BoxFuture, Error};
use ensue_rabbitmq::Config;
use ensue_test::conformance::bus::{Broker, Fault, Line, Process, Tunnel};
use ensue_test::server::free_port;
use tempfile::TempDir;

/// Numbers the virtual hosts of this process.
static HOSTS: AtomicU32 = AtomicU32::new(0);

/// See [`Broker`].
pub(crate) struct Server {
    node: Node,
    /// The virtual host of the case.
    host: String,
    /// Where it is ours: its data, and its process.
    own: Option<(TempDir, Process)>,
    tunnel: Tunnel,
}

/// Where a broker is reached, by clients and by its own tools.
struct Node {
    amqp: u16,
    names: u16,
    nodes: u16,
    name: String,
    home: PathBuf,
    settings: String,
}

/// The broker that all share, in a virtual host of the case's own.
pub(crate) async fn shared() -> Arc<dyn Broker> {
    here().await
}

/// The same, for what the suite does not know.
pub(crate) async fn here() -> Arc<Server> {
    let number = |name: &str| variable(name).parse().expect("it is a port");
    let node = Node {
        amqp: number("ENSUE_TEST_RABBITMQ_PORT"),
        names: number("ENSUE_TEST_RABBITMQ_NAMES_PORT"),
        nodes: 0,
        name: "ensue@localhost".to_owned(),
        home: PathBuf::from(variable("ENSUE_TEST_RABBITMQ_HOME")),
        settings: String::new(),
    };
    let host = format!("case-{}-{}", std::process::id(), HOSTS.fetch_add(1, Ordering::Relaxed));
    node.tell(&format!(
        "rabbit_vhost:add(<<\"{host}\">>, <<\"tests\">>), rabbit_auth_backend_internal:set_permissions(\
         <<\"guest\">>, <<\"{host}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>)."
    ));
    let tunnel = node.tunnel().await;
    Arc::new(Server { node, host, own: None, tunnel })
}

/// A broker of the case's own, that runs and holds nothing.
pub(crate) async fn own() -> Arc<dyn Broker> {
    Arc::new(own_with(|_| String::new()).await)
}

/// The same, with what is to be added to its configuration; made in its folder, which is named.
pub(crate) async fn own_with(settings: impl FnOnce(&Path) -> String) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let (amqp, names, nodes) = (free_port(), free_port(), free_port());
    let home = folder.path().to_owned();
    let settings = settings(&home);
    let node = Node { amqp, names, nodes, name: format!("ensue{amqp}@localhost"), home, settings };
    let tunnel = node.tunnel().await;
    let server = Server { node, host: "%2f".to_owned(), own: Some((folder, Process::default())), tunnel };
    server.strike(Fault::Start).await;
    server
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cargo xtask services up rabbitmq`"))
}

impl Node {
    async fn tunnel(&self) -> Tunnel {
        Tunnel::to((Ipv4Addr::LOCALHOST, self.amqp).into()).await
    }

    fn start(&self) -> Child {
        let write =
            |name: &str, text: &str| fs::write(self.home.join(name), text).expect("the folder is ours");
        write("enabled_plugins", "[].");
        write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.default = 127.0.0.1:{}\nlog.console = true\nlog.console.level = error\n\
                 disk_free_limit.absolute = 50MB\n{}",
                self.amqp, self.settings
            ),
        );
        let at = |name: &str| self.home.join(name);
        let program = PathBuf::from(variable("ENSUE_TEST_RABBITMQ_SERVER"));
        Command::new(program)
            .env("RUNNING_UNDER_SYSTEMD", "1") // the launcher becomes the broker, so that the pid is the broker's own
            .env("HOME", &self.home)
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", self.nodes.to_string())
            .env("ERL_EPMD_PORT", self.names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_BASE", &self.home)
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
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts")
    }

    /// Has the broker evaluate an expression of its own language.
    fn tell(&self, expression: &str) {
        let tool = PathBuf::from(variable("ENSUE_TEST_RABBITMQ_SERVER")).with_file_name("rabbitmqctl");
        let output = Command::new(tool)
            .args(["-n", &self.name, "eval", expression])
            .env("HOME", &self.home)
            .env("ERL_EPMD_PORT", self.names.to_string())
            .output()
            .expect("the tool runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&said));
    }

    fn forget_names(&self) {
        let ended = Command::new("epmd").args(["-port", &self.names.to_string(), "-kill"]).output();
        ended.expect("the tool runs");
    }
}

impl Server {
    fn url(&self, port: u16) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/{}", self.host)
    }

    pub(crate) fn config(&self) -> Config {
        self.config_at(self.node.amqp)
    }

    fn config_at(&self, port: u16) -> Config {
        Config::new(self.url(port))
            .answer_within(Duration::from_secs(3))
            .settle_within(Duration::from_secs(6))
    }

    /// Has the broker evaluate an expression of its own language.
    pub(crate) fn tell(&self, expression: &str) {
        self.node.tell(expression);
    }

    /// A client of somebody else.
    pub(crate) async fn foreign(&self) -> lapin::Connection {
        let properties = lapin::ConnectionProperties::default();
        lapin::Connection::connect(&self.url(self.node.amqp), properties).await.expect("the broker runs")
    }

    fn process(&self) -> &Process {
        let (_, process) = self.own.as_ref().expect("only a broker of the case's own is struck");
        process
    }

    /// A node that was killed may not be let go of yet, and its successor then ends: it is started again, and says why it ended.
    fn start(&self) {
        const STARTS_MAX: u32 = 3;
        let started = (0..STARTS_MAX).any(|_| self.has_started());
        assert!(started, "the broker did not start, {STARTS_MAX} times");
    }

    fn has_started(&self) -> bool {
        let mut child = self.node.start();
        let line = Line::of(child.stdout.take(), "completed with");
        self.process().hold(child);
        let Err(reason) = line.come() else { return true };
        self.process().kill();
        eprintln!("the broker did not start: {reason}");
        false
    }
}

impl Broker for Server {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config().open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = self.config().password("guest", "wrong");
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = self.config_at(self.tunnel.address().port());
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn cut(&self) -> usize {
        self.tunnel.cut()
    }

    fn dead_letters(&self, source: &Consume) -> Option<Consume> {
        let from = Channel::new(format!("{}.dead", source.from)).expect("a valid channel");
        Some(Consume { group: source.group.clone(), from, fed_by: None })
    }

    /// Each group has a queue, which the exchange of the channel feeds.
    fn source(&self, group: SubscriptionName, target: &Channel) -> Consume {
        let from = Channel::new(format!("{target}.{group}")).expect("a valid channel");
        Consume { group, from, fed_by: Some(Feed { from: target.clone(), filter: None }) }
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.process().kill(),
            Fault::Start => self.start(),
            Fault::Pause => self.process().freeze(),
            Fault::Resume => self.process().thaw(),
        }
        Box::pin(async {})
    }

    /// RabbitMQ 3.10 writes the names of new quorum queues some minutes later, and forgets the queues if it is killed before.
    fn keep_topology(&self) -> BoxFuture<'_, ()> {
        self.node.tell("dets:sync(ra_directory_reverse).");
        Box::pin(async {})
    }

    fn is_alive(&self) -> bool {
        self.process().is_alive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.own.is_some() {
            self.process().kill();
            self.node.forget_names();
        } else if !std::thread::panicking() {
            self.node.tell(&format!("rabbit_vhost:delete(<<\"{}\">>, <<\"tests\">>).", self.host));
        }
    }
}
