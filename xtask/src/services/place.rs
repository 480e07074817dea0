//! Where a running service lives: its data, its log, its pid file, and the ports it was given.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::{Purpose, process};

/// By how much all ports of a service move down when one is taken: above them are those that tests take for themselves.
const SHIFT: u16 = 1_000;
/// How often they may.
const SHIFTS_MAX: u16 = 10;

/// One service in one folder.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    name: &'static str,
    wanted: Vec<u16>,
    ports: Vec<u16>,
    purpose: Purpose,
}

impl Place {
    /// With the ports that were chosen for it before, or those it would like.
    pub(crate) fn new(folder: &Path, name: &'static str, ports: &[u16], purpose: Purpose) -> Self {
        let mut place =
            Self { folder: folder.to_owned(), name, wanted: ports.to_vec(), ports: ports.to_vec(), purpose };
        let chosen = fs::read_to_string(place.ports_file()).unwrap_or_default();
        let chosen: Vec<u16> = chosen.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if chosen.len() == ports.len() {
            place.ports = chosen;
        }
        place
    }

    /// Makes the folder and takes free ports, the same as before if that can be.
    pub(crate) fn make(&mut self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot make {}: {error}", self.folder.display());
        fs::create_dir_all(self.data()).map_err(failed)?;
        let shifted = |shift| self.wanted.iter().map(|port| port.checked_sub(shift * SHIFT)).collect();
        let choices: Vec<Vec<u16>> = (0..SHIFTS_MAX).filter_map(shifted).collect();
        // As before, if that was one of them.
        let before = choices.iter().find(|ports| **ports == self.ports);
        let free = |ports: &&Vec<u16>| ports.iter().all(|port| is_free(*port));
        let chosen = before.into_iter().chain(&choices).find(free);
        self.ports = chosen.cloned().ok_or_else(|| format!("{}: no free ports", self.name))?;
        let line: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        fs::write(self.ports_file(), line.join(" "))
            .map_err(|error| format!("cannot write {}: {error}", self.ports_file().display()))
    }

    /// What the service is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it is started for.
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// One of its ports, in the order of [`super::Service::ports`].
    pub(crate) fn port(&self, index: usize) -> u16 {
        self.ports.get(index).copied().unwrap_or_default()
    }

    /// `127.0.0.1:PORT` of one of its ports.
    pub(crate) fn address(&self, index: usize) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port(index))
    }

    /// The process that serves it, if one lives.
    pub(crate) fn pid(&self) -> Option<u32> {
        process::find(&self.pid_file())
    }

    /// Its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// What it says.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Which process it is.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.name))
    }

    fn ports_file(&self) -> PathBuf {
        self.folder.join(format!("{}.ports", self.name))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_moves_all_ports_and_the_choice_is_remembered() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let folder = std::env::temp_dir().join(format!("ensue-place-{}", std::process::id()));
        let wanted = [port, port.checked_sub(1).expect("not the first")];
        let mut place = Place::new(&folder, "kafka", &wanted, Purpose::Tests);
        let made = place.make();
        let again = Place::new(&folder, "kafka", &wanted, Purpose::Tests);
        fs::remove_dir_all(&folder).expect("the folder is ours");
        assert_eq!(made, Ok(()));
        assert_eq!(place.port(0) % SHIFT, port % SHIFT);
        assert_ne!(place.port(0), port);
        assert_eq!(place.port(0) - 1, place.port(1));
        assert_eq!(again.ports, place.ports);
    }
}
