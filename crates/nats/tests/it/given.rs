//! A NATS server of its own for each case: a process, a folder, a port.

use std::env;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::Bus;
use ensue_core::{BoxFuture, Error};
use ensue_nats::Config;
use ensue_test::conformance::bus::{Broker, Fault, Process, Tunnel, await_serving};
use ensue_test::server::free_port;
use tempfile::TempDir;

pub(crate) const TOKEN: &str = "for-tests";

/// See [`Broker`].
pub(crate) struct Server {
    folder: TempDir,
    /// Who is let in, and how.
    settings: String,
    port: u16,
    tunnel: Tunnel,
    process: Process,
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    server().await
}

fn config(port: u16, token: &str) -> Config {
    Config::new(format!("nats://127.0.0.1:{port}"))
        .token(token)
        .answer_within(Duration::from_secs(2))
        .settle_within(Duration::from_secs(6))
}

/// The same, for what the suite does not know.
pub(crate) async fn server() -> Arc<Server> {
    with(|_| format!("authorization {{ token: \"{TOKEN}\" }}\n")).await
}

/// The same, with what is to be in its configuration; made in its folder, which is named.
pub(crate) async fn with(settings: impl FnOnce(&Path) -> String) -> Arc<Server> {
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server {
        settings: settings(folder.path()),
        folder,
        port,
        tunnel: Tunnel::to((Ipv4Addr::LOCALHOST, port).into()).await,
        process: Process::default(),
    };
    server.strike(Fault::Start).await;
    Arc::new(server)
}

impl Server {
    /// A client of somebody else.
    pub(crate) async fn foreign(&self) -> async_nats::jetstream::Context {
        let options = async_nats::ConnectOptions::with_token(TOKEN.to_owned());
        let client = options.connect(format!("127.0.0.1:{}", self.port)).await.expect("the server runs");
        async_nats::jetstream::new(client)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self, token: &str) -> Config {
        config(self.port, token)
    }

    fn start(&self) {
        let file = self.folder.path().join("nats.conf");
        let store = self.folder.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\n{}jetstream {{ store_dir: \"{}\" }}\n",
            self.port,
            self.settings,
            store.display()
        );
        fs::write(&file, text).expect("the folder is ours");
        let program = env::var("ENSUE_TEST_NATS_SERVER").expect("ENSUE_TEST_NATS_SERVER names the server");
        let mut command = Command::new(PathBuf::from(program));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        await_serving(&mut child, || self.greets());
        self.process.hold(child);
    }

    /// Whether it says `INFO`, as it does to everyone.
    fn greets(&self) -> bool {
        let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let mut word = [0; 4];
        // One that says nothing is asked again.
        connection.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
            && connection.read_exact(&mut word).is_ok()
            && &word == b"INFO"
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
        let config = config(self.tunnel.address().port(), TOKEN);
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
