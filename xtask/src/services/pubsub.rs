//! Google's own fake of Pub/Sub, in memory: a program of a few lines around the module that Google's clients are tested with. It can
//! ask for a token, says of late acknowledgements what the service says of them, and stands in front of another one as a process that may
//! be killed while what was published stays.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Service, need};

const ENTRY: &str = "pubsub-2.8.1-exact";
const PROGRAM: &str = "pubsub";
const SOURCES: [(&str, &str); 6] = [
    ("call.go", include_str!("pubsub/call.go")),
    ("exact.go", include_str!("pubsub/exact.go")),
    ("go.mod", include_str!("pubsub/go.mod")),
    ("go.sum", include_str!("pubsub/go.sum")),
    ("main.go", include_str!("pubsub/main.go")),
    ("token.go", include_str!("pubsub/token.go")),
];

/// The service of this file.
pub(crate) struct Pubsub;

impl Service for Pubsub {
    fn name(&self) -> &'static str {
        "pubsub"
    }

    fn ports(&self) -> &'static [u16] {
        &[21085]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.fill(ENTRY, |folder| {
            need("go", "the fake of Pub/Sub")?;
            for (name, text) in SOURCES {
                let file = folder.join(name);
                fs::write(&file, text)
                    .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            }
            let (sources, program) = (folder.to_string_lossy(), folder.join(PROGRAM));
            let program = program.to_string_lossy();
            let settings = ["GOFLAGS=-buildvcs=false", "CGO_ENABLED=0"];
            let build =
                ["go", "build", "-C", &sources, "-mod=readonly", "-ldflags=-s -w", "-o", &program, "."];
            cache::install("env", &[&settings[..], &build].concat())
        })
    }

    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String> {
        let mut command = Command::new(cache.entry(ENTRY).join(PROGRAM));
        command.args(["-addr", &place.address(0)]);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        TcpStream::connect(place.address(0)).is_ok()
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        let program = Cache::location().map(|folder| folder.join(ENTRY).join(PROGRAM));
        let program = program.unwrap_or_default().display().to_string();
        vec![("ENSUE_TEST_PUBSUB", place.address(0)), ("ENSUE_TEST_PUBSUB_SERVER", program)]
    }
}
