//! Starts, finds and stops the process of a service. A pid file holds the pid and the start time of the process, so that a
//! pid which the kernel gave to somebody else is never taken for ours.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::place::Place;

/// Until it answers, and until it has stopped.
const READY_WITHIN: Duration = Duration::from_secs(90);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines of its log that a failure shows.
const LAST_LINES: usize = 15;

/// Starts it in a process group of its own, so that an interrupt of ours is not one of it, and without the files that whoever
/// runs us has open: a lock or a pipe among them would be held for as long as the service runs.
pub(crate) fn spawn(command: &Command, place: &Place) -> Result<(), String> {
    let mut command = without_our_files(command);
    let failed = |error: std::io::Error| format!("cannot start {}: {error}", place.name());
    let log = File::options().create(true).append(true).open(place.log()).map_err(failed)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
    let child = command.spawn().map_err(failed)?;
    let started = start_time(child.id()).unwrap_or_default();
    fs::write(place.pid_file(), format!("{} {started}", child.id())).map_err(failed)
}

/// The same command behind a shell that closes files and becomes it, so that it is the process that was started.
fn without_our_files(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// A process and all that it and those have started, as far as they live.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children(*pid));
        next += 1;
    }
    family
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The pid of the living process that the file names.
pub(crate) fn find(pid_file: &Path) -> Option<u32> {
    let text = fs::read_to_string(pid_file).ok()?;
    let (pid, started) = text.split_once(' ')?;
    let pid = pid.parse().ok()?;
    let started: u64 = started.parse().ok()?;
    (start_time(pid)? == started).then_some(pid)
}

/// Waits until it answers; one that has ended, or takes too long, is an error with the end of its log.
pub(crate) fn await_ready(place: &Place, is_ready: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready() {
        let why = match find(&place.pid_file()) {
            None => "ended while it started",
            Some(_) if Instant::now() > deadline => "does not answer",
            Some(_) => {
                thread::sleep(LOOK_EVERY);
                continue;
            }
        };
        let log = fs::read_to_string(place.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n");
        return Err(format!("{} {why}; the end of {}:\n{last}", place.name(), place.log().display()));
    }
    Ok(())
}

/// Asks it to stop, and kills it if it does not.
pub(crate) fn stop(pid_file: &Path, signal: &str) -> Result<(), String> {
    for (signal, within) in [(signal, STOPPED_WITHIN), ("KILL", STOPPED_WITHIN)] {
        let Some(pid) = find(pid_file) else { break };
        kill(pid, signal)?;
        kill(pid, "CONT")?; // one that was paused would not see the first
        let deadline = Instant::now() + within;
        while find(pid_file).is_some() && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
    }
    match find(pid_file) {
        Some(pid) => Err(format!("process {pid} does not end")),
        None if pid_file.exists() => fs::remove_file(pid_file)
            .map_err(|error| format!("cannot remove {}: {error}", pid_file.display())),
        None => Ok(()),
    }
}

/// Sends a signal to the service and all that it has started, which are one process group.
pub(crate) fn signal_group(pid: u32, signal: &str) -> Result<(), String> {
    let status = Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{pid}")]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("process group {pid} does not take the signal {signal}")),
        Err(error) => Err(format!("cannot run kill: {error}")),
    }
}

fn kill(pid: u32, signal: &str) -> Result<(), String> {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    // It may have ended by itself in between, which is what is wanted.
    status.map(|_| ()).map_err(|error| format!("cannot run kill: {error}"))
}

/// When the process started, in ticks since the machine did; nothing for one that has ended, also if nobody has asked how.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    // The state is the 3rd field, the start time the 22nd.
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Purpose;

    fn place() -> Place {
        let folder = std::env::temp_dir().join(format!("ensue-process-{}", std::process::id()));
        let mut place = Place::new(&folder, "sleep", &[], Purpose::Tests);
        place.make().expect("a folder");
        place
    }

    #[test]
    fn a_service_does_not_hold_the_files_of_whoever_starts_it() {
        let mut listing = Command::new("sh");
        listing.args(["-c", "ls -l /proc/self/fd; pwd; echo $WHO"]).current_dir("/").env("WHO", "set");
        let listed = |command: &Command| {
            // Whoever starts it has a file open that is not closed by itself.
            let mut starter = Command::new("sh");
            starter.args(["-c", "exec 7</etc/passwd; exec \"$@\"", "sh"]);
            starter.arg(command.get_program()).args(command.get_args()).current_dir("/").env("WHO", "set");
            String::from_utf8_lossy(&starter.output().expect("a shell").stdout).into_owned()
        };
        assert!(listed(&listing).contains("passwd"));
        let without = without_our_files(&listing);
        assert!(!listed(&without).contains("passwd"));
        let output = { without }.output().expect("a shell");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with("/\nset\n"));
    }

    #[test]
    fn the_family_of_a_process_is_all_that_it_has_started_and_those() {
        let script = "sh -c 'sleep 60; true' & sleep 60 & wait";
        let mut first = Command::new("sh").args(["-c", script]).spawn().expect("a shell");
        // Itself, a shell with its sleep, and another sleep.
        let mut all = family(first.id());
        while all.len() < 4 {
            thread::yield_now();
            all = family(first.id());
        }
        let pids = all.iter().map(u32::to_string);
        let killed = Command::new("kill").arg("-KILL").args(pids).status().expect("kill runs");
        assert!(killed.success());
        first.wait().expect("it is ours");
        while all.iter().any(|pid| family(*pid).len() > 1) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_process_is_found_and_stopped_and_a_strange_one_is_neither() {
        let place = place();
        let pid_file = place.pid_file();
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        spawn(&sleep, &place).expect("it starts");
        let pid = find(&pid_file).expect("it runs");

        let started = start_time(pid).expect("it runs");
        fs::write(&pid_file, format!("{pid} {}", started + 1)).expect("writable");
        assert_eq!(find(&pid_file), None, "a process of another start time is not ours");
        stop(&pid_file, "TERM").expect("nothing to stop");
        assert_eq!(start_time(pid), Some(started), "it was not signalled");

        fs::write(&pid_file, format!("{pid} {started}")).expect("writable");
        stop(&pid_file, "TERM").expect("it stops");
        assert_eq!(start_time(pid), None);
        let dead = await_ready(&place, || false).expect_err("it has ended");
        assert!(dead.contains("ended while it started"), "{dead}");
        fs::remove_dir_all(place.data().parent().expect("it has a folder")).expect("the folder is ours");
    }
}
