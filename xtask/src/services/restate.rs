//! Restate's server, from its npm package. Its log is synced before it acknowledges, which is its default.

use std::env;
use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Purpose, Service, http, need};

const ENTRY: &str = "restate-server-1.7.12";
const PACKAGE: &str = "@restatedev/restate-server@1.7.12";
const INGRESS: usize = 0;
const ADMIN: usize = 1;
const NODE: usize = 2;

/// The service of this file.
pub(crate) struct Restate;

impl Service for Restate {
    fn name(&self) -> &'static str {
        "restate"
    }

    fn ports(&self) -> &'static [u16] {
        &[21980, 21970, 21922]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.fill(ENTRY, |folder| {
            need("npm", "Restate")?;
            let prefix = folder.to_string_lossy();
            cache::install("npm", &["install", "--silent", "--ignore-scripts", "--prefix", &prefix, PACKAGE])
        })
    }

    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String> {
        let machine = match env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "x64",
        };
        let package = format!("node_modules/@restatedev/restate-server-linux-{machine}/bin/restate-server");
        let mut command = Command::new(cache.entry(ENTRY).join(package));
        command
            .arg("--base-dir")
            .arg(place.data())
            .env("RESTATE_DISABLE_TELEMETRY", "true")
            .env("RESTATE_LOG_FILTER", "warn")
            .env("RESTATE_INGRESS__BIND_ADDRESS", place.address(INGRESS))
            .env("RESTATE_ADMIN__BIND_ADDRESS", place.address(ADMIN))
            .env("RESTATE_BIND_ADDRESS", place.address(NODE));
        if place.purpose() == Purpose::Measurement {
            // The default of 24 partitions is meant for more than two cores, and each has a log of its own.
            command.env("RESTATE_DEFAULT_NUM_PARTITIONS", "4");
        }
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        http::is_ok(&place.address(ADMIN), "/health")
            && http::is_ok(&place.address(INGRESS), "/restate/health")
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("ENSUE_TEST_RESTATE", format!("http://{}", place.address(INGRESS))),
            ("ENSUE_TEST_RESTATE_ADMIN", format!("http://{}", place.address(ADMIN))),
        ]
    }
}
