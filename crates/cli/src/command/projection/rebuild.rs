//! `ensue projection rebuild NAME`: the read model built anew beside the old one, compared with it, and put in its place.

use std::time::Duration;

use clap::Args;
use ensue::core::{Code, Error, Position, Store};
use ensue::runtime::projection::{Building, Load, ReadModel, Rebuilt};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Build the read model anew from the log, compare, and put it in the place of the old one
#[derive(Args)]
pub(crate) struct Rebuild {
    /// Its name, such as `orders_view`
    name: String,
    /// Also where the log has dropped events: what the old one holds of them will be gone
    #[arg(long)]
    without_dropped: bool,
    #[command(flatten)]
    load: HowMuch,
}

/// How much of the machine the build may take; a quarter of the time of one core unless it is said
#[derive(Args)]
#[group(multiple = false)]
struct HowMuch {
    /// At most so many events a second
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// At most this share of the time of one core
    #[arg(long, value_name = "SHARE", value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: Option<u8>,
    /// As fast as it goes; everybody else waits longer meanwhile
    #[arg(long)]
    full_speed: bool,
}

impl HowMuch {
    fn load(&self) -> Load {
        let rate = self.rate.map(Load::EventsPerSecond).or(self.percent.map(Load::Percent));
        if self.full_speed { Load::Full } else { rate.unwrap_or_default() }
    }
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Report<'a> {
    projection: &'a str,
    #[serde(flatten)]
    rebuilt: &'a Rebuilt,
}

impl Rebuild {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let model = super::named(session, &store, &self.name)?;
        if !self.without_dropped {
            self.refuse_to_lose(&*store).await?;
        }
        let rebuilt = watched(session, &model, self.load.load()).await?;
        let words = in_words(&self.name, &rebuilt);
        session.output.one(&Report { projection: &self.name, rebuilt: &rebuilt }, &words)?;
        Ok(())
    }

    /// What a read model has made of events that are gone cannot be made again.
    async fn refuse_to_lose(&self, store: &dyn Store) -> Result<(), Error> {
        let dropped = store.dropped(Position::ZERO, Position::MAX).await?;
        if dropped == 0 {
            return Ok(());
        }
        let message = format!(
            "the log has dropped {} past their time: a new {} would lack what the old one has made of them",
            count(dropped, "event"),
            self.name
        );
        Err(Error::new(Code::EVENTS_DROPPED, message).with_fix("say `--without-dropped` if that is meant"))
    }
}

/// Rebuilds, and says now and then how far it is.
async fn watched(session: &Session, model: &ReadModel, load: Load) -> Result<Rebuilt, Error> {
    let mut rebuild = std::pin::pin!(model.rebuild(load));
    loop {
        tokio::select! {
            biased;
            done = &mut rebuild => return done,
            () = session.host.clock.sleep(SHOWN_EVERY) => {
                if let Some(Building { events, events_per_s, seconds_left, .. }) = model.status().await?.building {
                    session.output.say(&format!("{} at {events_per_s:.0}/s, {seconds_left:.0} s left", count(events, "event")));
                }
            }
        }
    }
}

fn in_words(name: &str, rebuilt: &Rebuilt) -> String {
    let Rebuilt { generation, events, dropped, seconds, difference } = rebuilt;
    let mut lines = Vec::new();
    match difference {
        Some(difference) if difference.is_none() => {
            lines.push(format!("{name}: the old one had no difference"));
        }
        Some(difference) => lines.push(super::verify::in_words(name, difference)),
        None => lines.push(format!("{name}: the old one was of another version")),
    }
    lines.push(format!(
        "built anew from {} in {seconds:.1} s: version {}, generation {}",
        count(*events, "event"),
        generation.version,
        generation.number
    ));
    if *dropped > 0 {
        let dropped = count(*dropped, "event");
        lines.push(format!(
            "the log had dropped {dropped} past their time: what is made of them is not in it"
        ));
    }
    lines.join("\n")
}
