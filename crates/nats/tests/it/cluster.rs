//! Three NATS servers that are one cluster.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::stream::Config as Stream;
use ensue_nats::{Config, NatsBus};
use ensue_test::conformance::bus::Process;
use ensue_test::server::free_port;
use tempfile::TempDir;

const SERVERS: usize = 3;

/// Each server is a process, all in one folder.
pub(crate) struct Cluster {
    folder: TempDir,
    servers: Vec<Server>,
}

struct Server {
    name: String,
    clients: u16,
    /// Where the others find it.
    peers: u16,
    process: Process,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let server = |index| Server {
            name: format!("n{index}"),
            clients: free_port(),
            peers: free_port(),
            process: Process::default(),
        };
        let servers = (0..SERVERS).map(server).collect();
        let cluster = Self { folder: tempfile::tempdir().expect("a folder"), servers };
        cluster.servers.iter().for_each(|server| cluster.launch(server));
        cluster
    }

    fn launch(&self, server: &Server) {
        let routes: Vec<String> =
            self.servers.iter().map(|peer| format!("\"nats://127.0.0.1:{}\"", peer.peers)).collect();
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n\
             cluster {{ name: shop, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
            server.clients,
            self.folder.path().join(&server.name).display(),
            server.peers,
            routes.join(", "),
            name = server.name,
        );
        let file = self.folder.path().join(format!("{}.conf", server.name));
        fs::write(&file, text).expect("the folder is ours");
        let program = env::var("ENSUE_TEST_NATS_SERVER").expect("ENSUE_TEST_NATS_SERVER names the server");
        let mut command = Command::new(PathBuf::from(program));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        server.process.hold(command.spawn().expect("the server starts"));
    }

    fn named(&self, name: &str) -> &Server {
        self.servers.iter().find(|server| server.name == name).expect("one of the three")
    }

    /// The addresses of all servers but this one.
    fn url_without(&self, name: &str) -> String {
        let others = self.servers.iter().filter(|server| server.name != name);
        others.map(|server| format!("nats://127.0.0.1:{}", server.clients)).collect::<Vec<_>>().join(",")
    }

    /// Makes a stream with a single copy, once the cluster has agreed on who leads it: the name of the server that has the copy.
    pub(crate) async fn keep_on_one(&self, stream: Stream) -> String {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let servers: Vec<String> = self.url_without("").split(',').map(str::to_owned).collect();
        let client = options.connect(servers).await.expect("it is tried until a server is there");
        let foreign = async_nats::jetstream::new(client);
        loop {
            let Ok(mut made) = foreign.create_stream(stream.clone()).await else { continue };
            let Ok(info) = made.info().await else { continue };
            if let Some(leader) = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone()) {
                return leader;
            }
        }
    }

    /// A bus that knows the other servers alone, and does not see the fall of this one as an end of its connection.
    pub(crate) async fn bus_without(&self, name: &str) -> NatsBus {
        let config = Config::new(self.url_without(name)).answer_within(Duration::from_secs(2));
        config.open().await.expect("the address is understood")
    }

    pub(crate) fn kill(&self, name: &str) {
        self.named(name).process.kill();
    }

    pub(crate) fn start_again(&self, name: &str) {
        self.launch(self.named(name));
    }
}
