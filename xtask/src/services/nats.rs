//! The NATS server with `JetStream`, built from its Go module. Files are synced every two minutes by default, which survives a
//! killed server; for measurements each message is synced before it is acknowledged.

use std::fs;
use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Purpose, Service, http, need};

const ENTRY: &str = "nats-server-2.15.2";
const MODULE: &str = "github.com/nats-io/nats-server/v2@v2.15.2";
const CLIENTS: usize = 0;
const MONITORING: usize = 1;

/// The service of this file.
pub(crate) struct Nats;

impl Service for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn ports(&self) -> &'static [u16] {
        &[21422, 21423]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.fill(ENTRY, |folder| {
            need("go", "NATS")?;
            let target = format!("GOBIN={}", folder.display());
            let settings = ["GOFLAGS=-buildvcs=false", "CGO_ENABLED=0", &target];
            cache::install("env", &[&settings[..], &["go", "install", "-ldflags=-s -w", MODULE]].concat())
        })
    }

    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String> {
        let file = place.data().join("nats.conf");
        fs::write(&file, configuration(place))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut command = Command::new(cache.entry(ENTRY).join("nats-server"));
        command.arg("-c").arg(file);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        http::is_ok(&place.address(MONITORING), "/healthz")
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        let program = Cache::location().map(|folder| folder.join(ENTRY).join("nats-server"));
        let program = program.unwrap_or_default().display().to_string();
        vec![
            ("ENSUE_TEST_NATS", format!("nats://{}", place.address(CLIENTS))),
            ("ENSUE_TEST_NATS_SERVER", program),
        ]
    }
}

fn configuration(place: &Place) -> String {
    let sync = match place.purpose() {
        Purpose::Tests => "2m",
        Purpose::Measurement => "always",
    };
    format!(
        "listen: \"{}\"\nhttp: \"{}\"\njetstream {{ store_dir: \"{}\", sync_interval: {sync} }}\n",
        place.address(CLIENTS),
        place.address(MONITORING),
        place.data().join("store").display()
    )
}
