//! The process of a broker that a case has for itself.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One that does not serve by then never does; on a busy machine three brokers of Java that start at once take long.
const SERVING_MAX: Duration = Duration::from_mins(3);
/// How long is waited between two looks, so that the processor is left to who is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Holds no process at first, and kills the one that it holds when it is dropped.
#[derive(Default)]
pub struct Process(Mutex<Option<Child>>);

impl Process {
    /// Takes over a process that has just been started.
    pub fn hold(&self, child: Child) {
        *self.lock() = Some(child);
    }

    /// Kills it as by SIGKILL, and waits until it is gone. Does nothing where there is none.
    ///
    /// # Panics
    /// If the operating system refuses.
    pub fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            child.kill().expect("it is ours");
            child.wait().expect("it has ended");
        }
    }

    /// Freezes it as by SIGSTOP. The signal reaches one thread after the other, and one that has not seen it yet still answers: so this
    /// ends when all of them stand still.
    ///
    /// # Panics
    /// If there is no process, or it has ended.
    pub fn freeze(&self) {
        let pid = self.signal("-STOP");
        while !all_threads_stand(pid) {
            assert!(self.is_alive(), "the process has ended, and was not frozen");
            thread::yield_now();
        }
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If there is no process.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Whether it lives, asked of the operating system. One that is frozen does.
    pub fn is_alive(&self) -> bool {
        self.lock().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn signal(&self, name: &str) -> u32 {
        let pid = self.lock().as_ref().expect("there is a process").id();
        let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
        assert!(status.success(), "kill {name} {pid}");
        pid
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a process that was just started serves, which is asked of it again and again.
///
/// # Panics
/// If it ends instead, or takes more than three minutes.
pub fn await_serving(child: &mut Child, serves: impl Fn() -> bool) {
    let began = Instant::now();
    while !serves() {
        let ended = child.try_wait().expect("it is ours");
        assert_eq!(ended, None, "it has ended, and does not serve");
        assert!(began.elapsed() < SERVING_MAX, "it does not serve after {SERVING_MAX:?}");
        thread::sleep(LOOK_EVERY);
    }
}

/// A line that a process says when it serves.
pub struct Line {
    wanted: &'static str,
    /// `Err` with all that it has said where it has ended instead.
    heard: Receiver<Result<(), String>>,
}

impl Line {
    /// The first line of what the process says that has this in it. What it says later is read too, or it would wait until it is.
    pub fn of(said: Option<impl Read + Send + 'static>, wanted: &'static str) -> Self {
        let said = said.expect("it is piped");
        let (tell, heard) = channel();
        thread::spawn(move || {
            // Not everything that programs say is text.
            let lines = BufReader::new(said).split(b'\n').map_while(Result::ok);
            let mut lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
            let mut before = String::new();
            let found = lines.by_ref().any(|line| {
                before.extend([&line, "\n"]);
                line.contains(wanted)
            });
            // Nobody may wait any more.
            drop(tell.send(if found { Ok(()) } else { Err(before) }));
            lines.for_each(drop);
        });
        Self { wanted, heard }
    }

    /// Waits for it. `Err` with the reason where the process ends instead, or takes more than three minutes.
    pub fn come(self) -> Result<(), String> {
        match self.heard.recv_timeout(SERVING_MAX) {
            Ok(heard) => heard.map_err(|said| format!("it has ended, and had said: {said}")),
            Err(_) => Err(format!("it has not said `{}` after {SERVING_MAX:?}", self.wanted)),
        }
    }
}

/// Whether no thread runs. Where the system has no `/proc` nothing is known of threads, and the signal has to do.
fn all_threads_stand(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| fs::read_to_string(thread.path().join("stat"))).all(|stat| {
        // The state stands behind the name, which may hold anything; a thread that has ended in between has no state.
        stat.is_err()
            || stat
                .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    #[should_panic(expected = "it has ended, and does not serve")]
    fn what_has_ended_does_not_serve() {
        let mut child = Command::new("true").spawn().expect("it starts");
        await_serving(&mut child, || false);
    }

    fn said(script: &str) -> Result<(), String> {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().expect("it starts");
        let came = Line::of(child.stdout.take(), "ready").come();
        child.kill().expect("it is ours");
        child.wait().expect("it has ended");
        came
    }

    #[test]
    fn a_line_is_heard_and_who_ends_without_it_has_said_why() {
        assert_eq!(said("printf 'starting \\377\\n'; echo all ready now; exec sleep 60"), Ok(()));
        let ended = said("echo the port is taken").expect_err("it ended");
        assert!(ended.contains("it has ended") && ended.contains("the port is taken"), "{ended}");
    }

    #[test]
    #[should_panic(expected = "the process has ended, and was not frozen")]
    fn what_has_ended_cannot_be_frozen() {
        let process = Process::default();
        let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
        child.kill().expect("it is ours");
        process.hold(child);
        process.freeze();
    }

    #[test]
    fn what_is_frozen_stands_still_lives_and_goes_on() {
        let process = Process::default();
        assert!(!process.is_alive());
        process.hold(Command::new("sleep").arg("60").spawn().expect("it starts"));
        process.freeze();
        assert!(process.is_alive());
        let pid = process.lock().as_ref().expect("it runs").id();
        assert!(all_threads_stand(pid));
        process.thaw();
        while all_threads_stand(pid) {
            thread::yield_now();
        }
        process.kill();
        assert!(!process.is_alive());
    }
}
