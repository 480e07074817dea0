//! A database of its own for each test, on the server that `ENSUE_TEST_POSTGRES` names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process, thread};

use ensue_core::{
    Append, Commit, ContentType, Envelope, EventId, EventType, Expected, Read, Source, Store, StoreExt,
    StreamName, Timestamp,
};
use ensue_postgres::{Config, PostgresStore};
use ensue_test::conformance::store::Subject;
use tokio_postgres::{Client, NoTls};

/// An empty database, which goes with the test.
pub(crate) struct Database {
    server: tokio_postgres::Config,
    name: String,
}

impl Database {
    /// Makes one on the server.
    pub(crate) async fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let url = env::var("ENSUE_TEST_POSTGRES")
            .expect("ENSUE_TEST_POSTGRES names a server; `cargo xtask test` starts one");
        let server: tokio_postgres::Config = url.parse().expect("ENSUE_TEST_POSTGRES is a URL");
        let name = format!("test_{}_{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let client = session(&server).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the user may make databases");
        Self { server, name }
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// Its address by way of somebody at this port of the same host.
    pub(crate) fn url_at(&self, port: u16) -> String {
        let (host, _, user) = self.place();
        format!("host={host} port={port} user={user} dbname={} sslmode=disable", self.name)
    }

    /// Its address as a URL.
    pub(crate) fn as_url(&self) -> String {
        let (host, port, user) = self.place();
        format!("postgres://{user}@{host}:{port}/{}?sslmode=disable", self.name)
    }

    /// The port of its server.
    pub(crate) fn port(&self) -> u16 {
        self.place().1
    }

    fn place(&self) -> (String, u16, &str) {
        let host = match self.server.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            other => panic!("the server is reached by TCP, not by {other:?}"),
        };
        let port = self.server.get_ports().first().copied().unwrap_or(5432);
        (host, port, self.server.get_user().unwrap_or("postgres"))
    }

    /// A session of it outside of the store.
    pub(crate) async fn session(&self) -> Client {
        session(&self.url().parse().expect("a valid address")).await
    }

    /// How the store of this database is opened.
    pub(crate) fn config(&self) -> Config {
        Config::new(&self.url()).expect("a valid address")
    }

    /// The store.
    pub(crate) async fn open(&self) -> PostgresStore {
        self.config().open().await.expect("an empty database becomes a store")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A thread of its own, because this may be dropped inside of a runtime.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| {
                runtime.block_on(async { session(&server).await.batch_execute(&sql).await.is_ok() })
            })
        });
        if !matches!(dropped.join(), Ok(Ok(true))) {
            eprintln!("the database {} is left behind", self.name);
        }
    }
}

/// A session outside of the store.
pub(crate) async fn session(server: &tokio_postgres::Config) -> Client {
    let (client, connection) = server.connect(NoTls).await.expect("the server runs");
    tokio::spawn(connection);
    client
}

/// A fresh store that can be opened again.
pub(crate) async fn subject() -> Subject {
    let database = Arc::new(Database::new().await);
    let store: Arc<dyn Store> = Arc::new(database.open().await);
    let again = Arc::clone(&database);
    Subject::new(store)
        .opened_by(move || {
            let config = again.config();
            async move { config.open().await.map(|store| Arc::new(store) as Arc<dyn Store>) }
        })
        .guarded_by(database)
}

/// A commit of plain events to one stream of the topic `Test`.
pub(crate) fn append(key: &str, expected: Expected, ids: &[&str]) -> Commit {
    let events = ids.iter().map(|id| event(id)).collect();
    let stream = StreamName::new("Test", key).expect("a valid key");
    Commit { appends: vec![Append { stream, expected, events }], ..Commit::default() }
}

fn event(id: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("a valid id"),
        source: Source::new("test").expect("a valid source"),
        event_type: EventType::new("Happened").expect("a valid type"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: "{}".into(),
    }
}

/// Stream, version and id of every event in order, after checking that positions have no gap.
pub(crate) async fn log(store: &dyn Store) -> Vec<String> {
    let events = store.collect(Read::all()).await.expect("the log can be read");
    let positions: Vec<u64> = events.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, (1..=events.len() as u64).collect::<Vec<_>>());
    events
        .iter()
        .map(|event| format!("{} {} {}", event.stream.key, event.version, event.envelope.id))
        .collect()
}
