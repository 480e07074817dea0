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

pub(crate) const TOKEN: &str = "for-tests";
pub(crate) const PROJECT: &str = "conformance";

/// See [`Broker`].
pub(crate) struct Server {
    memory: Program,
    front: Mutex<Option<Program>>,
    /// Where the front listens, the same after each start.
    address: String,
    tunnel: Tunnel,
}

/// A process, and where it listens.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let program = env::var("ENSUE_TEST_PUBSUB_SERVER").expect("ENSUE_TEST_PUBSUB_SERVER names the fake");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the fake starts");
        let mut said = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("it says where it listens");
        let address = said.trim().strip_prefix("listening on ").expect("it says where it listens");
        Self { address: address.to_owned(), child }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    server().await
}

/// The same, for what the suite does not know.
pub(crate) async fn server() -> Arc<Server> {
    let memory = Program::start(&["-addr", "127.0.0.1:0", "-token", TOKEN]);
    let front = Program::start(&["-addr", "127.0.0.1:0", "-behind", &memory.address]);
    let address = front.address.clone();
    let tunnel = Tunnel::to(address.parse().expect("an address")).await;
    Arc::new(Server { memory, front: Mutex::new(Some(front)), address, tunnel })
}

fn config(address: &str, token: &str) -> Config {
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

    fn front(&self) -> MutexGuard<'_, Option<Program>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, name: &str) {
        let pid = self.front().as_ref().expect("it runs").child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill {name} {pid}");
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
            Fault::Start => {
                let front = Program::start(&["-addr", &self.address, "-behind", &self.memory.address]);
                *self.front() = Some(front);
            }
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
