//! A pooler in transaction mode between the store and the server.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

use ensue_core::Store;
use ensue_postgres::Config;
use ensue_test::conformance::store::{Finding, Subject, run};
use ensue_test::server::free_port;
use tempfile::TempDir;

use crate::given::{Database, session};
use crate::server::{as_server, give_away};

/// Connections that it keeps to a database, for however many of its clients.
const CONNECTIONS: i64 = 3;

/// Pgbouncer, which gives a connection away with the end of each transaction.
struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// In front of the server of the tests.
    async fn new() -> Self {
        let behind = Database::new().await;
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 500\n\
             default_pool_size = {CONNECTIONS}\n",
            behind.port()
        );
        fs::write(&file, text).expect("the folder is ours");
        give_away(folder.path());
        give_away(&file);
        let program = env::var("ENSUE_TEST_PGBOUNCER").expect("ENSUE_TEST_PGBOUNCER names the pooler");
        let mut command = as_server(Path::new(&program));
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it is installed");
        let url: tokio_postgres::Config = behind.url_at(port).parse().expect("a valid address");
        while url.connect(tokio_postgres::NoTls).await.is_err() {
            assert!(matches!(child.try_wait(), Ok(None)), "the pooler has ended");
        }
        Self { child, port, _folder: folder }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it has ended");
    }
}

/// A fresh store behind the pooler.
async fn subject(port: u16) -> Subject {
    let database = Arc::new(Database::new().await);
    let config = Config::new(&database.url_at(port)).expect("a valid address");
    let store: Arc<dyn Store> = Arc::new(config.clone().open().await.expect("an empty database"));
    Subject::new(store)
        .opened_by(move || {
            let config = config.clone();
            async move { config.open().await.map(|store| Arc::new(store) as Arc<dyn Store>) }
        })
        .guarded_by(database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn the_contract_holds_behind_a_pooler_in_transaction_mode() {
    let pooler = Pooler::new().await;
    let database = Database::new().await;
    let address: tokio_postgres::Config = database.url_at(pooler.port).parse().expect("a valid address");
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS * 4 {
        sessions.push(session(&address).await);
    }
    let mut processes = Vec::new();
    for session in &sessions {
        let row = session.query_typed("SELECT pg_backend_pid()", &[]).await.expect("valid SQL");
        processes.push(row[0].get::<_, i32>(0));
    }
    processes.sort_unstable();
    processes.dedup();
    assert!(processes.len() <= 3, "sessions share connections: {processes:?}");
    drop(sessions);

    let outcomes = run(|| subject(pooler.port)).await;
    let broken: Vec<_> = outcomes.iter().filter(|outcome| outcome.finding != Finding::Kept).collect();
    assert_eq!(broken, Vec::<&ensue_test::conformance::store::Outcome>::new());
    assert!(outcomes.len() > 50, "{} cases", outcomes.len());
}
