//! A Pub/Sub of its own for each case: Google's fake, which keeps what was published in its memory, and a front of it, which is what
//! clients connect to and what is killed and frozen. The service is built alike: the servers that answer keep nothing.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::bus::{Bus, Consume};
use ensue_core::name::Channel;
use ensue_core::{BoxFuture, Error};
use ensue_pubsub::Config;
use ensue_test::conformance::bus::{Broker, Fault, Tunnel};
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "for-tests";
const PROJECT: &str = "conformance";

/// See [`Broker`].
pub(crate) struct Server {
    memory: Mutex<Option<Program>>,
    /// Where it listens, the same after each start.
    behind: String,
    front: Mutex<Option<Program>>,
    /// Where the front listens, the same after each start.
    address: String,
    tunnel: Tunnel,
}

/// A process, and where it listens.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: String,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the fake starts");
        let mut said = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("it says where it listens");
        let address = said.trim().strip_prefix("listening on ").expect("it says where it listens");
        Self { address: address.to_owned(), child }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill {name} {pid}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it has ended");
    }
}

fn program() -> String {
    env::var("ENSUE_TEST_PUBSUB_SERVER").expect("ENSUE_TEST_PUBSUB_SERVER names the fake")
}

/// The fake, which holds the messages.
fn memory(address: &str) -> Program {
    Program::start(&["-addr", address, "-token", TOKEN])
}

/// What clients connect to.
fn front(address: &str, behind: &str) -> Program {
    Program::start(&["-addr", address, "-behind", behind])
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
    let memory = memory("127.0.0.1:0");
    let behind = memory.address.clone();
    let front = front("127.0.0.1:0", &behind);
    let address = front.address.clone();
    let tunnel = Tunnel::to(address.parse().expect("an address")).await;
    let (memory, front) = (Mutex::new(Some(memory)), Mutex::new(Some(front)));
    Arc::new(Server { memory, behind, front, address, tunnel })
}

pub(crate) fn config(address: &str, token: &str) -> Config {
    Config::new(format!("pubsub://{PROJECT}?emulator={address}"))
        .token(token)
        .answer_within(Duration::from_secs(2))
        .settle_within(Duration::from_secs(3))
        .lease(Duration::from_secs(10))
}

impl Server {
    pub(crate) fn config(&self, token: &str) -> Config {
        config(&self.address, token)
    }

    /// A call of somebody else, by Google's own description of the service: JSON in, JSON out.
    pub(crate) fn call(&self, name: &str, request: &Value) -> Value {
        let request = request.to_string();
        let mut command = Command::new(program());
        command.args(["-addr", &self.behind, "-token", TOKEN, "-call", name, &request]);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{name} {request}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    /// Another way to the same messages, which can be frozen by itself.
    pub(crate) fn other_front(&self) -> Program {
        front("127.0.0.1:0", &self.behind)
    }

    /// Kills what holds the messages, and starts it again with nothing.
    pub(crate) fn lose_everything(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        drop(memory.take());
        *memory = Some(self::memory(&self.behind));
    }

    fn front(&self) -> MutexGuard<'_, Option<Program>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, name: &str) {
        self.front().as_ref().expect("it runs").signal(name);
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
            Fault::Kill => drop(self.front().take()),
            Fault::Start => *self.front() = Some(front(&self.address, &self.behind)),
            Fault::Pause => self.signal("-STOP"),
            Fault::Resume => self.signal("-CONT"),
        }
        Box::pin(async {})
    }

    fn spared(&self) -> Option<&'static str> {
        Some("the process behind it that holds the messages was not killed")
    }

    fn is_alive(&self) -> bool {
        self.front().as_mut().is_some_and(|front| matches!(front.child.try_wait(), Ok(None)))
    }
}
