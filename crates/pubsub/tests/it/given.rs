//! A Pub/Sub of its own for each case: Google's fake, which keeps what was published in its memory, and a front of it, which is what
//! clients connect to and what is killed and frozen. The service is built alike: the servers that answer keep nothing.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consume};
use ensue_core::name::Channel;
use ensue_core::{BoxFuture, Error};
use ensue_pubsub::Config;
use ensue_test::conformance::bus::{Broker, Fault, Process, Tunnel};
use ensue_test::server::free_port;
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "for-tests";
const PROJECT: &str = "conformance";

/// See [`Broker`].
pub(crate) struct Server {
    /// What holds the messages.
    memory: Program,
    /// What clients connect to.
    front: Program,
    tunnel: Tunnel,
}

/// A process, and where it listens, which is the same each time that it is started.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl Program {
    /// Starts one on a port that is free.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let program = Self { process: Process::default(), address: format!("127.0.0.1:{}", free_port()) };
        program.run(arguments);
        program
    }

    /// Starts it again where it was.
    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(program());
        command.args(["-addr", &self.address]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the fake starts");
        let mut said = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("it says where it listens");
        assert!(said.starts_with("listening on "), "it says where it listens: {said}");
        self.process.hold(child);
    }
}

fn program() -> String {
    env::var("ENSUE_TEST_PUBSUB_SERVER").expect("ENSUE_TEST_PUBSUB_SERVER names the fake")
}

/// The whole name of a topic.
pub(crate) fn topic(name: &str) -> String {
    format!("projects/{PROJECT}/topics/{name}")
}

/// The whole name of a subscription.
pub(crate) fn subscription_name(name: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{name}")
}

/// A subscription as somebody makes it who asks for nothing.
pub(crate) fn subscription(name: &str, of: &str) -> Value {
    json!({ "name": subscription_name(name), "topic": topic(of), "ackDeadlineSeconds": 10 })
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    server().await
}

/// The same, for what the suite does not know.
pub(crate) async fn server() -> Arc<Server> {
    let memory = Program::start(&["-token", TOKEN]);
    let front = Program::start(&["-behind", &memory.address]);
    let tunnel = Tunnel::to(front.address.parse().expect("an address")).await;
    Arc::new(Server { memory, front, tunnel })
}

pub(crate) fn config(address: &str, token: &str) -> Config {
    Config::new(format!("pubsub://{PROJECT}?emulator={address}"))
        .token(token)
        .answer_within(Duration::from_secs(2))
        .settle_within(Duration::from_secs(6))
        .lease(Duration::from_secs(10))
}

impl Server {
    pub(crate) fn config(&self, token: &str) -> Config {
        config(&self.front.address, token)
    }

    /// A call of somebody else, by Google's own description of the service: JSON in, JSON out.
    pub(crate) fn call(&self, name: &str, request: &Value) -> Value {
        let request = request.to_string();
        let mut command = Command::new(program());
        command.args(["-addr", &self.memory.address, "-token", TOKEN, "-call", name, &request]);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{name} {request}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    /// Another way to the same messages, which can be frozen by itself.
    pub(crate) fn other_front(&self) -> Program {
        Program::start(&["-behind", &self.memory.address])
    }

    /// Kills what holds the messages, and starts it again with nothing.
    pub(crate) fn lose_everything(&self) {
        self.memory.process.kill();
        self.memory.run(&["-token", TOKEN]);
    }
}

impl Broker for Server {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config(TOKEN).open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config("wrong").open().await?) as Arc<dyn Bus>) })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = config(&self.tunnel.address().to_string(), TOKEN);
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn cut(&self) -> usize {
        self.tunnel.cut()
    }

    fn dead_letters(&self, source: &Consume) -> Option<Consume> {
        let from = Channel::new(format!("{}.{}.dead", source.from, source.group)).expect("a valid channel");
        Some(Consume { group: source.group.clone(), from, fed_by: None })
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.front.process.kill(),
            Fault::Start => self.front.run(&["-behind", &self.memory.address]),
            Fault::Pause => self.front.process.freeze(),
            Fault::Resume => self.front.process.thaw(),
        }
        Box::pin(async {})
    }

    fn spared(&self) -> Option<&'static str> {
        Some("the process behind it that holds the messages was not killed")
    }

    fn is_alive(&self) -> bool {
        self.front.process.is_alive()
    }
}
