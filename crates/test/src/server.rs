//! Real servers for tests that strike them: a process, a folder and ports of the test's own.
//!
//! What is needed to start one is in variables that `cargo xtask services` sets: `ENSUE_TEST_NATS_SERVER`, `ENSUE_TEST_PUBSUB_SERVER`,
//! `ENSUE_TEST_RABBITMQ_SERVER`, `ENSUE_TEST_KAFKA_LIBRARIES`, `ENSUE_TEST_AWS_PYTHON`.
//!
//! Invariants: what is killed is gone when the call returns, and was killed and did not end by itself; what is started serves; nothing
//! outlives the test.

use std::path::Path;
use std::process::Child;

use tempfile::TempDir;

use crate::conformance::bus::{Line, Process};

mod amazon;
mod kafka;
mod nats;
mod port;
mod pubsub;
mod rabbitmq;

pub use port::free_port;

/// A fake of Amazon's services, as a program of Python for the interpreter that has moto: called with a port and with a file in which it
/// records what it is asked for, it says `ready` when it listens.
pub const AMAZON: &str = include_str!("server/amazon.py");

/// The key that this fake lets in, and its secret.
pub const AMAZON_KEY: (&str, &str) = ("AKIAENSUEFORTESTS000", "for-tests");

/// A server that runs, or that was killed.
pub struct Server {
    program: Box<dyn Program>,
    place: Place,
    process: Process,
}

/// Where a server keeps its data, and where it listens.
struct Place {
    folder: TempDir,
    ports: [u16; 3],
}

impl Place {
    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// One that was just started, when it has said so.
fn started(mut child: Child, line: Line) -> Child {
    if let Err(reason) = line.come() {
        let killed = child.kill();
        panic!("it does not serve: {reason} ({killed:?})");
    }
    child
}

/// What is particular about one server.
trait Program: Send + Sync {
    /// Where clients find it.
    fn url(&self, place: &Place) -> String;

    /// Makes what the folder must hold before the first start.
    fn prepare(&self, _place: &Place) {}

    /// Starts it, and returns when it serves.
    fn start(&self, place: &Place) -> Child;

    /// Has it write what it would forget if it were killed.
    fn keep_topology(&self, _place: &Place) {}

    /// Ends what outlives its process.
    fn clean_up(&self, _place: &Place) {}
}

impl Server {
    /// A NATS server with `JetStream`, which lets everybody in.
    ///
    /// # Panics
    /// If it does not start.
    pub fn nats() -> Self {
        Self::of(Box::new(nats::Nats))
    }

    /// A fake of Amazon's services, which lets in who has [`AMAZON_KEY`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn amazon() -> Self {
        Self::of(Box::new(amazon::Amazon))
    }

    /// One node of Kafka, which lets everybody in.
    ///
    /// # Panics
    /// If it does not start.
    pub fn kafka() -> Self {
        Self::of(Box::new(kafka::Kafka))
    }

    /// Google's fake of Pub/Sub, which lets everybody in. What is killed is a front of it: the fake forgets everything when it ends.
    ///
    /// # Panics
    /// If it does not start.
    pub fn pubsub() -> Self {
        Self::of(Box::new(pubsub::Pubsub::default()))
    }

    /// One node of RabbitMQ with its user `guest`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn rabbitmq() -> Self {
        Self::of(Box::new(rabbitmq::Rabbitmq))
    }

    fn of(program: Box<dyn Program>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { folder, ports: [(); 3].map(|()| free_port()) };
        program.prepare(&place);
        let server = Self { program, place, process: Process::default() };
        server.start();
        server
    }

    /// Where clients find it, in the words of its adapter.
    pub fn url(&self) -> String {
        self.program.url(&self.place)
    }

    /// Starts it on its old disk and ports, and returns when it serves.
    ///
    /// # Panics
    /// If it runs already, or does not start.
    pub fn start(&self) {
        assert!(!self.process.is_alive(), "it runs already");
        self.process.hold(self.program.start(&self.place));
    }

    /// Kills it, as by SIGKILL, and returns when it is gone.
    ///
    /// # Panics
    /// If it does not run, or has ended by itself.
    pub fn kill(&self) {
        assert!(self.process.is_alive(), "it was killed, and did not end by itself");
        self.process.kill();
    }

    /// Has it write topology that it would forget if it were killed now, where a server is like that.
    pub fn keep_topology(&self) {
        self.program.keep_topology(&self.place);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        self.program.clean_up(&self.place);
    }
}

/// What `cargo xtask services` says in a variable.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cargo xtask services`"))
}
