//! `ensue bench append --clients N --seconds S --size B --batch K`: durable appends, measured on a scratch store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ensue::core::{Code, Error, Host, Position, Store, StoreExt};
use ensue::log::bench::{Appending, Figures, Load};
use ensue::log::{Config, Floor, Log, floor};
use serde::Serialize;

use super::MeasuredFloor;
use crate::command::Session;
use crate::failure::Failure;
use crate::place::Address;
use crate::scratch::Scratch;

/// Durable appends per second, and how long each takes, beside what the device takes for one synced write
#[derive(Args)]
pub(crate) struct Append {
    /// Commits under way at once
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    clients: usize,
    /// For how long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Bytes of data in an event
    #[arg(long, default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    size: usize,
    /// Events in a commit
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    batch: usize,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    commits_per_s: f64,
    events_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    floor: MeasuredFloor,
    mode: &'static str,
}

impl Append {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.place.folder())?;
        let load = Load {
            clients: self.clients,
            duration: Duration::from_secs(self.seconds),
            event_bytes: self.size,
            batch: self.batch,
        };
        session.output.say(&format!(
            "{} clients for {} s, {} events of {} bytes in a commit, in {}",
            self.clients,
            self.seconds,
            self.batch,
            self.size,
            scratch.path().display()
        ));
        let floor = floor::floor(scratch.path(), &*session.host.clock)?;
        let figures = measure(scratch.path(), load, session).await?;
        drop(scratch);
        let measured = Measured::new(&figures, floor);
        let words = measured.in_words();
        session.output.one(&measured, &words)?;
        Ok(())
    }
}

/// On a fresh store of the kind that `--store` names.
async fn measure(folder: &Path, load: Load, session: &Session) -> Result<Figures, Error> {
    let host = &session.host;
    match session.place.address() {
        Address::Folder(_) => {
            let log = Arc::new(Log::open(folder, Config::new(host.clone()))?);
            let figures = run(&log, load, host).await?;
            log.close()?;
            Ok(figures)
        }
        Address::Sqlite(_) => {
            let store = Arc::new(ensue_sqlite::open(folder.join("append.db")).await?);
            run(&store, load, host).await
        }
        // A server has no place beside the store, so the database itself is the scratch.
        Address::Postgres(url) => {
            let store = Arc::new(ensue_postgres::connect(url).await?);
            if store.head().await? > Position::ZERO {
                return Err(Error::new(
                    Code::USAGE,
                    "this measures on the database itself, and it holds events",
                )
                .with_fix("name an empty database that may be thrown away"));
            }
            run(&store, load, host).await
        }
    }
}

async fn run<S: Store + 'static>(store: &Arc<S>, load: Load, host: &Host) -> Result<Figures, Error> {
    let run = Appending::new(load, host.clone());
    let clients: Vec<_> = run.clients(store).into_iter().map(tokio::spawn).collect();
    for client in clients {
        client
            .await
            .map_err(|cause| Error::new(Code::HANDLER_PANICKED, format!("a client stopped: {cause}")))??;
    }
    Ok(run.figures())
}

impl Measured {
    fn new(figures: &Figures, floor: Floor) -> Self {
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Self {
            commits_per_s: tenth(figures.commits_per_s),
            events_per_s: tenth(figures.events_per_s),
            p50_us: tenth(figures.p50_us),
            p99_us: tenth(figures.p99_us),
            p999_us: tenth(figures.p999_us),
            floor: MeasuredFloor { sync_write_4k_us_p50: floor.sync_write_4k_us_p50 },
            mode: floor.mode.name(),
        }
    }

    fn in_words(&self) -> String {
        let floor = self.floor.sync_write_4k_us_p50;
        format!(
            "{:.0} commits/s, {:.0} events/s\np50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs\nfloor {floor} µs: one synced \
             write of 4 KiB here, by {}",
            self.commits_per_s, self.events_per_s, self.p50_us, self.p99_us, self.p999_us, self.mode
        )
    }
}
