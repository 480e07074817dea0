//! Moto, a fake of Amazon's services, `EventBridge` and SQS among them. It keeps everything in memory.

use std::process::Command;

use super::cache::{self, Cache};
use super::place::Place;
use super::{Service, http};

const ENTRY: &str = "moto-5.2.5";
const REQUIREMENTS: &str = include_str!("aws/requirements.txt");

/// The service of this file.
pub(crate) struct Aws;

impl Service for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn ports(&self) -> &'static [u16] {
        &[21566]
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.fill(ENTRY, |folder| cache::install_python(folder, REQUIREMENTS))
    }

    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String> {
        // Not the script `moto_server`: it names the interpreter by the folder in which it was installed, which has moved.
        let mut command = Command::new(cache::python(&cache.entry(ENTRY)));
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &place.port(0).to_string()]);
        command.current_dir(place.data());
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        http::is_ok(&place.address(0), "/moto-api/data.json")
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, String)> {
        let mut variables = vec![("ENSUE_TEST_AWS", format!("http://{}", place.address(0)))];
        // Tests that kill it have one of their own, started with this interpreter.
        if let Ok(cache) = Cache::open() {
            let python = cache::python(&cache.entry(ENTRY));
            variables.push(("ENSUE_TEST_AWS_PYTHON", python.display().to_string()));
        }
        variables
    }
}
