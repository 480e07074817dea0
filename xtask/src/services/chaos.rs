//! Faults for a service that runs: killed, paused, resumed, restarted. Each is known to have happened when the command ends.

use super::{Purpose, Service, at, down, process, up};

/// What there is.
pub(crate) const FAULTS: [&str; 4] = ["kill", "pause", "resume", "restart"];

/// Strikes one of [`FAULTS`].
pub(crate) fn strike(service: &dyn Service, fault: &str, purpose: Purpose) -> Result<(), String> {
    let place = at(service, purpose);
    let pid = place.pid().ok_or_else(|| format!("{} does not run", service.name()))?;
    match fault {
        "kill" => process::stop(&place.pid_file(), "KILL"),
        "pause" => process::signal_group(pid, "STOP"),
        "resume" => process::signal_group(pid, "CONT"),
        "restart" => {
            down(service, purpose)?;
            up(service, purpose).map(|_| ())
        }
        _ => Err(format!("there is no fault `{fault}`; there are {}", FAULTS.join(", "))),
    }
}
