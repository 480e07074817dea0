//! NATS with `JetStream`.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Place, Program, variable};
use crate::conformance::bus::await_serving;

/// Who says nothing by then is asked again.
const GREETING_MAX: Duration = Duration::from_secs(1);

pub(super) struct Nats;

impl Program for Nats {
    fn url(&self, place: &Place) -> String {
        format!("nats://127.0.0.1:{}", port(place))
    }

    fn start(&self, place: &Place) -> Child {
        let file = place.folder().join("nats.conf");
        let store = place.folder().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n",
            port(place),
            store.display()
        );
        fs::write(&file, text).expect("the folder is ours");
        let mut command = Command::new(variable("ENSUE_TEST_NATS_SERVER"));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        await_serving(&mut child, || greets(port(place)));
        child
    }
}

fn port(place: &Place) -> u16 {
    let [port, ..] = place.ports;
    port
}

/// Whether it says `INFO`, as it does to everyone.
fn greets(port: u16) -> bool {
    let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut word = [0; 4];
    connection.set_read_timeout(Some(GREETING_MAX)).is_ok()
        && connection.read_exact(&mut word).is_ok()
        && &word == b"INFO"
}
