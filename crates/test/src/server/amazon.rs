//! Moto, a fake of Amazon's services. The program beside this file gives it a disk and locks.

use std::process::{Child, Command, Stdio};

use super::{AMAZON, Place, Program, started, variable};
use crate::conformance::bus::Line;

/// What it says when it listens.
const STARTED: &str = "ready";

pub(super) struct Amazon;

impl Program for Amazon {
    fn url(&self, place: &Place) -> String {
        let [port, ..] = place.ports;
        format!("aws://us-east-1?endpoint=http://127.0.0.1:{port}")
    }

    fn start(&self, place: &Place) -> Child {
        let [port, ..] = place.ports;
        let mut command = Command::new(variable("ENSUE_TEST_AWS_PYTHON"));
        command.args(["-c", AMAZON, &port.to_string()]).arg(place.folder().join("recording"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the fake starts");
        let line = Line::of(child.stdout.take(), STARTED);
        started(child, line)
    }
}
