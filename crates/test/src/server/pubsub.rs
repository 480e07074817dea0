//! Google's fake of Pub/Sub, in its memory, and a front of it, which clients connect to and which is what is killed. The service is built
//! alike: the servers that answer keep nothing.

use std::process::{Child, Command, Stdio};

use super::{Place, Program, started, variable};
use crate::conformance::bus::{Line, Process};

/// Holds the process that holds the messages.
#[derive(Default)]
pub(super) struct Pubsub(Process);

impl Program for Pubsub {
    fn url(&self, place: &Place) -> String {
        format!("pubsub://tests?emulator={}", front(place))
    }

    fn prepare(&self, place: &Place) {
        self.0.hold(run(&["-addr", &memory(place)]));
    }

    fn start(&self, place: &Place) -> Child {
        run(&["-addr", &front(place), "-behind", &memory(place)])
    }
}

fn front(place: &Place) -> String {
    let [port, ..] = place.ports;
    format!("127.0.0.1:{port}")
}

fn memory(place: &Place) -> String {
    let [_, port, _] = place.ports;
    format!("127.0.0.1:{port}")
}

/// Starts the program, and returns when it listens, which it says.
fn run(arguments: &[&str]) -> Child {
    let mut command = Command::new(variable("ENSUE_TEST_PUBSUB_SERVER"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the fake starts");
    let line = Line::of(child.stdout.take(), "listening on ");
    started(child, line)
}
