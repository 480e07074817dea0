//! What a figure was measured on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Processor, kernel and file system, as a sentence.
pub(super) fn described(folder: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let file_system = said("df", &["--output=fstype", &folder.to_string_lossy()]);
    let file_system = file_system.lines().last().unwrap_or_default().to_owned();
    format!("{model}, {cores} cores; Linux {}; {file_system}", kernel.trim())
}

/// The commit that was built, and the day.
pub(super) fn commit_and_day(root: &Path) -> (String, String) {
    let root = root.to_string_lossy();
    (said("git", &["-C", &root, "rev-parse", "--short", "HEAD"]), said("date", &["-u", "+%F"]))
}

/// What a program prints; nothing if it cannot be run, because a description is not worth a failure.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
