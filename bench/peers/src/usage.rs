//! What a peer costs: processor time and memory of its servers with their children, and of this process, which is the service
//! and the load. Not the bytes written: the kernel counts a page of a large folio as all of it, many times what is written.

use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;

use crate::Failure;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Over the measured stretch alone, but for memory.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    cpu_s: f64,
    /// The most seen, pages that processes share counted once.
    rss_mb: f64,
}

/// A measurement under way.
pub(crate) struct Watch {
    roots: Vec<u32>,
    before_ticks: u64,
    peak_kib: Arc<AtomicU64>,
    sampling: JoinHandle<()>,
}

impl Watch {
    /// From now on.
    pub(crate) fn start(mut roots: Vec<u32>) -> Result<Self, Failure> {
        roots.push(process::id());
        let before_ticks = ticks_of(&roots)?;
        let peak_kib = Arc::new(AtomicU64::new(memory_kib(&roots)));
        let (peak, sampled) = (Arc::clone(&peak_kib), roots.clone());
        let sampling = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            loop {
                ticks.tick().await;
                let (peak, roots) = (Arc::clone(&peak), sampled.clone());
                let looked = tokio::task::spawn_blocking(move || {
                    peak.fetch_max(memory_kib(&roots), Ordering::Relaxed);
                });
                if looked.await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { roots, before_ticks, peak_kib, sampling })
    }

    /// Until now.
    pub(crate) fn finish(self) -> Result<Usage, Failure> {
        self.sampling.abort();
        let after_ticks = ticks_of(&self.roots)?;
        let peak_kib = self.peak_kib.load(Ordering::Relaxed).max(memory_kib(&self.roots));
        Ok(Usage {
            cpu_s: float(after_ticks - self.before_ticks) / 100.0,
            rss_mb: (float(peak_kib) / 1024.0).round(),
        })
    }
}

/// A server that has gone is an error, not a cheap one.
fn ticks_of(roots: &[u32]) -> Result<u64, Failure> {
    for root in roots {
        fs::read(format!("/proc/{root}/stat")).map_err(|error| format!("process {root}: {error}"))?;
    }
    Ok(roots.iter().flat_map(|root| tree(*root)).map(ticks).sum())
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|line| line.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let below = children.into_iter().flat_map(tree);
    std::iter::once(pid).chain(below).collect()
}

/// User and system time, its own and that of children that have ended, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the closing parenthesis of the name: utime, stime, cutime and cstime are the 12th to 15th fields.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn memory_kib(roots: &[u32]) -> u64 {
    let members = roots.iter().flat_map(|root| tree(*root));
    members
        .filter_map(|pid| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        })
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
