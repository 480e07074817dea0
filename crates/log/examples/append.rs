//! Measures durable appends: `append [CLIENTS] [SECONDS] [BYTES] [BATCH] [DIR]`, with the device floor beside.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue_core::{BoxFuture, Clock, Entropy, Error, Host, Timestamp};
use ensue_log::bench::{Appending, Load};
use ensue_log::{Config, Log, floor};

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Ids need to differ, not to be secret.
struct Counter(std::sync::atomic::AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
        for chunk in bytes.chunks_mut(8) {
            state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk.copy_from_slice(state.to_le_bytes().get(..chunk.len()).unwrap_or_default());
        }
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |otherwise: usize| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (clients, seconds, event_bytes, batch) = (number(64), number(3), number(256), number(1));
    let folder = std::env::args().nth(5).map_or_else(|| PathBuf::from("target/bench-append"), PathBuf::from);
    let started = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
    let host = Host { clock: Arc::new(Wall(Instant::now())), entropy: Arc::new(Counter(started.into())) };
    let log = Arc::new(Log::open(&folder, Config::new(host.clone()))?);
    let before = floor::floor(&folder, &*host.clock)?;
    let load = Load { clients, duration: Duration::from_secs(seconds as u64), event_bytes, batch };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    let run = Appending::new(load, host.clone());
    let clients: Vec<_> = run.clients(&log).into_iter().map(|client| runtime.spawn(client)).collect();
    for client in clients {
        runtime.block_on(client).expect("no client panics")?;
    }
    let figures = run.figures();
    let mut out = std::io::stdout();
    let written = writeln!(out, "{load:?}\n{figures:#?}\nfloor {before:?}\n{:#?}", log.stat()?);
    written.expect("standard output is open");
    log.close()
}
