//! `cargo xtask services up|down|status|env|chaos`: real servers on loopback, without containers, for tests and benchmarks.
//!
//! One service is one file in `services/`. What it needs is installed once per pinned version below
//! `${XDG_CACHE_HOME:-~/.cache}/ensue-services`; data, logs and pid files lie in `target/services`. Only processes that were
//! started from there are ever signalled.

use std::env;
use std::process::Command;

use crate::tree;
use cache::Cache;
use place::Place;

mod aws;
mod cache;
mod chaos;
mod http;
mod kafka;
mod nats;
mod place;
pub(crate) mod postgres;
pub(crate) mod process;
mod pubsub;
mod rabbitmq;
mod restate;

/// A server that this program can install, start and stop.
pub(crate) trait Service: Sync {
    /// What it is called on the command line, and what its files are called.
    fn name(&self) -> &'static str;

    /// The ports it listens on, if they are free: the first is what a client connects to.
    fn ports(&self) -> &'static [u16];

    /// Brings what it needs into the cache or onto the machine. Does nothing when it is there.
    fn install(&self, cache: &Cache) -> Result<(), String>;

    /// How it is started: what it needs once, such as its folders, is made here.
    fn command(&self, cache: &Cache, place: &Place) -> Result<Command, String>;

    /// Whether it answers. What clients expect to find, such as a database, is made at the first yes.
    fn is_ready(&self, place: &Place) -> bool;

    /// The signal that makes it stop at once and cleanly.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }

    /// Ends what the service has left running beside itself.
    fn clean_up(&self, _place: &Place) {}

    /// Where clients find it: variables of the environment.
    fn environment(&self, place: &Place) -> Vec<(&'static str, String)>;
}

/// What a service is started for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Quick to start, small, and safe against a killed server only.
    Tests,
    /// At its best, and safe against a lost machine.
    Measurement,
}

const SERVICES: [&dyn Service; 7] = [
    &aws::Aws,
    &kafka::Kafka,
    &nats::Nats,
    &postgres::Postgres,
    &pubsub::Pubsub,
    &rabbitmq::Rabbitmq,
    &restate::Restate,
];

/// `up`, `down`, `status`, `env` or `chaos`, and the names behind it.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let purpose = if words.contains(&"--durable") { Purpose::Measurement } else { Purpose::Tests };
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "--durable").collect();
    match words.as_slice() {
        ["up", names @ ..] if !names.is_empty() => {
            for service in named(names)? {
                let place = up(service, purpose)?;
                print_environment(service, &place);
            }
            Ok(())
        }
        ["down"] => SERVICES.iter().try_for_each(|service| down(*service, purpose)),
        ["down", names @ ..] => named(names)?.into_iter().try_for_each(|service| down(service, purpose)),
        ["status"] => {
            SERVICES.iter().for_each(|service| println!("{}", status(*service, purpose)));
            Ok(())
        }
        ["env"] => {
            let places = SERVICES.iter().map(|service| (*service, at(*service, purpose)));
            let running = places.filter(|(_, place)| place.pid().is_some());
            running.for_each(|(service, place)| print_environment(service, &place));
            Ok(())
        }
        ["chaos", name, fault] => chaos::strike(find(name)?, fault, purpose),
        _ => Err(format!(
            "services up|down|status|env [NAME…] [--durable], or chaos NAME {}; the names are {}",
            chaos::FAULTS.join("|"),
            all_names()
        )),
    }
}

/// Installs, starts and waits until it answers. One that runs already is left alone.
pub(crate) fn up(service: &dyn Service, purpose: Purpose) -> Result<Place, String> {
    let cache = Cache::open()?;
    service.install(&cache)?;
    let mut place = at(service, purpose);
    if place.pid().is_none() {
        place.make()?;
        let command = service.command(&cache, &place)?;
        process::spawn(&command, &place)?;
    }
    process::await_ready(&place, || service.is_ready(&place))?;
    Ok(place)
}

/// Whether it runs, started by this program.
pub(crate) fn is_running(service: &dyn Service, purpose: Purpose) -> bool {
    at(service, purpose).pid().is_some()
}

/// Stops it and keeps its data. One that does not run is no error.
pub(crate) fn down(service: &dyn Service, purpose: Purpose) -> Result<(), String> {
    let place = at(service, purpose);
    process::stop(&place.pid_file(), service.stop_signal())?;
    service.clean_up(&place);
    Ok(())
}

/// The service of this name.
pub(crate) fn find(name: &str) -> Result<&'static dyn Service, String> {
    let found = SERVICES.into_iter().find(|service| service.name() == name);
    found.ok_or_else(|| format!("there is no service `{name}`; the names are {}", all_names()))
}

fn named(names: &[&str]) -> Result<Vec<&'static dyn Service>, String> {
    names.iter().map(|name| find(name)).collect()
}

fn all_names() -> String {
    SERVICES.map(Service::name).join(", ")
}

/// Tests and measurements have folders of their own, so neither meets the other's data.
fn at(service: &dyn Service, purpose: Purpose) -> Place {
    let folder = match purpose {
        Purpose::Tests => "services",
        Purpose::Measurement => "services-durable",
    };
    Place::new(&tree::root().join("target").join(folder), service.name(), service.ports(), purpose)
}

fn print_environment(service: &dyn Service, place: &Place) {
    for (name, value) in service.environment(place) {
        println!("export {name}={value}");
    }
}

fn status(service: &dyn Service, purpose: Purpose) -> String {
    let place = at(service, purpose);
    match place.pid() {
        Some(pid) => format!("{:<10} running, pid {pid}, port {}", service.name(), place.port(0)),
        None => format!("{:<10} stopped", service.name()),
    }
}

/// A program that has to be on the path.
fn need(program: &str, service: &str) -> Result<(), String> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    if is_there { Ok(()) } else { Err(format!("`{program}` is needed to run {service}: install it")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_names_there_are() {
        let refusal = find("kafak").err().expect("there is no such service");
        assert!(refusal.contains("kafka, nats, postgres"), "{refusal}");
    }

    #[test]
    fn no_two_services_want_the_same_port() {
        let mut ports: Vec<u16> = SERVICES.iter().flat_map(|service| service.ports().to_vec()).collect();
        let wanted = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), wanted);
    }
}
