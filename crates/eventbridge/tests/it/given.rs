//! A fake of Amazon's services of its own for each case: a process, a folder, a port. See `amazon.py`.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Feed};
use ensue_core::name::{Channel, SubscriptionName};
use ensue_core::{BoxFuture, Error};
use ensue_eventbridge::Config;
use ensue_test::conformance::bus::{Broker, Fault, Tunnel};
use tempfile::TempDir;

/// Who may do everything, see `amazon.py`.
pub(crate) const KEY: (&str, &str) = ("AKIAENSUEFORTESTS000", "for-tests");

/// See [`Broker`].
pub(crate) struct Server {
    folder: TempDir,
    address: SocketAddr,
    tunnel: Tunnel,
    child: Mutex<Option<Child>>,
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    server().await
}

fn config(address: SocketAddr, secret: &str) -> Config {
    Config::new(format!("aws://us-east-1?endpoint=http://{address}"))
        .keys(KEY.0, secret)
        .answer_within(Duration::from_secs(10))
        .hidden_for(Duration::from_secs(6))
        .settle_within(Duration::from_secs(10))
}

/// The same, for what the suite does not know.
pub(crate) async fn server() -> Arc<Server> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = port.expect("a free port");
    let server = Server {
        folder: tempfile::tempdir().expect("a folder"),
        address,
        tunnel: Tunnel::to(address).await,
        child: Mutex::new(None),
    };
    server.strike(Fault::Start).await;
    Arc::new(server)
}

impl Server {
    pub(crate) fn config(&self) -> Config {
        config(self.address, KEY.1)
    }

    fn start(&self) {
        let python = env::var("ENSUE_TEST_AWS_PYTHON").expect("ENSUE_TEST_AWS_PYTHON names the interpreter");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/amazon.py");
        let mut child = Command::new(python)
            .arg(program)
            .arg(self.address.port().to_string())
            .arg(self.folder.path().join("recording"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the fake starts");
        let said = child.stdout.take().map(BufReader::new).and_then(|lines| lines.lines().next());
        assert_eq!(said.and_then(Result::ok).as_deref(), Some("ready"), "the fake says that it listens");
        *self.lock() = Some(child);
    }

    fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            child.kill().expect("it is ours");
            child.wait().expect("it has ended");
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.lock().as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill {name} {pid}");
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue of a group for what is published to a bus.
fn queue(group: &SubscriptionName, target: &Channel) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{group}-{target}").chars().map(plain).collect()
}

impl Broker for Server {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config().open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(config(self.address, "wrong").open().await?) as Arc<dyn Bus>) })
    }

    fn source(&self, group: SubscriptionName, target: &Channel) -> Consume {
        let from = Channel::new(queue(&group, target)).expect("a valid name");
        Consume { group, from, fed_by: Some(Feed { from: target.clone(), filter: None }) }
    }

    fn dead_letters(&self, source: &Consume) -> Option<Consume> {
        let from = Channel::new(format!("{}-dead", source.from)).expect("a valid name");
        Some(Consume { group: source.group.clone(), from, fed_by: None })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = config(self.tunnel.address(), KEY.1);
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn cut(&self) -> usize {
        self.tunnel.cut()
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.kill(),
            Fault::Start => self.start(),
            Fault::Pause => self.signal("-STOP"),
            Fault::Resume => self.signal("-CONT"),
        }
        Box::pin(async {})
    }

    fn spared(&self) -> Option<&'static str> {
        Some("the fake makes the requests again that it has recorded")
    }

    fn is_alive(&self) -> bool {
        self.lock().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
