//! What this process has cost so far, from the kernel's own accounting.

use ensue::core::{Code, Error};

/// User and system time, in seconds.
pub(super) fn cpu_seconds() -> Result<f64, Error> {
    let stat = read("/proc/self/stat")?;
    // After the closing parenthesis of the name: utime and stime are the 12th and 13th fields, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// The most memory it has held.
pub(super) fn rss_mb() -> Result<f64, Error> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
    Ok((kib / 1024.0).round())
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|cause| Error::new(Code::IO, format!("cannot read {path}")).with_source(cause))
}
